"""Score a whole collection of networks in shards; a process that is killed loses at most the shard it was scoring."""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from nngpt_ext.data.facts import GivenFacts
from nngpt_ext.errors import UserError
from nngpt_ext.io import digest, replacing, write_text
from nngpt_ext.networks.catalogue import Unmeasurable
from nngpt_ext.networks.codes import Network, Refused, read_codes, said_of_skipped
from nngpt_ext.networks.source import defines_module
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.predict.question import Query
from nngpt_ext.progress import Progress
from nngpt_ext.prompts.inputs import Evidence
from nngpt_ext.prompts.structures import GivenStructure
from nngpt_ext.scoring.logistic import logistic
from nngpt_ext.shards import Parts, part_file
from nngpt_ext.views.wording import NO_MODULE, beginning, count, not_trained_on

log = logging.getLogger(__name__)

SHARD = 20  # networks: about a minute of work
COLUMNS = (
    "nn", "dataset_1", "dataset_2", "predicted", "probability_1", "calibrated_1", "log_odds", "flipped", "abstain",
    "cut_to", "source_tokens", "model",
)  # fmt: skip


@dataclass(frozen=True)
class Job:
    """What is computed for every network, and the arguments of the `Predictor` that computes it."""

    adapter: str
    datasets: tuple[str, ...]
    recipe: Mapping[str, Any] | None = None
    base: str | None = None
    store: str | None = None
    facts: GivenFacts | None = None
    structure: GivenStructure | None = None
    evidence: Evidence | None = None


@dataclass(frozen=True)
class Scored:
    """The result of a collection, and what a reader of it must know.

    Attributes:
        out: the Parquet file.
        networks, rows: how many were scored, and how many rows that made.
        refused: the networks that could not be scored, also in `<out>.refused.json`.
        unseen: the datasets that the adapter was not trained on: all rows about them abstain.
        skipped: number of `*.py` files of the folder that were not read, by place.
        same: groups of names under which one source was found.
        classless: names of sources that define no class derived from `nn.Module`, as networks do.
        abstaining: rows that abstain.
        cut: networks of whose source only the beginning was read, to `cut_to` tokens.
    """

    out: Path
    networks: int
    rows: int
    refused: list[Refused]
    unseen: tuple[str, ...]
    skipped: dict[str, int]
    same: list[list[str]]
    classless: list[str]
    abstaining: int
    cut: int
    cut_to: int | None

    def remarks(self) -> list[str]:
        """What was left out or replaced, in sentences."""
        found = [f"{self.abstaining:,} of {count(self.rows, 'prediction')} abstain."] if self.abstaining else []
        if self.unseen:
            found.append(f"predictions about {', '.join(self.unseen)} abstain: {not_trained_on(self.unseen)}")
        if self.cut_to is not None:
            found.append(f"{beginning(self.cut_to)[:-1]} in {count(self.cut, 'network')} of {self.networks:,}.")
        if self.refused:
            found.append(f"{count(len(self.refused), 'network')} could not be scored: see {self.out}.refused.json.")
        if self.skipped:
            found.append(f"{said_of_skipped(self.skipped)}; to score such a folder, give it itself.")
        if self.same:
            one = ", ".join(self.same[0][:3])
            found.append(f"{count(len(self.same), 'source')} occurred under several names, such as {one}.")
        if self.classless:
            names = ", ".join(self.classless[:3])
            found.append(f"{NO_MODULE}, so it may be no network, in {count(len(self.classless), 'network')}: {names}.")
        return found


Shards = Sequence[tuple[int, Sequence[Network]]]
# Scores shards into a folder and yields the number of each when it is finished.
Engine = Callable[[Job, Shards, Path], Iterator[int]]


def askable(
    predictor: Predictor,
    codes: Path,
    datasets: Sequence[str],
    recipe: Mapping[str, Any] | None = None,
    skipped: Counter[str] | None = None,
    structure: GivenStructure | None = None,
    evidence: Evidence | None = None,
) -> tuple[list[Network], list[Refused]]:
    """The networks of a collection that can be scored, and those that cannot, with the reasons.

    Args:
        predictor: the predictor that will score them.
        codes: see `read_codes`.
        datasets: two or more.
        recipe, evidence: of all networks without their own; a recipe may be one for each dataset.
        skipped: see `read_codes`.
        structure: as in `Query`; networks whose code has to run do so now, one after another.

    Raises:
        UserError: if no network is left, for unknown datasets, an invalid `recipe` or `structure`, if something has to
            be measured and this machine has no sandbox, and as `read_codes`.
    """
    predictor.check_datasets(datasets)
    networks: list[Network] = []
    refused: list[Refused] = []
    found = list(read_codes(codes, skipped))
    with Progress("checking", len(found), unit="networks") as progress:
        for one in found:
            progress.advance(1)
            if isinstance(one, Refused):
                refused.append(one)
                continue
            own, early = one.given(recipe, evidence)
            general = one.recipe is None and one.evidence is None  # whether a mistake is in no single network
            try:
                known = predictor.structures(one.code, datasets, own, structure=structure, nn=one.nn) or None
                general = general and (recipe is not None or evidence is not None)
                predictor.check_given(datasets, own, known, early)
                networks.append(replace(one, structure=known))
            except Unmeasurable as error:
                refused.append(Refused(one.nn, str(error)))
            except UserError as error:
                if general:
                    raise
                refused.append(Refused(one.nn, f"'{one.nn}': {error}"))
    if not networks:
        raise UserError(f"no network in '{codes}' can be scored; the first: {refused[0].reason}")
    return networks, refused


def score_collection(
    predictor: Predictor, job: Job, codes: Path, out: Path, *, shard: int = SHARD, engine: Engine | None = None
) -> Scored:
    """Compare all pairs of datasets for every network, and write one Parquet file with `COLUMNS`.

    `probability_1` is P(`dataset_1` is the better one), uncalibrated, and `calibrated_1` the calibrated one.

    Finished shards are in `<out>.parts/` until all are done. If the function is called again with the same collection,
    adapter and datasets, only the missing ones are computed. Networks with an invalid source, or without a recipe
    although the prompt shows one, or without a structure, are left out and listed in `<out>.refused.json`.

    Args:
        predictor: the predictor of the job.
        job: what to compute.
        codes: see `read_codes`.
        out: the Parquet file.
        shard: networks in a shard; an unfinished collection continues with its own number.
        engine: scores shards elsewhere (`nngpt_ext.predict.cluster.ray_engine`); by default the predictor does.

    Raises:
        UserError: if `out` or its parts belong to another collection, for unknown datasets, if no network can be
            scored, and as `read_codes`.
    """
    if not out.resolve().parent.is_dir():
        raise UserError(f"cannot write '{out}': there is no folder '{out.parent}'")
    unseen = predictor.unseen(predictor.check_datasets(job.datasets))
    skipped: Counter[str] = Counter()
    networks, refused = askable(predictor, codes, job.datasets, job.recipe, skipped, job.structure, job.evidence)
    given = [predictor.fingerprint, job.datasets, job.recipe, COLUMNS, [one.planned() for one in networks]]
    plan = digest(given if job.evidence is None else [*given, job.evidence])
    parts = Parts(out, plan)
    if parts.joined():
        log.info("'%s' is complete", out)
        _list_refused(out, refused)
    else:
        shard = parts.claim(shard)
        shards = [networks[i : i + shard] for i in range(0, len(networks), shard)]
        missing = [(i, one) for i, one in enumerate(shards) if not part_file(parts.folder, i).is_file()]
        if len(missing) < len(shards):
            log.info("%d of %d shards are done", len(shards) - len(missing), len(shards))
        try:
            with Progress("scoring", sum(len(one) for _, one in missing), unit="networks") as progress:
                for i in (engine or partial(_score_here, predictor))(job, missing, parts.folder):
                    progress.advance(len(shards[i]))
            _list_refused(out, refused)  # before `out`, with which the collection is complete
            parts.join(len(shards))
        except BaseException:
            parts.remove(only_empty=True)
            raise
    parts.remove()
    rows = pq.read_table(out, columns=["nn", "abstain", "cut_to"]).to_pandas()
    cut = rows.dropna(subset="cut_to")
    names: dict[str, list[str]] = {}
    for one in networks:
        names.setdefault(one.code, []).append(one.nn)
    return Scored(
        out, len(networks), len(rows), refused, unseen, dict(skipped),
        same=[group for group in names.values() if len(group) > 1],
        classless=[one.nn for one in networks if not defines_module(one.code)],
        abstaining=int(rows["abstain"].sum()),
        cut=cut["nn"].nunique(),
        cut_to=None if cut.empty else int(cut["cut_to"].max()),
    )  # fmt: skip


def _score_here(predictor: Predictor, job: Job, shards: Shards, folder: Path) -> Iterator[int]:
    for i, networks in shards:
        score_shard(predictor, job, networks, part_file(folder, i))
        yield i


def score_shard(predictor: Predictor, job: Job, networks: Sequence[Network], target: Path) -> None:
    """Score some networks and write the answers, all or nothing."""
    queries = (
        Query(one.code, a, b, recipe, nn=one.nn, structure=one.structure, evidence=evidence)
        for one in networks
        for recipe, evidence in [one.given(job.recipe, job.evidence)]
        for a, b in itertools.combinations(job.datasets, 2)
    )
    rows = [
        (
            c.nn, c.dataset_1, c.dataset_2, c.winner, float(logistic(c.log_odds)),
            c.probability if predictor.calibrated else None, c.log_odds, c.flipped, c.abstain, c.cut_to,
            c.source_tokens, c.model,
        )
        for c in predictor.compare_many(queries)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(COLUMNS))
    frame = frame.astype({"calibrated_1": "float64", "cut_to": "Int64", "source_tokens": "Int64"})
    with replacing(target) as temporary:
        frame.to_parquet(temporary, index=False)


def _list_refused(out: Path, refused: Sequence[Refused]) -> None:
    file = out.with_name(f"{out.name}.refused.json")
    if not refused:
        file.unlink(missing_ok=True)  # of an earlier collection
        return
    write_text(file, json.dumps([asdict(one) for one in refused], indent=2, ensure_ascii=False) + "\n")
    log.warning("%d networks were refused; see '%s'", len(refused), file)
