"""Splits of pairs into train, validation and test: each network is in one part only, except in `random_pairs`."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from nngpt_ext.data.lineage import GIANT, families, giants, origin
from nngpt_ext.declaration import Declarations
from nngpt_ext.errors import UserError, nearest, setting, typed
from nngpt_ext.io import text_digest

if TYPE_CHECKING:
    import pandas as pd

PARTS = ("train", "validation", "test")
# Of ten consecutive networks in the dealing order, seven train, one validates and two test.
_DEAL = ("train", "train", "test", "train", "train", "validation", "train", "test", "train", "train")
_VALIDATION = 0.10  # share of the small networks outside the test fold that validate in by_family
_LARGE_FAMILY = 0.20  # share of these networks above which a family only trains


@dataclass(frozen=True)
class SplitOptions:
    """What only some splits take."""

    hold_out: str | None = None  # the origin that `by_origin` tests on
    fold: int | None = None  # that `by_family` or `by_dataset` tests on, from 0
    folds: int = 5  # how many `by_family` has
    family_level: str = "near"  # a name in `lineage.LEVELS`
    family_cap: int = 30  # how many networks a giant family weighs at most in `by_family`


@dataclass(frozen=True)
class SplitRequest:
    """What a split may look at; names and seed determine it."""

    pairs: pd.DataFrame  # as `build_pairs` returns them
    names: Sequence[str]  # of their networks, in text order
    seed: int
    sources: Mapping[str, str]  # source text of each network; empty if the split does not need it
    options: SplitOptions


@dataclass(frozen=True)
class Split:
    """A way to assign networks (or, in a leaky split, pairs) to parts.

    Of one that assigns pairs (`of_pairs`), the keys of `deal` are `NN DATASET_1 DATASET_2`; pairs that it does not name
    are in no part.
    """

    name: str
    description: str  # one line that follows "Split NAME:"
    deal: Callable[[SplitRequest], Mapping[str, str]]  # returns the part of each network by name
    warning: str | None = None  # what a reader of its figures has to know
    options: frozenset[str] = frozenset()  # keys of the configuration that only some splits take
    needs_sources: bool = False  # looks at the networks' source code
    of_pairs: bool = False
    by_families: bool = False  # families stay together, intervals are over families, and giant ones are capped
    by_datasets: bool = False  # a dataset is held out: each fold's test pairs have one that does not train
    leaky: bool = False  # a network may be in training and in test


def assign_split(
    pairs: pd.DataFrame,
    split: str,
    *,
    seed: int = 0,
    sources: Mapping[str, str] | None = None,
    options: SplitOptions | None = None,
) -> pd.Series:
    """The part of each pair: `train`, `validation` or `test`; missing for a pair that `by_dataset` leaves out.

    Args:
        pairs: as `build_pairs` returns them.
        split: a name in `SPLITS`.
        seed: seed and sorted network names determine the split.
        sources: source text by network name, for a split that needs it.
        options: of the split, where it has some.

    Raises:
        UserError: for an unknown split, if `hold_out` is missing or no network has this origin, or if `fold` is missing
            or there are fewer families or datasets than folds.
    """
    chosen = SPLITS[split]
    if chosen.needs_sources and sources is None:
        raise ValueError(f"{split} needs the sources of the networks")
    parts = chosen.deal(
        SplitRequest(pairs, sorted(pairs["nn"].unique()), seed, sources or {}, options or SplitOptions())
    )
    return (_pair_keys(pairs) if chosen.of_pairs else pairs["nn"]).map(parts).rename("split")


def _pair_keys(pairs: pd.DataFrame) -> pd.Series:
    return pairs["nn"] + " " + pairs["dataset_1"] + " " + pairs["dataset_2"]


def split_hash(pairs: pd.DataFrame) -> str:
    """A hash of which network is in which part, for run records."""
    rows = sorted({f"{nn} {part}" for nn, part in zip(pairs["nn"], pairs["split"], strict=True)})
    return text_digest("\n".join(rows))


def pairs_hash(*tables: pd.DataFrame, given: Sequence[str]) -> str:
    """A hash of pairs and everything that prompts show of them: equal if runs would train and test on the same data.

    `given` are the fields that prompts show for each dataset: columns `NAME_1` and `NAME_2`, if they exist.
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


def _by_network(request: SplitRequest) -> dict[str, str]:
    from nngpt_ext.data.pairs import datasets_of

    strata: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name, datasets in datasets_of(request.pairs).items():
        strata[datasets].append(name)
    # Dealing one stratum after the other keeps the shares exact overall and nearly so within each stratum.
    return _dealt([name for key in sorted(strata) for name in shuffled(strata[key], request.seed)])


def datasets_in(pairs: pd.DataFrame) -> list[str]:
    """The datasets of pairs in text order; `by_dataset` holds out the first one in fold 0."""
    return sorted({*pairs["dataset_1"], *pairs["dataset_2"]})


def _by_dataset(request: SplitRequest) -> dict[str, str]:
    pairs, fold, datasets = request.pairs, request.options.fold, datasets_in(request.pairs)
    if len(datasets) < 4:
        raise UserError(
            f"split by_dataset holds out one dataset, validates with another one and trains on pairs of the others: it "
            f"needs four, and there are {len(datasets)} ({', '.join(datasets)}); choose another split"
        )
    if fold is None or fold >= len(datasets):
        folds = ", ".join(f"{i} ({name})" for i, name in enumerate(datasets))
        example = f"{typed('--fold 0, in a run ', '')}{setting('data.fold', '0')}"
        given = "" if fold is None else f"; there is no fold {fold}"
        raise UserError(f"split by_dataset holds out one dataset at a time: fold {folds}{given}; for example {example}")
    held_out, next_one, part = datasets[fold], datasets[(fold + 1) % len(datasets)], _by_network(request)
    found = {}
    for key, nn, one, two in zip(_pair_keys(pairs), pairs["nn"], pairs["dataset_1"], pairs["dataset_2"], strict=True):
        own = "test" if held_out in (one, two) else "validation" if next_one in (one, two) else "train"
        if part[nn] == own:
            found[key] = own
    return found


def _by_cluster(request: SplitRequest) -> dict[str, str]:
    from nngpt_ext.data.families import clusters, signatures

    names = request.names
    members: dict[int, list[str]] = defaultdict(list)
    for name, number in zip(names, clusters(signatures(request.sources, names)), strict=True):
        members[int(number)].append(name)
    parts = dict.fromkeys(names, "train")
    dealt = {min(group): group for group in members.values() if len(group) <= GIANT * len(names)}
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


def _by_family(request: SplitRequest) -> dict[str, str]:
    options = request.options
    if options.fold is None:
        last = options.folds - 1
        example = f"{typed('--fold 0, in a run ', '')}{setting('data.fold', '0')}"
        raise UserError(f"split by_family tests one fold at a time, 0 to {last}; for example {example}")
    family = families(request.sources, options.family_level)
    members = _small_families(family)
    if len(members) < options.folds:
        raise UserError(
            f"split by_family has {len(members)} families outside the giant ones and needs at least one for each of "
            f"{options.folds} folds; lower data.folds, or use {setting('data.family_level', 'near')}"
        )
    fold = even_folds(members, options.folds, request.seed)
    rest = [name for name in members if fold[name] != options.fold]
    largest = _LARGE_FAMILY * sum(len(members[name]) for name in rest)
    wanted = _VALIDATION * sum(len(members[name]) for name in rest)
    part, left = {name: "test" for name in members if fold[name] == options.fold}, wanted + 0.5
    order = shuffled([name for name in rest if len(members[name]) <= largest], request.seed)
    for name in order:
        if len(members[name]) <= left:
            part[name], left = "validation", left - len(members[name])
    if order and "validation" not in part.values():
        part[min(order, key=lambda name: len(members[name]))] = "validation"
    return {nn: part.get(own, "train") for nn, own in family.items()}


def _small_families(family: Mapping[str, str]) -> dict[str, list[str]]:
    """The networks of each family that is not giant."""
    members: dict[str, list[str]] = defaultdict(list)
    for nn, own in family.items():
        members[own].append(nn)
    return {own: members[own] for own in sorted(members.keys() - giants(family).keys())}


def even_folds(members: Mapping[str, Sequence[str]], folds: int, seed: int) -> dict[str, int]:
    """The fold of each family: the largest first, each into the fold with the fewest networks."""
    sizes = [0] * folds
    result = {}
    for own in sorted(shuffled(list(members), seed), key=lambda own: -len(members[own])):  # sorting is stable
        result[own] = sizes.index(min(sizes))
        sizes[result[own]] += len(members[own])
    return result


def family_weights(family: Mapping[str, str], cap: int) -> dict[str, float]:
    """How much each network weighs: as one, and all of a giant family together as `cap` networks at most."""
    large = giants(family)
    return {nn: min(1.0, cap / large[own]) if own in large else 1.0 for nn, own in family.items()}


def _by_origin(request: SplitRequest) -> dict[str, str]:
    names, hold_out = request.names, request.options.hold_out
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
            "by_cluster: it trains on the families with more than 10 % of the networks only, in LEMUR two, so it "
            "cannot show what carries over to networks unlike those in training; by_family can. Its test set is not "
            "a sample of all networks: read it beside by_network.",
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
            "by_family",
            "one of data.folds folds of families tests, a tenth of the other small families validates, and families of "
            "more than 10 % of the networks only train, where they weigh data.family_cap networks",
            _by_family,
            "by_family: the families of near-duplicates with more than 10 % of the networks are all in training. It "
            "shows what to expect of networks unlike those in training; read it beside by_network.",
            options=frozenset({"fold", "folds", "family_level", "family_cap"}),
            needs_sources=True,
            by_families=True,
        ),
        Split(
            "by_dataset",
            "one dataset is held out (data.fold, in text order): its pairs of by_network's test networks test, pairs "
            "of the validation networks with the next dataset validate, and neither dataset trains",
            _by_dataset,
            "by_dataset: the datasets tested are in no training pair. The pair prior and the kind prior therefore know "
            "nothing and always name the first dataset: compare with the better of opponent_prior and facts_prior.",
            options=frozenset({"fold"}),
            of_pairs=True,
            by_datasets=True,
        ),
        Split(
            "random_pairs",
            "pairs at random, so the same network is in training and in test (leaky)",
            lambda request: _dealt(shuffled(list(_pair_keys(request.pairs).unique()), request.seed)),
            "random_pairs is leaky: the same network is in training and in test, so a model can recognise it. "
            "Use its numbers only beside published figures made that way; by_network is the honest split.",
            of_pairs=True,
            leaky=True,
        ),
    ],
)


def check_options(split: str, options: SplitOptions) -> None:
    """Raise a UserError if an option differs from its default and the split does not take it."""
    for field in fields(options):
        if getattr(options, field.name) != field.default and field.name not in SPLITS[split].options:
            takers = ", ".join(one.name for one in SPLITS.values() if field.name in one.options)
            raise UserError(f"{field.name} goes with split {takers}, not {split}")
    if options.fold is not None and options.fold >= options.folds and "folds" in SPLITS[split].options:
        raise UserError(
            f"fold {options.fold} does not exist; with {options.folds} folds they are 0 to {options.folds - 1}"
        )
