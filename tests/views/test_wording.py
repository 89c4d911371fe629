"""Numbers as text."""

from __future__ import annotations

from nngpt_ext.views.wording import excluded, with_interval


def test_intervals() -> None:
    assert with_interval(0.82, (0.799, 0.8391)) == "0.820 (0.799 to 0.839)"
    assert (
        with_interval(0.01, (-0.02, 0.04), sign=True, name="95 % interval ")
        == "+0.010 (95 % interval -0.020 to +0.040)"
    )
    assert with_interval(1.0, (1.0, 1.0), name="95 % interval ") == "1.000 (no interval)"


def test_excluded_trials() -> None:
    assert excluded({}) == ""
    assert excluded({"no facts": 1}) == "1 trial was excluded: no facts 1."
    assert excluded({"no facts": 1, "not finite": 1_200}) == "1,201 trials were excluded: no facts 1, not finite 1,200."
