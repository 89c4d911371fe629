"""Pairs: a network and two datasets, and on which of them it does better."""

from __future__ import annotations

import hashlib
from itertools import combinations

import numpy as np
import pandas as pd

from nngpt_ext.data.labels import LABELS
from nngpt_ext.data.trials import KEYS, USES, in_order
from nngpt_ext.errors import UserError

PAIR_COLUMNS = (
    "nn", "epoch", "dataset_1", "dataset_2", "accuracy_1", "accuracy_2", "norm_acc_1", "norm_acc_2",
    "better_dataset", "margin", "recipe_1", "recipe_2",
)  # fmt: skip
_ROW = " row"  # a column beside those of trials; no field of a recipe has a space in its name


def build_pairs(
    trials: pd.DataFrame, epoch: int, *, label: str = "normalized", use: str = "best", seed: int = 0
) -> pd.DataFrame:
    """Build all pairs of one epoch.

    Args:
        trials: a table as `nngpt_ext.data.trials.Trials` has it.
        epoch: the training epoch at which accuracies are compared.
        label: a name in `labels.LABELS`.
        use: a name in `trials.USES`: one pair for each network and two datasets with `best` and `random`; several
            with `all`, in which each trial of either dataset occurs at least once.
        seed: chooses the trials of `random` and matches those of `all`.

    Returns:
        One row for each pair with `PAIR_COLUMNS`, sorted by network and datasets; dataset_1 < dataset_2 in text
        order; `better_dataset` is dataset_1 if its score is at least dataset_2's, unrounded; `margin` is the
        difference between the two scores.

    Raises:
        UserError: for an unknown label or use, or an epoch without pairs.
    """
    scored, use = LABELS[label], USES.check(use)
    at = in_order(trials[trials["epoch"] == epoch])
    best = at.drop_duplicates(["nn", "dataset"])
    best = best[best.groupby("nn")["dataset"].transform("size") >= 2]
    if best.empty:
        known = sorted(set(trials["epoch"]) - {epoch})  # empty if only one epoch was read, as commands do
        others = (
            f"epochs with trials: {', '.join(map(str, known))}"
            if known
            else "nngpt-ext records check lists those that have some"
        )
        raise UserError(f"no pairs at epoch {epoch}: no network has trials on two datasets then; {others}")
    top = at.groupby("dataset")["accuracy"].max()
    chosen = best if use == "best" else at[at["nn"].isin(set(best["nn"]))]
    if use == "random":
        chosen = _shuffled(chosen, seed).drop_duplicates(["nn", "dataset"])
    chosen = chosen.reset_index(drop=True)
    nn, dataset = chosen["nn"].to_numpy(dtype=object), chosen["dataset"].to_numpy(dtype=object)
    accuracy, recipes = chosen["accuracy"].to_numpy(), _recipes(chosen)
    limits = chosen["dataset"].map(top).to_numpy(dtype="float64")
    norm = np.divide(accuracy, limits, out=np.zeros(len(chosen)), where=limits > 0)
    score = scored.score(chosen, norm, best)
    first, second = _joined(chosen, seed) if use == "all" else _crossed(chosen)
    frame = pd.DataFrame(
        {
            "nn": nn[first],
            "epoch": np.full(len(first), epoch, dtype="int64"),
            "dataset_1": dataset[first],
            "dataset_2": dataset[second],
            "accuracy_1": accuracy[first],
            "accuracy_2": accuracy[second],
            "norm_acc_1": norm[first],
            "norm_acc_2": norm[second],
            "better_dataset": np.where(score[first] >= score[second], dataset[first], dataset[second]),
            "margin": np.abs(score[first] - score[second]),
            "recipe_1": recipes[first],
            "recipe_2": recipes[second],
        }
    )
    return frame.sort_values(["nn", "dataset_1", "dataset_2"], kind="stable", ignore_index=True)


def usual_winner_share(pairs: pd.DataFrame) -> float:
    """Share of the pairs that the usual winner of their dataset pair wins: the pair prior in sample."""
    first = pairs["better_dataset"] == pairs["dataset_1"]
    wins = first.groupby([pairs["dataset_1"], pairs["dataset_2"]]).agg(["sum", "size"])
    return float(pd.concat([wins["sum"], wins["size"] - wins["sum"]], axis=1).max(axis=1).sum() / len(pairs))


def datasets_of(pairs: pd.DataFrame) -> dict[str, tuple[str, ...]]:
    """The datasets, in text order, of each network in the pairs."""
    sides = pd.concat([pairs.set_index("nn")[side] for side in ("dataset_1", "dataset_2")])
    return {str(nn): tuple(sorted(set(group))) for nn, group in sides.groupby(level=0)}


def _crossed(chosen: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of every two datasets of a network; each has one row."""
    rows = chosen[["nn", "dataset"]].assign(row=np.arange(len(chosen)))
    both = rows.merge(rows, on="nn", suffixes=("_1", "_2"))
    both = both[both["dataset_1"] < both["dataset_2"]]
    return both["row_1"].to_numpy(), both["row_2"].to_numpy()


def _joined(chosen: pd.DataFrame, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers of every two datasets of a network; each may have several rows.

    All combinations would give networks with many trials most of the weight. Matching the longer side with the
    shorter one, repeated, shows every trial, and the number of pairs grows linearly.
    """
    rows = _shuffled(chosen.assign(**{_ROW: np.arange(len(chosen))}), seed)
    matched = [np.empty((2, 0), dtype="int64")]
    for _, group in rows.groupby("nn", sort=True):
        sides = [part.to_numpy() for _, part in group.groupby("dataset", sort=True)[_ROW]]
        for one, two in combinations(sides, 2):
            count = max(len(one), len(two))
            matched.append(np.stack([np.resize(one, count), np.resize(two, count)]))
    first, second = np.concatenate(matched, axis=1)
    return first, second


def _shuffled(trials: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Rows in an order that depends only on the seed and each row's own values."""
    columns = [name for name in trials.columns if name not in ("epoch", _ROW)]
    keys = [
        hashlib.blake2b(repr((seed, *row)).encode(), digest_size=8).digest()
        for row in trials[columns].itertuples(index=False, name=None)
    ]
    return trials.iloc[np.argsort(np.array(keys), kind="stable")]


def _recipes(chosen: pd.DataFrame) -> np.ndarray:
    """The recipe of each trial as a mapping with plain Python values; None for what the records do not state."""
    table = chosen.drop(columns=list(KEYS))
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
    recipes = np.empty(len(chosen), dtype=object)
    recipes[:] = [{name: int(x) if name == "batch" and x is not None else x for name, x in row.items()} for row in rows]
    return recipes
