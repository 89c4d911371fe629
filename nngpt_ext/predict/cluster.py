"""Shards on a Ray cluster: each worker loads the model once; a shard whose worker dies is given to another."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.io import write_text
from nngpt_ext.predict.codes import Network
from nngpt_ext.predict.database import absolute
from nngpt_ext.predict.parts import part_file
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.predict.shards import Job, score_shard

CORES = 1  # of a worker
TRIES = 3  # workers that may die at one shard: Ray Data itself would start another one for ever
# A cluster of one machine: Ray reads these when it is imported. Without several machines, which Ray can be
# forbidden under this name on any system, its servers listen on loopback only; and it reports to nobody.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


class ShardScorer:
    """A worker of Ray Data: asks about one shard at a time.

    It gives back how many rows a shard has, or the user's mistake that it met: an exception would come to the
    driver as text among Ray's own.
    """

    def __init__(self, job: Job, parts: str) -> None:
        self._job, self._parts = job, Path(parts)
        self._predictor: Predictor | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            rows, mistake = self._score(row["shard"], [Network(*one) for one in json.loads(row["networks"])]), ""
        except UserError as error:
            rows, mistake = 0, str(error)
        return {"shard": row["shard"], "rows": rows, "mistake": mistake}

    def _score(self, shard: int, networks: Sequence[Network]) -> int:
        tried = _tries(self._parts, shard)
        before = int(tried.read_text()) if tried.is_file() else 0
        if before >= TRIES:
            raise UserError(
                f"{before} workers died, one after the other, at the shard of '{networks[0].nn}' to "
                f"'{networks[-1].nn}'; it may need more memory, or fewer networks in a shard (--shard)"
            )
        write_text(tried, str(before + 1))
        if self._predictor is None:
            self._predictor = Predictor(self._job.adapter, **self._job.options)
        # Written whole under its number: done twice, after a crash, it is the same file.
        rows = score_shard(self._predictor, self._job, networks, part_file(self._parts, shard))
        tried.unlink(missing_ok=True)
        return rows


def check_ray() -> None:
    """See that Ray is installed; it is not imported yet.

    Raises:
        UserError: with the command that installs it.
    """
    try:
        there = importlib.util.find_spec("ray") is not None
    except ValueError:  # imported, and not as a module of its own
        there = False
    if not there:
        raise UserError("--engine ray needs Ray: pip install 'nngpt-ext[ray]'")


def score_on_ray(
    job: Job, shards: Sequence[tuple[int, Sequence[Network]]], parts: Path, address: str | None
) -> Iterator[tuple[int, int]]:
    """Score shards on a cluster whose machines share the folder `parts`; gives (shard, rows) as they finish.

    Raises:
        UserError: without Ray, when the cluster cannot be reached, when a worker meets a mistake of the user's, and
            when `TRIES` workers died at one shard.
    """
    if not shards:
        return
    check_ray()
    if address is None:
        os.environ.update({name: value for name, value in _ALONE.items() if name not in os.environ})
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)  # its plans and times are nobody's here
    started = not ray.is_initialized()
    try:
        if started:
            ray.init(address or "local", log_to_driver=False, include_dashboard=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise UserError(f"cannot reach a Ray cluster at '{address}': {str(error).splitlines()[0]}") from None
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        workers = max(1, min(int(ray.cluster_resources().get("CPU", 1)) // CORES, len(shards)))
        for i, _ in shards:
            _tries(parts, i).unlink(missing_ok=True)  # of an earlier attempt
        # As text: a recipe's values have no common type, and Ray Data would pickle the column, with a warning.
        items = [{"shard": i, "networks": json.dumps([list(one) for one in networks])} for i, networks in shards]
        results = ray.data.from_items(items, override_num_blocks=len(items)).map(
            ShardScorer,  # type: ignore[arg-type]  # Ray's types leave out classes
            fn_constructor_args=(_everywhere(job), str(parts.resolve())),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=CORES,
        )
        for row in results.iter_rows():
            if row["mistake"]:
                raise UserError(row["mistake"])
            yield int(row["shard"]), int(row["rows"])
    finally:
        if started:
            ray.shutdown()


def _tries(parts: Path, shard: int) -> Path:
    """Where it stands how many workers began a shard and did not finish it."""
    return parts / f".{shard:06d}.tries"


def _everywhere(job: Job) -> Job:
    """The job with whole paths: workers stand in other folders."""
    options = dict(job.options)
    if isinstance(options.get("store"), str):
        options["store"] = absolute(options["store"])
    if options.get("base") and Path(options["base"]).is_dir():
        options["base"] = str(Path(options["base"]).resolve())
    return job._replace(adapter=str(Path(job.adapter).resolve()), options=options)


@contextmanager
def ray_on_stderr() -> Iterator[None]:
    """In here the process writes to standard error alone: Ray's C++ says on standard output that a worker died."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
