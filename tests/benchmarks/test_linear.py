"""The benchmark of linear time: its texts and its verdict. Nothing here is timed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import linear
from tests.deadline import deadline


@pytest.mark.parametrize("kind", linear.KINDS)
def test_a_text_has_the_size_that_was_asked_for(kind: str) -> None:
    size = 50_000
    assert size * 0.85 < len(linear.KINDS[kind](size)) <= size


def test_every_pass_ends_on_every_kind_of_text(tmp_path: Path) -> None:
    with deadline(300):
        for name, prepare in linear.passes(tmp_path).items():
            for kind, text in linear.KINDS.items():
                took, _ = linear.seconds(prepare(text(4_000)))
                assert took < 60, (name, kind)


@pytest.mark.parametrize(("power", "is_linear"), [(1, True), (2, False)])
def test_the_verdict(power: int, is_linear: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])

    def prepare(text: str) -> Any:
        def work() -> None:
            clock[0] += (len(text) / 100_000) ** power

        return work

    row = linear.measure("a pass", "blanks alone", prepare, 400_000)
    assert row["linear"] is is_linear
    assert row["ratio"] == 2**power
    assert row["seconds"] == [1, 2**power, 4**power]
