"""The placebo: recipes stay within their network, structures come from another family, and the answers stay."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.placebo import with_shuffled_recipes, with_shuffled_structures
from nngpt_ext.data.load import PairData, load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation.baselines.bradley_terry import Sides
from nngpt_ext.evaluation.baselines.features import structure_features


@pytest.fixture(scope="module")
def data() -> PairData:
    return load_pairs(DataConfig(split="by_family", fold=0, train_networks=30))


def test_recipes_stay_within_their_network(data: PairData) -> None:
    shuffled = with_shuffled_recipes(data)
    before, after = Sides(), Sides()
    before.of(data.pairs)
    after.of(shuffled.pairs)

    def recipes(sides: Sides) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for side in sides.items:
            found.setdefault(side.nn, []).append(str(side.recipe))
        return {nn: sorted(own) for nn, own in found.items()}

    assert recipes(before) == recipes(after)  # one for each dataset, in all pairs of the network
    moved = {(s.nn, s.dataset): str(s.recipe) for s in before.items}
    same = [moved[s.nn, s.dataset] == str(s.recipe) for s in after.items]
    assert 0.05 < np.mean(same) < 0.6
    kept = ["nn", "dataset_1", "dataset_2", "better_dataset", "split"]
    assert shuffled.pairs[kept].equals(data.pairs[kept])


def test_structures_are_those_of_other_families(data: PairData) -> None:
    sides = Sides()
    sides.of(data.pairs)
    true, other = structure_features(data, sides.items), with_shuffled_structures()(data, sides.items)
    assert true.shape == other.shape
    row = {side.dataset: i for i, side in enumerate(sides.items)}
    width = 1 + len(row)  # the dataset's number and flags, which stay
    assert np.array_equal(true[:, :width], other[:, :width])
    same = (true[:, width:] == other[:, width:]) | (np.isnan(true[:, width:]) & np.isnan(other[:, width:]))
    assert same.all(axis=1).mean() < 0.1
    assert np.isnan(true[:, width:]).mean() < 0.05
