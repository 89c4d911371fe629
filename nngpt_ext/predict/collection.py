"""Score a whole collection of networks in shards; a process that is killed loses at most the shard it was scoring."""

from __future__ import annotations

import itertools
import json
import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.special import expit

from nngpt_ext.data.facts import GivenFacts
from nngpt_ext.errors import UserError, elsewhere
from nngpt_ext.io import digest, inside, remove_at_once, remove_leftovers, replacing, write_text
from nngpt_ext.networks.codes import Network, Refused, read_codes
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.predict.question import Query
from nngpt_ext.progress import Progress

log = logging.getLogger(__name__)

SHARD = 20  # networks: about a minute of work
COLUMNS = (
    "nn", "dataset_1", "dataset_2", "predicted", "probability_1", "calibrated_1", "log_odds", "flipped", "abstain",
    "model",
)  # fmt: skip
_PLAN = "plan.json"
_MARK = b"nngpt_ext.collection"


@dataclass(frozen=True)
class Job:
    """What is computed for every network, and the arguments of the `Predictor` that computes it."""

    adapter: str
    datasets: tuple[str, ...]
    recipe: Mapping[str, Any] | None = None
    base: str | None = None
    store: str | None = None
    facts: GivenFacts | None = None


@dataclass(frozen=True)
class Scored:
    """The result of a collection; all rows about the `unseen` datasets abstain."""

    out: Path
    networks: int
    rows: int
    refused: list[Refused]
    unseen: tuple[str, ...]


Shards = Sequence[tuple[int, Sequence[Network]]]
# Scores shards into a folder and yields the number of each when it is finished.
Engine = Callable[[Job, Shards, Path], Iterator[int]]


def askable(
    predictor: Predictor, codes: Path, datasets: Sequence[str], recipe: Mapping[str, Any] | None = None
) -> tuple[list[Network], list[Refused]]:
    """The networks of a collection that can be scored, and those that cannot, with the reasons.

    Args:
        predictor: the predictor that will score them.
        codes: see `read_codes`.
        datasets: two or more.
        recipe: one for all networks without their own, or one for each dataset.

    Raises:
        UserError: if no network is left, for unknown datasets, an invalid `recipe`, and as `read_codes`.
    """
    predictor.check_datasets(datasets)
    networks: list[Network] = []
    refused: list[Refused] = []
    for one in read_codes(codes):
        if isinstance(one, Refused):
            refused.append(one)
            continue
        try:
            predictor.check_given(datasets, recipe if one.recipe is None else one.recipe)
            networks.append(one)
        except UserError as error:
            if one.recipe is None and recipe is not None:  # the mistake is not in this network
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
    although the prompt shows one, are left out and listed in `<out>.refused.json`.

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
    networks, refused = askable(predictor, codes, job.datasets, job.recipe)
    plan = digest([predictor.fingerprint, job.datasets, job.recipe, COLUMNS, [asdict(one) for one in networks]])
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
    return Scored(out, len(networks), pq.read_metadata(out).num_rows, refused, unseen)


def _score_here(predictor: Predictor, job: Job, shards: Shards, folder: Path) -> Iterator[int]:
    for i, networks in shards:
        score_shard(predictor, job, networks, part_file(folder, i))
        yield i


def score_shard(predictor: Predictor, job: Job, networks: Sequence[Network], target: Path) -> None:
    """Score some networks and write the answers, all or nothing."""
    queries = (
        Query(one.code, a, b, one.recipe if one.recipe is not None else job.recipe, nn=one.nn)
        for one in networks
        for a, b in itertools.combinations(job.datasets, 2)
    )
    rows = [
        (
            c.nn, c.dataset_1, c.dataset_2, c.winner, float(expit(c.log_odds)),
            c.probability if predictor.calibrated else None, c.log_odds, c.flipped, c.abstain, c.model,
        )
        for c in predictor.compare_many(queries)
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(COLUMNS)).astype({"calibrated_1": "float64"})
    with replacing(target) as temporary:
        frame.to_parquet(temporary, index=False)


def part_file(folder: Path, number: int) -> Path:
    """The file of a shard's answers."""
    return folder / f"{number:06d}.parquet"


def _list_refused(out: Path, refused: Sequence[Refused]) -> None:
    file = out.with_name(f"{out.name}.refused.json")
    if not refused:
        file.unlink(missing_ok=True)  # of an earlier collection
        return
    write_text(file, json.dumps([asdict(one) for one in refused], indent=2, ensure_ascii=False) + "\n")
    log.warning("%d networks were refused; see '%s'", len(refused), file)


class Parts:
    """`<out>.parts/`: a Parquet file for each finished shard, and the plan (a hash of all that decides the rows).

    Files whose names begin with a dot were left by a process that was killed while it wrote them.
    """

    def __init__(self, out: Path, plan: str) -> None:
        self.out, self.plan = out, plan
        self.folder = inside(out.parent, f"{out.name}.parts")

    def joined(self) -> bool:
        """Whether `out` is complete; an error if it is another file."""
        if not self.out.exists():
            return False
        try:
            mark = (pq.read_schema(self.out).metadata or {}).get(_MARK, b"").decode()
        except (OSError, ValueError):
            mark = ""
        if mark != self.plan:
            raise UserError(f"'{self.out}' exists and is not the result of this command; {elsewhere()}")
        return True

    def claim(self, shard: int) -> int:
        """Claim the folder for this plan and return the number of networks in a shard, with which it was started.

        A folder of another plan is taken over unless it has finished shards, which is an error.
        """
        plan, started = self._started()
        if plan == self.plan:
            return started
        if self._has_results():
            raise UserError(
                f"'{self.folder}' belongs to another collection, adapter, recipe or set of datasets; "
                f"remove it or {elsewhere()}"
            )
        self.folder.mkdir(exist_ok=True)
        write_text(self.folder / _PLAN, json.dumps({"plan": self.plan, "shard": shard}))
        return shard

    def join(self, number: int) -> None:
        """Join all shards into `out`."""
        table = pa.concat_tables([pq.read_table(part_file(self.folder, i)) for i in range(number)])
        with replacing(self.out) as temporary:
            metadata = {**(table.schema.metadata or {}), _MARK: self.plan.encode()}
            pq.write_table(table.replace_schema_metadata(metadata), temporary)

    def remove(self, *, only_empty: bool = False) -> None:
        """Remove the folder if it is this plan's; with `only_empty`, only if it has no finished shard."""
        remove_leftovers(self.folder)
        if self._started()[0] == self.plan and not (only_empty and self._has_results()):
            remove_at_once(self.folder)

    def _started(self) -> tuple[str | None, int]:
        try:
            there = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
            return str(there["plan"]), int(there["shard"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None, 0

    def _has_results(self) -> bool:
        """Whether it contains finished shards, or someone else's files."""
        return self.folder.is_dir() and any(
            not file.name.startswith(".") and file.name != _PLAN for file in self.folder.iterdir()
        )
