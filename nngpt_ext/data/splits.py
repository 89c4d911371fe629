"""Splits of pairs into train, validation and test: a network is in one part only, but for `random_pairs`."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence

import pandas as pd

from nngpt_ext.errors import UserError, unknown
from nngpt_ext.data.families import clusters, signatures
from nngpt_ext.data.pairs import datasets_of
from nngpt_ext.data.words import SPLITS

# Of ten neighbours in the dealing order, seven train, one validates, two test.
_DEAL = ("train", "train", "test", "train", "train", "validation", "train", "test", "train", "train")
_LARGE = 0.10  # share of the networks above which a cluster goes to train


def assign_split(
    pairs: pd.DataFrame,
    split: str,
    *,
    seed: int = 0,
    sources: Mapping[str, str] | None = None,
    hold_out: str | None = None,
) -> pd.Series:
    """The part of each pair: `train`, `validation` or `test`.

    Args:
        pairs: as `build_pairs` gives them.
        split: `by_network` (70 / 10 / 20 % of the networks, stratified by the datasets they have),
            `by_cluster` (near-duplicates together; clusters of more than 10 % of the networks train, one
            third of the others validates, two thirds test), `by_origin` (networks named `<hold_out>-…`
            test, 10 % of the rest validate) or `random_pairs` (leaky).
        seed: with the sorted network names it decides everything.
        sources: network name to source text; `by_cluster` needs it.
        hold_out: `by_origin`'s test networks: a name before the first `-`.

    Raises:
        UserError: for an unknown split, and a `hold_out` that is missing or that no network has.
    """
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    if split == "random_pairs":
        keys = pairs["nn"] + " " + pairs["dataset_1"] + " " + pairs["dataset_2"]
        parts = _dealt(shuffled(list(keys.unique()), seed))
        return keys.map(parts).rename("split")
    if split == "by_cluster":
        if sources is None:
            raise ValueError("by_cluster needs the sources of the networks")
        parts = _by_cluster(sorted(pairs["nn"].unique()), sources, seed)
    elif split == "by_origin":
        parts = _by_origin(sorted(pairs["nn"].unique()), hold_out, seed)
    else:
        parts = _by_network(pairs, seed)
    return pairs["nn"].map(parts).rename("split")


def origin(name: str) -> str:
    """Where a network comes from: its name before the first `-`."""
    return name.split("-", 1)[0]


def split_hash(pairs: pd.DataFrame) -> str:
    """A hash of who is in which part, for run records."""
    rows = sorted({f"{nn} {part}" for nn, part in zip(pairs["nn"], pairs["split"], strict=True)})
    return hashlib.sha256("\n".join(rows).encode()).hexdigest()


def pairs_hash(*tables: pd.DataFrame) -> str:
    """A hash of pairs and all that prompts show of them: the same where a run would train and test on the same."""
    total = hashlib.sha256()
    shown = ("norm_acc_1", "norm_acc_2", "recipe_1", "recipe_2", "split")
    for pairs in tables:
        columns = [pairs[name] for name in ("nn", "dataset_1", "dataset_2", "better_dataset", *shown)]
        for row in sorted(" ".join(map(str, row)) for row in zip(*columns, strict=True)):
            total.update(f"{row}\n".encode())
    return total.hexdigest()


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    """Names in an order that only the seed and the names decide, the same with every version of numpy."""
    return sorted(names, key=lambda name: (hashlib.sha256(f"{seed} {name}".encode()).digest(), name))


def _dealt(order: Sequence[str]) -> dict[str, str]:
    return {name: _DEAL[i % len(_DEAL)] for i, name in enumerate(order)}


def _by_network(pairs: pd.DataFrame, seed: int) -> dict[str, str]:
    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, datasets in datasets_of(pairs).items():
        strata[datasets].append(name)
    # Dealing one stratum after the other keeps the shares exact over all and near within each.
    return _dealt([name for key in sorted(strata) for name in shuffled(strata[key], seed)])


def _by_cluster(names: list[str], sources: Mapping[str, str], seed: int) -> dict[str, str]:
    members: dict[int, list[str]] = defaultdict(list)
    for name, number in zip(names, clusters(signatures(sources, names)), strict=True):
        members[int(number)].append(name)
    parts: dict[str, str] = {}
    dealt: list[list[str]] = []
    for group in members.values():
        if len(group) > _LARGE * len(names):
            parts.update(dict.fromkeys(group, "train"))
        else:
            dealt.append(group)
    remaining = sum(len(group) for group in dealt)
    by_first = {min(group): group for group in dealt}
    counts = {"validation": 0, "test": 0}
    for first in shuffled(sorted(by_first), seed):
        # The part that is further behind its share, one third or two thirds of the networks.
        behind_v = remaining / 3 - counts["validation"]
        behind_t = remaining * 2 / 3 - counts["test"]
        part = "validation" if behind_v * 2 > behind_t else "test"
        counts[part] += len(by_first[first])
        parts.update(dict.fromkeys(by_first[first], part))
    return parts


def _by_origin(names: list[str], hold_out: str | None, seed: int) -> dict[str, str]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[origin(name)].append(name)
    if hold_out not in groups:
        ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        several = [f"{key} ({len(group)})" for key, group in ranked if len(group) > 1]
        single = len(ranked) - len(several)
        given = f"no network of origin '{hold_out}'" if hold_out else "split by_origin needs data.hold_out"
        raise UserError(
            f"{given}; origins with their networks: {', '.join(several)}, and {single} of one network each; "
            f"for example --set data.hold_out={ranked[0][0]}"
        )
    rest = shuffled([name for name in names if origin(name) != hold_out], seed)
    parts = dict.fromkeys(groups[hold_out], "test")
    parts.update({name: "validation" if i % 10 == 5 else "train" for i, name in enumerate(rest)})
    return parts
