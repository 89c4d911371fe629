"""What a choice of datasets costs, on networks whose accuracies are known."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from types import MappingProxyType

import numpy as np
import pandas as pd

from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.evaluation.statistics import bootstrap_networks, sign_flip_p
from nngpt_ext.scoring.strengths import strengths

Known = Mapping[str, Mapping[str, float]]  # network -> dataset -> normalised accuracy
Families = Mapping[str, str]
CHANCE = "chance"


def known_accuracies(pairs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Normalised accuracy of each network on each dataset of its pairs."""
    known: dict[str, dict[str, float]] = {}
    for row in pairs.itertuples(index=False):
        known.setdefault(row.nn, {}).update({row.dataset_1: row.norm_acc_1, row.dataset_2: row.norm_acc_2})
    return known


def among(pairs: pd.DataFrame, datasets: Collection[str]) -> pd.DataFrame:
    """The pairs whose two datasets are both among these."""
    return pairs[pairs["dataset_1"].isin(datasets) & pairs["dataset_2"].isin(datasets)]


def commonest_datasets(known: Known) -> list[str]:
    """The set of datasets that most networks have; of several the largest."""
    sets = Counter(tuple(sorted(own)) for own in known.values())
    return list(max(sets, key=lambda names: (sets[names], len(names), names)))


def prior_choice(train: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, str]:
    """For each network the dataset that the usual winners of its pairs name, without a look at the network."""
    asked = pairs.assign(probability=pair_prior(train, pairs))
    choice = {}
    for nn, own in asked.groupby("nn"):
        names = sorted({*own["dataset_1"], *own["dataset_2"]})
        probability = dict(zip(zip(own["dataset_1"], own["dataset_2"], strict=True), own["probability"], strict=True))
        scores = strengths(names, probability)
        choice[str(nn)] = min(names, key=lambda name: (-scores[name], name))  # ties as in a ranking
    return choice


def regrets(
    known: Known,
    choices: Mapping[str, Mapping[str, str]],
    networks: Collection[str],
    families: Families = MappingProxyType({}),
) -> pd.DataFrame:
    """Regret of each way to choose, over some networks: normalised accuracy of the best dataset minus the chosen one.

    Args:
        known: normalised accuracy by network and dataset.
        choices: a way's name to its choice, network to dataset.
        networks: those that are trained.
        families: of networks; intervals are over families, a network that has none is one.

    Returns:
        A row a way, and one for `chance` (the mean over a network's datasets): `regret`, `low`, `high` (95 %
        interval) and `best_chosen` (how often the best dataset was chosen), `n`.
    """
    names = sorted(networks)
    units, rows = [families.get(nn, nn) for nn in names], {}
    for way, lost in _lost(known, choices, names).items():
        best = [1 / len(known[nn]) for nn in names] if way == CHANCE else lost == 0
        rows[way] = (lost.mean(), *bootstrap_networks(lost, units), float(np.mean(best)), len(names))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["regret", "low", "high", "best_chosen", "n"])


def differences(
    known: Known,
    choices: Mapping[str, Mapping[str, str]],
    networks: Collection[str],
    way: str,
    families: Families = MappingProxyType({}),
) -> pd.DataFrame:
    """Regret of one way minus that of each other on the same networks, and of chance: below 0 it is the better one.

    Returns:
        A row for each other way: `difference`, `low`, `high` (95 % interval, paired) and `p` (of no
        difference, by flipping signs).
    """
    names = sorted(networks)
    units, lost = [families.get(nn, nn) for nn in names], _lost(known, choices, names)
    rows = {}
    for other in lost:
        if other != way:
            paired = lost[way] - lost[other]
            rows[other] = (paired.mean(), *bootstrap_networks(paired, units), sign_flip_p(paired, units))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["difference", "low", "high", "p"])


def _lost(known: Known, choices: Mapping[str, Mapping[str, str]], names: list[str]) -> dict[str, np.ndarray]:
    best = np.array([max(known[nn].values()) for nn in names])
    lost = {way: best - np.array([known[nn][choice[nn]] for nn in names]) for way, choice in choices.items()}
    return lost | {CHANCE: best - np.array([np.mean(list(known[nn].values())) for nn in names])}
