"""Each declared label by hand on one small table, and a label that a test declares."""

from __future__ import annotations

import pandas as pd
import pytest

from nngpt_ext.data.labels import LABELS, Label
from nngpt_ext.data.pairs import build_pairs
from tests.data.small import made

# Best accuracies: mnist 0.9, svhn 0.8.
TRIALS = made(
    ("a", "mnist", 0.9), ("a", "svhn", 0.4),
    ("b", "mnist", 0.6), ("b", "svhn", 0.8),
    ("c", "mnist", 0.3), ("c", "svhn", 0.2),
    ("alone", "mnist", 0.7),
)  # fmt: skip
# What each label scores the networks on mnist and on svhn. `alone` is in no pair, so it has no rank.
SCORES = {
    "normalized": {"a": (1.0, 0.5), "b": (0.6 / 0.9, 1.0), "c": (0.3 / 0.9, 0.25)},
    "percentile": {"a": (1.0, 2 / 3), "b": (2 / 3, 1.0), "c": (1 / 3, 1 / 3)},
}


def test_every_label_has_scores_by_hand() -> None:
    assert set(SCORES) == set(LABELS)


@pytest.mark.parametrize("label", SCORES)
def test_scores_by_hand(label: str) -> None:
    pairs = build_pairs(TRIALS, 5, label=label).set_index("nn")
    assert len(pairs) == 3
    for nn, (mnist, svhn) in SCORES[label].items():
        assert pairs.loc[nn, "better_dataset"] == ("mnist" if mnist >= svhn else "svhn")
        assert pairs.loc[nn, "margin"] == pytest.approx(abs(mnist - svhn))


def test_equal_accuracies_have_the_average_rank() -> None:
    trials = made(*((nn, "mnist", 0.5) for nn in "abc"), ("a", "svhn", 0.1), ("b", "svhn", 0.2), ("c", "svhn", 0.3))
    pairs = build_pairs(trials, 5, label="percentile").set_index("nn")
    assert pairs["margin"].to_dict() == pytest.approx({"a": 1 / 3, "b": 0.0, "c": 1 / 3})  # on mnist all have 2 / 3
    assert pairs["better_dataset"].to_dict() == {"a": "mnist", "b": "mnist", "c": "svhn"}


def test_a_new_label_is_a_declaration(monkeypatch: pytest.MonkeyPatch) -> None:
    def worst(chosen: pd.DataFrame, _normalized: object, _best: pd.DataFrame) -> object:
        return -chosen["accuracy"].to_numpy()

    monkeypatch.setitem(LABELS, "worst", Label("worst", "the lower accuracy", worst))
    pairs = build_pairs(TRIALS, 5, label="worst").set_index("nn")
    assert pairs["better_dataset"].to_dict() == {"a": "svhn", "b": "mnist", "c": "svhn"}
