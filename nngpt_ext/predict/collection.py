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

from nngpt_ext.errors import UserError
from nngpt_ext.io import digest, inside, remove, replacing, write_text
from nngpt_ext.networks.source import check_source, read_source
from nngpt_ext.predict.calibration import logistic
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.predict.question import GivenFacts, Query, parse_mapping
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
class Network:
    """A network of a collection; `recipe` is its own, from the table's column `recipe`."""

    nn: str
    code: str
    recipe: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Refused:
    """A network that cannot be scored, and why."""

    nn: str
    reason: str


@dataclass(frozen=True)
class Job:
    """What is computed for every network, and the arguments of the `Predictor` that computes it."""

    adapter: str
    datasets: tuple[str, ...]
    recipe: Mapping[str, Any] | None = None
    base: str | None = None
    store: str | None = None
    facts: GivenFacts | None = None

    def predictor(self) -> Predictor:
        """A new predictor."""
        return Predictor(self.adapter, base=self.base, store=self.store, facts=self.facts)


@dataclass(frozen=True)
class Scored:
    """The result of a collection; all rows about the `unseen` datasets abstain."""

    out: Path
    networks: int
    rows: int
    refused: list[Refused]
    unseen: tuple[str, ...]


Shards = Sequence[tuple[int, Sequence[Network]]]
# Scores shards into a folder and yields the number of each as it is finished.
Engine = Callable[[Job, Shards, Path], Iterator[int]]


def read_codes(place: Path) -> Iterator[Network | Refused]:
    """Read networks, ordered by name.

    Args:
        place: a folder, whose `*.py` files (also in subfolders) are named by their path without the suffix, or a
            Parquet file with the columns `nn` and `nn_code` and optionally `recipe` (JSON: one recipe, or one for each
            dataset).

    Raises:
        UserError: for a place without networks, a table without these columns, and a duplicate name.
    """
    if place.is_dir():
        rows: list[tuple[str, Any, Any]] = [
            (file.relative_to(place).with_suffix("").as_posix(), file, None) for file in sorted(place.rglob("*.py"))
        ]
        if not rows:
            raise UserError(f"'{place}' holds no *.py file")
    else:
        rows = _table(place)
    for nn, source, recipe in rows:
        try:
            code = check_source(read_source(source) if isinstance(source, Path) else source, f"the source of '{nn}'")
            yield Network(nn, code, _recipe(nn, recipe))
        except UserError as error:
            yield Refused(nn, str(error))


def _table(file: Path) -> list[tuple[str, Any, Any]]:
    import pyarrow.parquet as pq

    if not file.is_file():
        raise UserError(f"there is no '{file}': give a folder of *.py files or a Parquet file")
    try:
        known = pq.read_schema(file).names
        frame = pd.read_parquet(file, columns=[name for name in ("nn", "nn_code", "recipe") if name in known])
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read '{file}': {str(error).splitlines()[0]}") from None
    missing = sorted({"nn", "nn_code"} - set(known))
    if missing:
        raise UserError(f"'{file}' has no column {', '.join(missing)}; it needs nn and nn_code")
    names = frame["nn"].astype(str)
    twice = names[names.duplicated()]
    if len(twice):
        raise UserError(f"'{file}' has {len(twice)} duplicate names, such as '{twice.iloc[0]}'")
    if frame.empty:
        raise UserError(f"'{file}' holds no network")
    recipes = frame["recipe"] if "recipe" in known else [None] * len(frame)
    return sorted(zip(names, frame["nn_code"], recipes, strict=True), key=lambda row: row[0])


def _recipe(nn: str, given: Any) -> Mapping[str, Any] | None:
    if given is None or given != given:  # NaN
        return None
    return given if isinstance(given, Mapping) else parse_mapping(str(given), f"the recipe of '{nn}'")


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
        raise UserError(f"'{codes}' holds no network that can be scored; the first: {refused[0].reason}")
    return networks, refused


def score_collection(
    predictor: Predictor, job: Job, codes: Path, out: Path, *, shard: int = SHARD, engine: Engine | None = None
) -> Scored:
    """Compare all pairs of datasets for every network, and write one Parquet file with `COLUMNS`.

    `probability_1` is P(`dataset_1` is the better one), uncalibrated, and `calibrated_1` the calibrated one.

    Finished shards are in `<out>.parts/` until all are done. Run again with the same collection, adapter and datasets,
    only the missing ones are computed. Networks with an invalid source, or without a recipe that the prompt shows, are
    left out and listed in `<out>.refused.json`.

    Args:
        predictor: the predictor of the job.
        job: what to compute.
        codes: see `read_codes`.
        out: the Parquet file.
        shard: networks in a shard; a collection that was begun keeps its own number.
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
        parts.remove()
        return Scored(out, len(networks), len(pd.read_parquet(out, columns=["nn"])), refused, unseen)
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
        rows = parts.join(len(shards))
    except BaseException:
        parts.remove(only_empty=True)
        raise
    parts.remove()
    return Scored(out, len(networks), rows, refused, unseen)


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
            c.nn, c.dataset_1, c.dataset_2, c.winner, float(logistic(c.log_odds)),
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
    """`<out>.parts/`: a Parquet file for each finished shard, and the plan that they belong to.

    Files whose names begin with a dot were left by a process that was killed while it wrote them.

    Args:
        out: the file that the shards are joined into.
        plan: a hash of everything that decides its rows.

    Raises:
        UserError: if the folder is a link to elsewhere.
    """

    def __init__(self, out: Path, plan: str) -> None:
        self.out, self.plan = out, plan
        self.folder = inside(out.parent, f"{out.name}.parts")

    def joined(self) -> bool:
        """Whether `out` is complete.

        Raises:
            UserError: if it is another file.
        """
        if not self.out.exists():
            return False
        import pyarrow.parquet as pq

        try:
            mark = (pq.read_schema(self.out).metadata or {}).get(_MARK, b"").decode()
        except (OSError, ValueError):
            mark = ""
        if mark != self.plan:
            raise UserError(f"'{self.out}' exists and holds something else; give another --out")
        return True

    def claim(self, shard: int) -> int:
        """Claim the folder for this plan and return the number of networks in a shard, as it was begun with.

        A folder of another plan without a finished shard is taken over.

        Raises:
            UserError: if it has finished shards of another plan.
        """
        plan, begun = self._begun()
        if plan == self.plan:
            return begun
        if self._kept():
            raise UserError(
                f"'{self.folder}' holds parts of another collection, adapter, recipe or set of datasets; "
                "remove it or give another --out"
            )
        self.folder.mkdir(exist_ok=True)
        write_text(self.folder / _PLAN, json.dumps({"plan": self.plan, "shard": shard}))
        return shard

    def join(self, number: int) -> int:
        """Join all shards into `out` and return the number of rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.concat_tables([pq.read_table(part_file(self.folder, i)) for i in range(number)])
        metadata = {**(table.schema.metadata or {}), _MARK: self.plan.encode()}
        with replacing(self.out) as temporary:
            pq.write_table(table.replace_schema_metadata(metadata), temporary)
        return int(table.num_rows)

    def remove(self, *, only_empty: bool = False) -> None:
        """Remove the folder if it is this plan's; with `only_empty`, only if it has no finished shard."""
        if self._begun()[0] == self.plan and not (only_empty and self._kept()):
            remove(self.folder)

    def _begun(self) -> tuple[str | None, int]:
        try:
            there = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
            return str(there["plan"]), int(there["shard"])
        except (OSError, ValueError, KeyError, TypeError):
            return None, 0

    def _kept(self) -> bool:
        """Whether it holds finished shards, or files of someone else."""
        return self.folder.is_dir() and any(
            not file.name.startswith(".") and file.name != _PLAN for file in self.folder.iterdir()
        )
