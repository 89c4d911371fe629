"""Baselines: predictions without a language model, on the same pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngpt_ext.declaration import Declarations
from nngpt_ext.evaluation.baselines.bradley_terry import BRADLEY_TERRY
from nngpt_ext.evaluation.baselines.early_rule import EARLY_RULE
from nngpt_ext.evaluation.baselines.priors import PRIORS, Baseline, kind_prior, pair_prior
from nngpt_ext.evaluation.baselines.trees import TREES, code_gbm, recipe_gbm
from nngpt_ext.evaluation.baselines.unseen import UNSEEN

if TYPE_CHECKING:
    import numpy as np

    from nngpt_ext.data.load import PairData

__all__ = ["BASELINES", "Baseline", "baseline_probabilities", "code_gbm", "kind_prior", "pair_prior", "recipe_gbm"]

BASELINES = Declarations("baseline", [*PRIORS, *UNSEEN, EARLY_RULE, *TREES, *BRADLEY_TERRY])


def baseline_probabilities(data: PairData) -> dict[str, np.ndarray]:
    """P(dataset_1) of each baseline for the test pairs, shape (test pairs,)."""
    left_out = {one.name for one in BASELINES.values() if one.evidence > bool(data.evidence)}
    left_out |= {one.name for one in BASELINES.values() if one.unseen > bool(data.held_out)}
    return {name: baseline.fit(data) for name, baseline in BASELINES.items() if name not in left_out}
