"""Bradley–Terry models: a score for each network and dataset, whose differences are log-odds of pairs.

    log-odds(dataset_1 is better) = log-odds(kind prior) + score(network, dataset_1) − score(network, dataset_2)

Turning a pair changes only the sign, whatever is learned (Bradley & Terry 1952). The scores are those of boosted trees,
LightGBM's with Newton steps on the logistic loss of the pairs, or of a ridge regression.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from nngpt_ext.data.splits import even_folds
from nngpt_ext.evaluation.baselines.features import (
    Features,
    Side,
    all_features,
    evidence_features,
    linear_all,
    linear_evidence,
    recipe_features,
    recipe_structure_features,
    structure_features,
)
from nngpt_ext.evaluation.baselines.priors import Baseline, kind_prior, pair_weights
from nngpt_ext.evaluation.metrics import first_wins

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData

# LightGBM is imported in the function that fits: printing a finished run does not need it.

ROUNDS = (40, 80, 160, 320, 640)  # numbers of trees to choose from
PENALTIES = (10.0, 100.0, 1000.0)  # of a ridge regression, on the weights of pairs
INNER_FOLDS = 3
LEAST_CURVATURE = 1e-3  # of a pair's loss, where the prediction is all but certain
_TREES = {
    "learning_rate": 0.05, "num_leaves": 8, "min_data_in_leaf": 20, "min_sum_hessian_in_leaf": 1.0, "lambda_l2": 10.0,
    "feature_fraction": 0.6, "bagging_fraction": 0.8, "bagging_freq": 1, "max_bin": 63, "seed": 0, "num_threads": 1,
    "deterministic": True, "feature_pre_filter": False, "force_row_wise": True, "verbose": -1,
}  # fmt: skip


@dataclass
class Sides:
    """The distinct sides of some pairs, numbered as they come."""

    items: list[Side] = field(default_factory=list)
    _numbers: dict[tuple[Any, ...], int] = field(default_factory=dict)

    def of(self, pairs: pd.DataFrame) -> np.ndarray:
        """The numbers of both sides of each pair, shape (2, rows)."""
        known = [name for name in ("dataset", "recipe", "evidence") if f"{name}_1" in pairs.columns]
        rows = [
            [
                self._number(Side(*row))
                for row in zip(pairs["nn"], *(pairs[f"{name}_{i}"] for name in known), strict=True)
            ]
            for i in (1, 2)
        ]
        return np.array(rows, dtype="int64").reshape(2, len(pairs))

    def _number(self, side: Side) -> int:
        key = (side.nn, side.dataset, str(side.evidence), *sorted((n, str(value)) for n, value in side.recipe.items()))
        if key not in self._numbers:
            self._numbers[key] = len(self.items)
            self.items.append(side)
        return self._numbers[key]


@dataclass(frozen=True)
class Contest:
    """Pairs to learn from, a row each."""

    sides: np.ndarray  # numbers of both sides, shape (2, rows)
    won: np.ndarray  # whether the first side is better
    weight: np.ndarray
    offset: np.ndarray  # log-odds that are known before

    def rows(self, mask: np.ndarray) -> Contest:
        return Contest(self.sides[:, mask], self.won[mask], self.weight[mask], self.offset[mask])

    def gradient(self, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First and second derivative of the weighted log loss by each score, shape (scores,)."""
        first, second = self.sides
        probability = sigmoid(self.offset + scores[first] - scores[second])
        slope = self.weight * (probability - self.won)
        curve = self.weight * np.maximum(probability * (1 - probability), LEAST_CURVATURE)
        n = len(scores)
        return (
            np.bincount(first, slope, n) - np.bincount(second, slope, n),
            np.bincount(first, curve, n) + np.bincount(second, curve, n),
        )

    def loss(self, scores: np.ndarray) -> float:
        """The weighted log loss, summed."""
        first, second = self.sides
        log_odds = self.offset + scores[first] - scores[second]
        return float((self.weight * (np.logaddexp(0, log_odds) - self.won * log_odds)).sum())


def sigmoid(log_odds: np.ndarray) -> np.ndarray:
    return np.asarray(1 / (1 + np.exp(-np.clip(log_odds, -700, 700))))


def _lightgbm() -> Any:
    try:
        return import_module("lightgbm")
    except OSError:  # slim systems lack the OpenMP library that it needs; torch brings and loads one
        import_module("torch")
        return import_module("lightgbm")


def boosted_scores(features: np.ndarray, contest: Contest, rounds: Sequence[int]) -> list[np.ndarray]:
    """Scores of all rows of `features` after each of the rising numbers of trees in `rounds`.

    Only sides in the contest are learned from. Features have the shape (sides, features), and NaN for what is unknown.
    """
    lightgbm = _lightgbm()
    learned, numbers = np.unique(contest.sides, return_inverse=True)
    own = Contest(numbers.reshape(contest.sides.shape), contest.won, contest.weight, contest.offset)
    table = lightgbm.Dataset(features[learned], label=np.zeros(len(learned)), params=_TREES)
    settings = {**_TREES, "objective": lambda scores, _: own.gradient(scores)}
    model = lightgbm.train(settings, table, num_boost_round=rounds[-1])
    return [np.asarray(model.predict(features, num_iteration=n, raw_score=True)) for n in rounds]


def ridge_scores(features: np.ndarray, contest: Contest, penalties: Sequence[float]) -> list[np.ndarray]:
    """Scores of all rows of `features` by ridge regression with each penalty; other arguments as `boosted_scores`."""

    def loss(weights: np.ndarray, penalty: float) -> tuple[float, np.ndarray]:
        scores = features @ weights
        slope = features.T @ contest.gradient(scores)[0] + penalty * weights
        return contest.loss(scores) + penalty / 2 * float(weights @ weights), slope

    leads = features[contest.sides[0]] - features[contest.sides[1]]

    def curve(weights: np.ndarray, penalty: float) -> np.ndarray:
        probability = sigmoid(contest.offset + leads @ weights)
        certainty = contest.weight * probability * (1 - probability)
        return np.asarray(leads.T @ (leads * certainty[:, None]) + penalty * np.eye(len(weights)))

    start, tolerance = np.zeros(features.shape[1]), {"gtol": 1e-6 * len(leads)}
    fitted = [
        minimize(loss, start, (penalty,), method="trust-exact", jac=True, hess=curve, options=tolerance)
        for penalty in penalties
    ]
    return [features @ one.x for one in fitted]


def bradley_terry(data: PairData, features: Features | None, linear: Features | None = None) -> np.ndarray:
    """P(dataset_1) for the test pairs, shape (test pairs,).

    The number of trees, or a ridge regression with a penalty instead, is chosen by log loss in folds of the training
    networks, whose families stay together if the split keeps them together; the networks of giant families are in every
    fold's training part.

    Args:
        data: pairs with their split.
        features: of trees; called with the data and its sides; returns the shape (sides, features). None: no trees.
        linear: of a ridge regression, without NaN; None: no regression.
    """
    best, training, test = data.part("train"), data.training, data.part("test")
    sides = Sides()
    learned, asked = sides.of(training), sides.of(test)
    prior = kind_prior(best, test, data.kinds, data.weights)
    if not len(test) or not len(training):
        return prior
    models: list[tuple[Any, np.ndarray, Sequence[float]]] = []
    models += [] if features is None else [(boosted_scores, features(data, sides.items), ROUNDS)]
    models += [] if linear is None else [(ridge_scores, linear(data, sides.items), PENALTIES)]
    names = training["nn"].to_numpy(dtype=object)

    def contest(known: pd.DataFrame) -> Contest:
        offset = log_odds(kind_prior(known, training, data.kinds, data.weights))
        return Contest(learned, first_wins(training), pair_weights(training, data.weights), offset)

    fold = _inner_folds(data, names)
    choices = [(fit, table, option) for fit, table, options in models for option in options]
    losses = np.zeros(len(choices))
    for i in range(INNER_FOLDS):
        held, rest = fold == i, contest(best[~best["nn"].isin(set(names[fold == i]))])
        if held.any() and not held.all():
            scores = [one for fit, table, options in models for one in fit(table, rest.rows(~held), options)]
            losses += [rest.rows(held).loss(one) for one in scores]
    fit, table, option = choices[int(losses.argmin())]
    [found] = fit(table, contest(best), [option])
    return sigmoid(log_odds(prior) + found[asked[0]] - found[asked[1]])


def log_odds(probability: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(probability) - np.log1p(-probability))


def _inner_folds(data: PairData, names: np.ndarray) -> np.ndarray:
    """The inner fold of each row's network; -1 for those that are always learned from."""
    members: dict[str, list[str]] = {}
    for nn in sorted(set(names)):
        if data.weights.get(nn, 1.0) == 1.0:
            members.setdefault(data.families.get(nn, nn), []).append(nn)
    folds = even_folds(members, INNER_FOLDS, seed=0)
    number = {nn: folds[own] for own, group in members.items() for nn in group}
    return np.array([number.get(nn, -1) for nn in names], dtype="int64")


BRADLEY_TERRY = (
    Baseline(
        "bt_recipe", "Bradley–Terry trees on the numbers of the recipes",
        lambda data: bradley_terry(data, recipe_features),
    ),
    Baseline(
        "bt_structure", "Bradley–Terry trees on the networks' structure at the recipes' resolutions",
        lambda data: bradley_terry(data, structure_features),
    ),
    Baseline(
        "bt_recipe_structure", "Bradley–Terry trees on recipes and structure",
        lambda data: bradley_terry(data, recipe_structure_features),
    ),
    Baseline(
        "bt_evidence", "Bradley–Terry trees, or a ridge regression, on the early accuracies",
        lambda data: bradley_terry(data, evidence_features, linear_evidence), evidence=True,
    ),
    Baseline(
        "bt_all", "Bradley–Terry trees, or a ridge regression, on recipes, structure and early accuracies",
        lambda data: bradley_terry(data, all_features, linear_all), evidence=True,
    ),
)  # fmt: skip
