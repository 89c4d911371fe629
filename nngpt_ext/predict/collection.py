"""Score a whole collection in shards: what is done stays done, whatever ends the process."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nngpt_ext.errors import UserError
from nngpt_ext.files import replacing, write_text
from nngpt_ext.predict.answers import Query
from nngpt_ext.predict.codes import Network, Refused, read_codes
from nngpt_ext.predict.keys import digest
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.progress import Progress

log = logging.getLogger(__name__)

SHARD = 20  # networks: a minute of work that a crash may cost
COLUMNS = (
    "nn", "dataset_1", "dataset_2", "predicted", "probability_1", "log_odds", "flipped", "abstain", "model",
)  # fmt: skip
_PLAN = "plan.json"
_MARK = b"nngpt_ext.collection"


class Job(NamedTuple):
    """What is asked about every network of a collection."""

    adapter: str
    options: Mapping[str, Any]  # of Predictor
    datasets: tuple[str, ...]
    recipe: Mapping[str, Any] | None


class Scored(NamedTuple):
    """What came of a collection."""

    out: Path
    networks: int
    rows: int
    refused: list[Refused]


def score_collection(
    predictor: Predictor,
    job: Job,
    codes: Path,
    out: Path,
    *,
    shard: int = SHARD,
    engine: str = "local",
    address: str | None = None,
) -> Scored:
    """Ask about all pairs of datasets for every network and write one Parquet file with `COLUMNS`.

    Finished shards lie in `<out>.parts/` until all are done. Started again with the same collection, adapter
    and datasets, only the missing ones are computed. What is no network is left out and listed in
    `<out>.refused.json`.

    Args:
        predictor: answers where `engine` is `local`.
        job: the adapter and what is asked; workers of a cluster make their predictor of it.
        codes: see `read_codes`.
        out: the Parquet file.
        shard: networks of a shard.
        engine: `local`, or `ray` for a Ray cluster.
        address: of the Ray cluster; by default one on this machine.

    Raises:
        UserError: when `out` or its parts belong to another collection, and as `read_codes`.
    """
    if not out.resolve().parent.is_dir():
        raise UserError(f"cannot write '{out}': there is no folder '{out.parent}'")
    found = list(read_codes(codes))
    networks = [one for one in found if isinstance(one, Network)]
    refused = [one for one in found if isinstance(one, Refused)]
    if not networks:
        raise UserError(f"'{codes}' holds no network that can be asked about; the first: {refused[0].reason}")
    plan = digest([predictor.fingerprint, job.datasets, job.recipe, shard, [list(one) for one in networks]])
    if _done(out, plan):
        log.info("'%s' is complete", out)
        return Scored(out, len(networks), len(pd.read_parquet(out, columns=["nn"])), refused)
    parts = _claim(out, plan)
    shards = [networks[i : i + shard] for i in range(0, len(networks), shard)]
    missing = [i for i in range(len(shards)) if not part_file(parts, i).is_file()]
    if len(missing) < len(shards):
        log.info("%d of %d shards are done", len(shards) - len(missing), len(shards))
    with Progress("scoring", sum(len(shards[i]) for i in missing), unit="networks") as progress:
        if engine == "ray":
            from nngpt_ext.predict.cluster import score_on_ray

            work = score_on_ray(job, [(i, shards[i]) for i in missing], parts, address)
        else:
            work = ((i, score_shard(predictor, job, shards[i], part_file(parts, i))) for i in missing)
        for i, _ in work:
            progress.advance(len(shards[i]))
    rows = _join(parts, len(shards), out, plan)
    if refused:
        write_text(_refusals(out), json.dumps([one._asdict() for one in refused], indent=2, ensure_ascii=False) + "\n")
        log.warning("%d networks were refused; see '%s'", len(refused), _refusals(out))
    shutil.rmtree(parts)
    return Scored(out, len(networks), rows, refused)


def score_shard(predictor: Predictor, job: Job, networks: Sequence[Network], target: Path) -> int:
    """Ask about some networks and write the answers, whole or not at all; returns how many."""
    frame = pd.DataFrame(_rows(predictor, job, networks), columns=list(COLUMNS))
    with replacing(target) as temporary:
        frame.to_parquet(temporary, index=False)
    return len(frame)


def _rows(predictor: Predictor, job: Job, networks: Iterable[Network]) -> list[tuple[Any, ...]]:
    pairs = list(itertools.combinations(job.datasets, 2))
    queries = (
        Query(one.code, a, b, one.recipe if one.recipe is not None else job.recipe, nn=one.nn)
        for one in networks
        for a, b in pairs
    )
    return [
        (c.nn, c.dataset_1, c.dataset_2, c.winner, c.probability, c.log_odds, c.flipped, c.abstain, c.model)
        for c in predictor.compare_many(queries)
    ]


def _refusals(out: Path) -> Path:
    return out.with_name(f"{out.name}.refused.json")


def part_file(parts: Path, number: int) -> Path:
    """Where a shard's answers lie."""
    return parts / f"{number:06d}.parquet"


def _done(out: Path, plan: str) -> bool:
    if not out.exists():
        return False
    import pyarrow.parquet as pq

    try:
        mark = (pq.read_schema(out).metadata or {}).get(_MARK, b"").decode()
    except (OSError, ValueError):
        mark = ""
    if mark != plan:
        raise UserError(f"'{out}' is there and holds something else; give another --out")
    return True


def _claim(out: Path, plan: str) -> Path:
    parts = out.with_name(f"{out.name}.parts")
    if parts.is_dir():
        try:
            there = json.loads((parts / _PLAN).read_text(encoding="utf-8"))["plan"]
        except (OSError, ValueError, KeyError, TypeError):
            there = None if any(parts.iterdir()) else plan
        if there != plan:
            raise UserError(
                f"'{parts}' holds parts of another collection, adapter or set of datasets; "
                "remove it or give another --out"
            )
    parts.mkdir(exist_ok=True)
    write_text(parts / _PLAN, json.dumps({"plan": plan}))
    return parts


def _join(parts: Path, number: int, out: Path, plan: str) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables([pq.read_table(part_file(parts, i)) for i in range(number)])
    metadata = {**(table.schema.metadata or {}), _MARK: plan.encode()}
    with replacing(out) as temporary:
        pq.write_table(table.replace_schema_metadata(metadata), temporary)
    return int(table.num_rows)
