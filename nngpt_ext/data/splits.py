"""Splits of pairs into train, validation and test: each network is in one part only, except in `random_pairs`."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nngpt_ext.declaration import Declarations
from nngpt_ext.errors import UserError, nearest, setting, typed
from nngpt_ext.io import text_digest

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("train", "validation", "test")
# Of ten consecutive networks in the dealing order, seven train, one validates and two test.
_DEAL = ("train", "train", "test", "train", "train", "validation", "train", "test", "train", "train")
_LARGE = 0.10  # share of the networks above which a cluster goes to train


@dataclass(frozen=True)
class SplitRequest:
    """What a split may look at.

    Attributes:
        pairs: as `build_pairs` returns them.
        names: their networks in text order; names and seed determine the split.
        sources: source text of each network; empty if the split does not need it.
        hold_out: the origin that `by_origin` tests on.
    """

    pairs: pd.DataFrame
    names: Sequence[str]
    seed: int
    sources: Mapping[str, str]
    hold_out: str | None


@dataclass(frozen=True)
class Split:
    """A way to assign networks (or, in a leaky split, pairs) to parts.

    Attributes:
        description: one line that follows "Split NAME:".
        deal: returns the part of each network by name.
        warning: what a reader of its figures has to know, or None.
        options: keys of the configuration that only some splits take.
        needs_sources: whether it looks at the networks' source code.
        of_pairs: whether it assigns pairs, not networks; the keys of `deal` are then `NN DATASET_1 DATASET_2`.
    """

    name: str
    description: str
    deal: Callable[[SplitRequest], Mapping[str, str]]
    warning: str | None = None
    options: frozenset[str] = frozenset()
    needs_sources: bool = False
    of_pairs: bool = False


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
        pairs: as `build_pairs` returns them.
        split: a name in `SPLITS`.
        seed: seed and sorted network names determine the split.
        sources: source text by network name, for a split that needs it.
        hold_out: the origin that `by_origin` tests on: a name before the first `-`.

    Raises:
        UserError: for an unknown split, or if `hold_out` is missing or no network has this origin.
    """
    chosen = SPLITS[split]
    if chosen.needs_sources and sources is None:
        raise ValueError(f"{split} needs the sources of the networks")
    parts = chosen.deal(SplitRequest(pairs, sorted(pairs["nn"].unique()), seed, sources or {}, hold_out))
    return (_pair_keys(pairs) if chosen.of_pairs else pairs["nn"]).map(parts).rename("split")


def _pair_keys(pairs: pd.DataFrame) -> pd.Series:
    return pairs["nn"] + " " + pairs["dataset_1"] + " " + pairs["dataset_2"]


def origin(name: str) -> str:
    """Where a network comes from: its name before the first `-`."""
    return name.split("-", 1)[0]


def split_hash(pairs: pd.DataFrame) -> str:
    """A hash of which network is in which part, for run records."""
    rows = sorted({f"{nn} {part}" for nn, part in zip(pairs["nn"], pairs["split"], strict=True)})
    return text_digest("\n".join(rows))


def pairs_hash(*tables: pd.DataFrame, given: Sequence[str]) -> str:
    """A hash of pairs and everything that prompts show of them: equal if runs would train and test on the same data.

    Args:
        *tables: pairs with their `split`.
        given: fields that prompts show for each dataset: columns `NAME_1` and `NAME_2`, if they exist.
    """
    total = hashlib.sha256()
    for pairs in tables:
        shown = [f"{name}_{side}" for name in sorted(given) if f"{name}_1" in pairs.columns for side in (1, 2)]
        columns = [pairs[name] for name in ("nn", "dataset_1", "dataset_2", "better_dataset", *shown, "split")]
        for row in sorted(" ".join(map(str, row)) for row in zip(*columns, strict=True)):
            total.update(f"{row}\n".encode())
    return total.hexdigest()


def shuffled(names: Sequence[str], seed: int) -> list[str]:
    """Names in an order that depends only on the seed and the names, not on numpy's version."""
    return sorted(names, key=lambda name: (hashlib.sha256(f"{seed} {name}".encode()).digest(), name))


def _dealt(order: Sequence[str]) -> dict[str, str]:
    return {name: _DEAL[i % len(_DEAL)] for i, name in enumerate(order)}


def _random_pairs(request: SplitRequest) -> dict[str, str]:
    return _dealt(shuffled(list(_pair_keys(request.pairs).unique()), request.seed))


def _by_network(request: SplitRequest) -> dict[str, str]:
    from nngpt_ext.data.pairs import datasets_of

    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, datasets in datasets_of(request.pairs).items():
        strata[datasets].append(name)
    # Dealing one stratum after the other keeps the shares exact overall and nearly so within each stratum.
    return _dealt([name for key in sorted(strata) for name in shuffled(strata[key], request.seed)])


def _by_cluster(request: SplitRequest) -> dict[str, str]:
    from nngpt_ext.data.families import clusters, signatures

    names = request.names
    members: dict[int, list[str]] = defaultdict(list)
    for name, number in zip(names, clusters(signatures(request.sources, names)), strict=True):
        members[int(number)].append(name)
    parts = dict.fromkeys(names, "train")
    dealt = {min(group): group for group in members.values() if len(group) <= _LARGE * len(names)}
    remaining = sum(map(len, dealt.values()))
    counts = {"validation": 0, "test": 0}
    for first in shuffled(list(dealt), request.seed):
        # The part that is further behind its share, one third or two thirds of the networks.
        behind_v = remaining / 3 - counts["validation"]
        behind_t = remaining * 2 / 3 - counts["test"]
        part = "validation" if behind_v * 2 > behind_t else "test"
        counts[part] += len(dealt[first])
        parts.update(dict.fromkeys(dealt[first], part))
    return parts


def _by_origin(request: SplitRequest) -> dict[str, str]:
    names, hold_out = request.names, request.hold_out
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[origin(name)].append(name)
    if hold_out not in groups:
        ranked = sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))
        several = [f"{key} ({len(group)})" for key, group in ranked if len(group) > 1]
        single = len(ranked) - len(several)
        first = ranked[0][0]
        given = "split by_origin needs data.hold_out"
        if hold_out:
            given = f"no network of origin '{hold_out}'{nearest(hold_out, groups)}"
        raise UserError(
            f"{given}; origins with their networks: {', '.join(several)}, and {single} of one network each; "
            f"for example {typed(f'--hold-out {first}, in a run ', '')}{setting('data.hold_out', first)}"
        )
    rest = shuffled([name for name in names if origin(name) != hold_out], request.seed)
    parts = dict.fromkeys(groups[hold_out], "test")
    parts.update({name: "validation" if i % 10 == 5 else "train" for i, name in enumerate(rest)})
    return parts


SPLITS = Declarations(
    "split",
    [
        Split("by_network", "70 / 10 / 20 % of the networks, stratified by the datasets they have", _by_network),
        Split(
            "by_cluster",
            "near-duplicates stay together; clusters of more than 10 % of the networks train, one third of the others "
            "validates, two thirds test",
            _by_cluster,
            "by_cluster: this test set is not a sample of all networks: the large families of near-duplicates "
            "are all in training. Read it beside by_network.",
            needs_sources=True,
        ),
        Split(
            "by_origin",
            "the networks of one origin (data.hold_out, the name before the first -) test, 10 % of the rest validate",
            _by_origin,
            "by_origin: this test set is one origin of networks, not a sample of all networks: it shows how far "
            "the model carries to that origin, and nothing about others.",
            options=frozenset({"hold_out"}),
        ),
        Split(
            "random_pairs",
            "pairs at random, so the same network is in training and in test (leaky)",
            _random_pairs,
            "random_pairs is leaky: the same network is in training and in test, so a model can recognise it. "
            "Use its numbers only beside published figures made that way; by_network is the honest split.",
            of_pairs=True,
        ),
    ],
)


def check_options(split: str, given: Mapping[str, object]) -> None:
    """Raise a UserError if an option (`hold_out`) was given to a split that does not take it."""
    for name, value in given.items():
        if value is not None and name not in SPLITS[split].options:
            takers = ", ".join(one.name for one in SPLITS.values() if name in one.options)
            raise UserError(f"{name} goes with split {takers}, not {split}")
