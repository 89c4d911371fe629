"""Temperature scaling and the threshold, against what can be counted or is known."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit

from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.metrics import log_loss
from nngpt_ext.run_folder import CALIBRATION
from nngpt_ext.scoring.calibration import Calibration, fit_calibration, read_calibration


def drawn(temperature: float, n: int = 20_000) -> tuple[np.ndarray, np.ndarray]:
    """Log-odds that are `temperature` times what they should be, and answers drawn by the true probability."""
    rng = np.random.default_rng(0)
    true = rng.normal(0, 2, n)
    return true * temperature, rng.random(n) < expit(true)


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_found_again(temperature: float) -> None:
    odds, wins = drawn(temperature)
    found = fit_calibration(odds, wins, np.arange(len(odds)))
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    before, after = (log_loss(p, wins) for p in (expit(odds), found.probability(odds)))
    assert after <= before + 1e-9


def test_no_neighbouring_temperature_is_better() -> None:
    odds, wins = drawn(2.0, 300)
    found = fit_calibration(odds, wins, np.arange(len(odds)))
    best = log_loss(found.probability(odds), wins)
    for factor in (0.99, 1.01):
        assert log_loss(expit(odds / (found.temperature * factor)), wins) >= best


def test_the_threshold_is_the_lowest_that_reaches_the_target() -> None:
    # 60 sure pairs of which 59 are right (0.983), 40 unsure ones of which half are.
    odds = np.array([4.0] * 60 + [0.5] * 40)
    wins = np.array([True] * 59 + [False] + [True, False] * 20)
    found = fit_calibration(odds, wins, ["a", "b"] * 50)
    assert found.threshold == found.probability(4.0)
    assert (found.share_answered, found.accuracy_answered) == (0.6, 59 / 60)
    assert (found.n_pairs, found.n_networks) == (100, 2)
    assert list(found.abstains(found.probability(odds))) == [False] * 60 + [True] * 40
    assert fit_calibration(odds, wins, odds, target=0.75).share_answered == 1.0  # 79 of 100


def test_where_no_confidence_reaches_the_target_it_always_abstains() -> None:
    found = fit_calibration([1.0, 1.0, -1.0, -1.0] * 20, [True, False] * 40, range(80))
    assert found.threshold is None
    assert found.accuracy_answered is None
    assert bool(found.abstains(0.999999))


def test_a_few_lucky_pairs_make_no_threshold() -> None:
    odds = np.array([5.0] * 29 + [1.0] * 71)
    wins = np.array([True] * 29 + [True, False] * 35 + [True])
    assert fit_calibration(odds, wins, range(100)).threshold is None


@pytest.mark.parametrize("n", [1, 3, 29])
def test_fewer_pairs_than_tell_of_an_accuracy_make_no_threshold(n: int) -> None:
    found = fit_calibration([5.0] * n, [True] * n, range(n))
    assert found.threshold is None
    assert found.share_answered == 0
    assert bool(found.abstains(1.0))
    assert fit_calibration([5.0] * 30, [True] * 30, range(30)).threshold is not None


def test_all_right_stays_finite() -> None:
    found = fit_calibration([2.0] * 50, [True] * 50, range(50))
    assert 0.05 <= found.temperature < 0.06
    assert np.isfinite(found.probability([-1e6, 1e6])).all()


@given(odds=st.floats(-50, 50), temperature=st.floats(0.05, 20))
def test_it_changes_no_answer_and_keeps_complements(odds: float, temperature: float) -> None:
    found = Calibration(
        temperature=temperature, threshold=0.8, target=0.9, n_pairs=1, n_networks=1, share_answered=1,
        accuracy_answered=1,
    )  # fmt: skip
    one, other = float(found.probability(odds)), float(found.probability(-odds))
    assert one + other == pytest.approx(1, abs=1e-12)
    assert (one >= 0.5) == (odds >= 0) or abs(odds) < 1e-12
    assert bool(found.abstains(one)) == bool(found.abstains(1 - one)) or abs(max(one, other) - 0.8) < 1e-12


def test_it_comes_back_from_its_file(tmp_path: Path) -> None:
    odds, wins = drawn(1.5, 200)
    found = fit_calibration(odds, wins, np.arange(len(odds)))
    found.save(tmp_path)
    again = read_calibration(tmp_path)
    assert again == found
    assert again.hash == found.hash
    assert again.hash != found.model_copy(update={"temperature": 1.0}).hash
    assert read_calibration(tmp_path / "elsewhere") is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"temperature": 1}', None])
def test_a_damaged_file_is_one_line(tmp_path: Path, text: str | None) -> None:
    odds, wins = drawn(1.5, 200)
    fit_calibration(odds, wins, np.arange(200)).save(tmp_path)
    file = tmp_path / CALIBRATION
    file.write_text(json.dumps(json.loads(file.read_text()) | {"temperature": -1}) if text is None else text)
    with pytest.raises(UserError, match=f"'{file}' is damaged") as error:
        read_calibration(tmp_path)
    assert "\n" not in str(error.value)


def test_no_pair_is_an_error() -> None:
    with pytest.raises(ValueError, match="no validation pair"):
        fit_calibration([], [], [])


@pytest.mark.parametrize("odd", [float("nan"), float("inf")])
def test_log_odds_that_are_not_finite_are_refused(odd: float) -> None:
    with pytest.raises(ValueError, match="log-odds to calibrate on must be finite"):
        fit_calibration([1.0, odd], [True, False], ["a", "b"])
