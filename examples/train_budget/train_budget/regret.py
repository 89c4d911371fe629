"""What a choice of datasets costs, on networks whose accuracies are known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.predict.ranking import strengths


def known_accuracies(pairs: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Normalised accuracy of each network on each dataset of its pairs."""
    known: dict[str, dict[str, float]] = {}
    for row in pairs.itertuples(index=False):
        known.setdefault(row.nn, {}).update({row.dataset_1: row.norm_acc_1, row.dataset_2: row.norm_acc_2})
    return known


def prior_choice(train: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, str]:
    """For each network the dataset that the usual winners of its pairs name, without a look at the network."""
    asked = pairs.assign(probability=pair_prior(train, pairs))
    choice = {}
    for nn, own in asked.groupby("nn"):
        names = sorted({*own["dataset_1"], *own["dataset_2"]})
        probability = dict(zip(zip(own["dataset_1"], own["dataset_2"], strict=True), own["probability"], strict=True))
        scores = strengths(names, probability)
        choice[str(nn)] = max(names, key=lambda name: (scores[name], name))
    return choice


def regrets(
    known: Mapping[str, Mapping[str, float]], choices: Mapping[str, Mapping[str, str]], networks: list[str]
) -> pd.DataFrame:
    """Regret of each way to choose, over some networks: normalised accuracy of the best dataset minus the chosen one.

    Args:
        known: normalised accuracy by network and dataset.
        choices: a way's name to its choice, network to dataset.
        networks: those that are trained.

    Returns:
        A row a way, and one for `chance` (the mean over a network's datasets): `regret`, `low`, `high` (95 %
        interval over networks) and `best_chosen` (how often the best dataset was chosen), `n`.
    """
    rows = {}
    names = np.array(networks)
    best = {nn: max(known[nn].values()) for nn in networks}
    for way, choice in choices.items():
        lost = np.array([best[nn] - known[nn][choice[nn]] for nn in networks])
        rows[way] = (lost.mean(), *bootstrap_networks(lost, names), float((lost == 0).mean()), len(networks))
    lost = np.array([best[nn] - np.mean(list(known[nn].values())) for nn in networks])
    chance = float(np.mean([1 / len(known[nn]) for nn in networks]))
    rows["chance"] = (lost.mean(), *bootstrap_networks(lost, names), chance, len(networks))
    return pd.DataFrame.from_dict(rows, orient="index", columns=["regret", "low", "high", "best_chosen", "n"])
