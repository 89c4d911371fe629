"""Everything a run needs of its records: pairs with their parts, sources, facts, and what was excluded."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

import pandas as pd

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.evidence import Best, EarlyTrials, normalized
from nngpt_ext.data.facts import FACT, DatasetFacts
from nngpt_ext.data.families import with_near_duplicate
from nngpt_ext.data.lineage import families, kinds
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.discovery import open_sources, own_place
from nngpt_ext.data.splits import PARTS, SPLITS, assign_split, datasets_in, family_weights, shuffled
from nngpt_ext.data.trials import NO_FACTS, Source, Trials
from nngpt_ext.errors import UserError, nearest, setting, shown
from nngpt_ext.io import as_text


@dataclass(frozen=True)
class PairData:
    """Pairs of one epoch, split.

    Attributes:
        pairs: one row for each pair of best (or random) trials, with `split`.
        training: the pairs to train on: the rows of part `train`, or those of all trials.
        sources: source text of each network in the pairs.
        facts: facts about each dataset of the records.
        excluded: number of excluded trials by reason.
        source: kind of the source of records.
        fingerprint: sha256 of the trials used.
        place: where the records are, if they are not those of the installed nn-dataset.
        networks: the number of networks of each part before `data.<part>_networks` limits it.
        unpaired: the number of networks that have usable trials, but on one dataset only, and so are in no pair.
        kinds: the kind of each network that has one; of a test network only what its source says.
        families: the family of each network, in a split that keeps families together; empty in others.
        held_out: the dataset that `by_dataset` tests on; None in other splits.
        weights: how much each training network weighs; 1 for those that are not named.
        early_best: the best early accuracies of training networks, by which evidence is divided; empty without any.
        evidence: as `EarlyTrials.trained` counts the test pairs.
        without_evidence: number of pairs of tested trials, of all parts, that have no evidence, by reason.
    """

    pairs: pd.DataFrame
    training: pd.DataFrame
    sources: dict[str, str]
    facts: Mapping[str, DatasetFacts]
    excluded: dict[str, int]
    source: str
    fingerprint: str
    place: str | None
    networks: dict[str, int]
    unpaired: int
    kinds: Mapping[str, str] = field(default_factory=dict)
    families: Mapping[str, str] = field(default_factory=dict)
    held_out: str | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    early_best: Best = field(default_factory=dict)
    evidence: Mapping[str, int] = field(default_factory=dict)
    without_evidence: Mapping[str, int] = field(default_factory=dict)

    def part(self, name: str) -> pd.DataFrame:
        """The pairs of one part, with a new index."""
        return self.pairs[self.pairs["split"] == name].reset_index(drop=True)

    def near_duplicates(self) -> set[str]:
        """Test networks that have a near-duplicate among the training networks."""
        train = sorted(self.training["nn"].unique())
        return with_near_duplicate(self.sources, sorted(self.part("test")["nn"].unique()), train)


@dataclass(frozen=True)
class Records:
    """The records of one epoch, from which pairs of any label and split are made, and those of epochs of evidence."""

    source: Source
    trials: Trials
    early: Mapping[int, Trials] = field(default_factory=dict)

    def sources(self, names: Iterable[str]) -> dict[str, str]:
        """Source text of the named networks, without byte order marks, as questions show it.

        Raises:
            UserError: for a source that is not UTF-8.
        """
        return {nn: as_text(code, f"the source of network '{nn}'") for nn, code in self.source.sources(names).items()}


def check_facts(source: Source, trials: Trials) -> None:
    """Raise a `UserError` with near names if datasets lack facts, and fewer than two are left for pairs."""
    strange = [why.removeprefix(NO_FACTS).strip()[1:-1] for why in trials.excluded if why.startswith(NO_FACTS)]
    left = trials.frame["dataset"].unique()
    if strange and len(left) < 2:
        names = ", ".join(f"{shown(name)}{nearest(name, source.facts)}" for name in strange)
        why = f"no pairs: only {left[0]} has facts" if len(left) else "no trial can be used"
        raise UserError(
            f"{why}: there are no facts of {names}, but of {', '.join(sorted(source.facts)) or 'none'}; name each one "
            f"in the file of facts as in the records: {setting('data.facts', 'datasets.yaml')}"
        )


def read_records(config: DataConfig) -> Records:
    """Read the records that a configuration names.

    Raises:
        UserError: if the records are missing or broken.
    """
    source = open_sources(config.places)
    early = {epoch: read_trials(source, epoch) for epoch in config.evidence.epochs}
    trials = read_trials(source, config.epoch)
    check_facts(source, trials)
    return Records(source, trials, early)


def per_fold(config: DataConfig, records: Callable[[], Records]) -> list[DataConfig]:
    """One configuration for each fold, or this one alone; `records` are called only if their datasets are the folds."""
    if not config.all_folds:
        return [config]
    folds = config.folds
    if SPLITS[config.split].by_datasets:
        trials = records().trials.frame
        folds = len(datasets_in(build_pairs(trials, config.epoch, label=config.label, use=config.tested_trials)))
    return [config.model_copy(update={"fold": i}) for i in range(folds)]


def parts_of(pairs: pd.DataFrame, config: DataConfig, records: Records) -> pd.Series:
    """The part of each pair under the configured split; raises what `assign_split` raises."""
    needed = SPLITS[config.split].needs_sources
    sources = records.sources(sorted(pairs["nn"].unique())) if needed else None
    return assign_split(pairs, config.split, seed=config.seed, sources=sources, options=config.options)


def _with_required(records: Records, required: Collection[str]) -> Records:
    """The records without trials that lack a field of their recipe, or of whose dataset a fact is unknown.

    Raises:
        UserError: if none is left.
    """
    frame, excluded = records.trials.frame, Counter(records.trials.excluded)
    for name in sorted(required):
        fact = name.removeprefix(FACT)
        known = {dataset for dataset, facts in records.source.facts.items() if fact in facts.more}
        if name != fact:
            kept, reason = frame["dataset"].isin(known), f"no fact {fact} of the dataset, which the prompt shows"
        elif name in frame.columns:
            kept, reason = frame[name].notna(), f"no readable {name}, which the prompt shows"
        else:
            continue
        excluded += Counter({reason: int((~kept).sum())})
        frame = frame[kept]
        if frame.empty:
            raise UserError(f"no trial can be used: {reason}; use another prompt, or add it to the records")
    return replace(records, trials=Trials(frame.reset_index(drop=True), dict(excluded)))


def load_pairs(config: DataConfig, records: Records | None = None, required: Collection[str] = ()) -> PairData:
    """Read records, build pairs and split them.

    Args:
        config: what to read and how to split it.
        records: those of the configuration's source and epoch, if they have been read already.
        required: fields of recipes, and facts as `fact_NAME`, without which a trial is left out.

    Raises:
        UserError: if the records are missing or broken, or if a part would be empty.
    """
    records = _with_required(records or read_records(config), required)
    trials = records.trials.frame
    build = partial(build_pairs, trials, config.epoch, label=config.label, seed=config.seed)
    pairs = build(use=config.tested_trials)
    pairs["split"] = parts_of(pairs, config, records)
    sources = records.sources(sorted(pairs["nn"].unique()))
    networks = {str(part): int(n) for part, n in pairs.groupby("split")["nn"].nunique().items()}
    unpaired = trials.loc[trials["epoch"] == config.epoch, "nn"].nunique() - pairs["nn"].nunique()
    held_out = datasets_in(pairs)[config.fold or 0] if SPLITS[config.split].by_datasets else None
    pairs = pairs.dropna(subset="split")
    family = families(sources, config.family_level) if SPLITS[config.split].by_families else {}
    early = {epoch: found.frame for epoch, found in records.early.items()}
    evidence = EarlyTrials(config.evidence, trials, early, config.seed) if early else None
    if evidence is not None:
        pairs = evidence.join(pairs)
    without = dict(evidence.excluded) if evidence is not None else {}  # before pairs of further trials are counted
    for part in PARTS:
        limit = config.networks(part)
        if limit is not None:
            names = shuffled(sorted(pairs.loc[pairs["split"] == part, "nn"].unique()), config.seed)
            pairs = pairs[(pairs["split"] != part) | pairs["nn"].isin(set(names[:limit]))]
    pairs = pairs.reset_index(drop=True)
    for part in PARTS:
        if not (pairs["split"] == part).any():
            raise UserError(
                f"split {config.split} leaves no {part} pairs at epoch {config.epoch}; choose another split or epoch"
            )
    training = pairs[pairs["split"] == "train"]
    if config.trials != config.tested_trials:
        keys, every = ["nn", "dataset_1", "dataset_2"], build(use=config.trials)
        every = every if evidence is None else evidence.join(every)
        training = every.merge(training[[*keys, "split"]], on=keys)
    trained = set(pairs.loc[pairs["split"] == "train", "nn"])
    best: Best = {} if evidence is None else evidence.best(trained)
    if evidence is not None:
        pairs, training = normalized(pairs, best), normalized(training, best)
    read = [trials, *early.values()]
    return PairData(
        pairs=pairs,
        training=training.reset_index(drop=True),
        sources=sources,
        facts=records.source.facts,
        excluded=dict(sum((Counter(one.excluded) for one in (records.trials, *records.early.values())), Counter())),
        source=records.source.kind,
        fingerprint=hashlib.sha256(
            b"".join(pd.util.hash_pandas_object(one, index=False).to_numpy().tobytes() for one in read)
        ).hexdigest(),
        place=own_place(records.source),
        networks=networks,
        unpaired=unpaired,
        kinds=kinds({nn: sources[nn] for nn in pairs["nn"].unique()}, trained),
        families=family,
        held_out=held_out,
        weights=family_weights(family, config.family_cap),
        early_best=best,
        evidence={} if evidence is None else evidence.trained(pairs[pairs["split"] == "test"]),
        without_evidence=without,
    )
