"""Parts of the test pairs, and what calibration does to them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from nngpt_ext.evaluation import slices
from nngpt_ext.evaluation.statistics import bootstrap_networks

from .conftest import PROBABILITY, TEST_ROWS, pair_rows, predicted


def test_a_part_has_its_own_numbers() -> None:
    test = predicted(pair_rows(TEST_ROWS, "test"), PROBABILITY)
    answers = slices.Answers.of(test, np.array([False, True, True, True]))
    masks = slices.dataset_masks(test)
    part = answers.part(masks["involving"]["cifar-10"])
    found = part.group()
    assert (found.accuracy, found.prior, found.n, found.networks) == (2 / 3, 2 / 3, 3, 2)
    assert found.ci95 == bootstrap_networks([1, 1, 0], ["n1", "n1", "n2"])
    assert part.gain() == (0.0, bootstrap_networks([1, 0, -1], ["n1", "n1", "n2"]))
    joined = slices.Answers.of(test, answers.prior, {"n1": "f", "n2": "f"}).group()
    assert (joined.networks, joined.ci95) == (2, (0.75, 0.75))  # of one family, whose interval is a point
    none = answers.part(masks["as_answer"]["svhn"]).group()
    assert (none.accuracy, none.ci95, none.prior, none.n, none.networks) == (None, None, None, 0, 0)


def test_what_calibration_does_has_intervals() -> None:
    generator = np.random.default_rng(1)
    n = 200
    frame = pd.DataFrame(
        {
            "nn": np.repeat([f"n{i}" for i in range(20)], n // 20), "probability_1": generator.random(n),
            "abstain": generator.random(n) < 0.7,
        }
    )  # fmt: skip
    frame["calibrated_1"] = 0.5 + (frame["probability_1"] - 0.5) * 0.8
    first = generator.random(n) < frame["calibrated_1"].to_numpy()
    frame = frame.assign(dataset_1="a", better_dataset=np.where(first, "a", "b"))
    frame["predicted"] = np.where(frame["calibrated_1"] >= 0.5, "a", "b")
    fitted = {"temperature": 1.5, "threshold": 0.8, "target": 0.95, "n_pairs": 50}
    found = slices.calibration(fitted, frame, frame["nn"].to_numpy())
    for change in (found.log_loss, found.brier):
        assert change.ci95 is not None
        assert change.ci95[0] < change.after < change.ci95[1]
    assert found.ece.ci95 is not None
    assert 0 < found.ece.ci95[0] < found.ece.ci95[1]
    assert found.answered.ci95 is not None
    assert found.answered.ci95[0] < found.answered.share < found.answered.ci95[1]
    assert found.answered.accuracy_ci95 is not None
    none = slices.calibration(fitted, frame.assign(abstain=True), frame["nn"].to_numpy()).answered
    assert (none.accuracy, none.accuracy_ci95, none.ci95) == (None, None, (0.0, 0.0))
