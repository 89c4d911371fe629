"""Shards on a Ray cluster: each worker loads the model once; the shard of a worker that dies goes to another."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.io import write_text
from nngpt_ext.predict.collection import Engine, Job, Network, Shards, part_file, score_shard
from nngpt_ext.predict.database import absolute
from nngpt_ext.predict.predictor import Predictor

CORES = 1  # of a worker
TRIES = 3  # workers that may die at one shard; Ray Data would restart them forever
# For a cluster of one machine; Ray reads these when it is imported. With clusters of several machines disabled (on any
# system, despite the name) its servers listen on loopback only; and it sends no usage statistics.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0", "RAY_USAGE_STATS_ENABLED": "0"}


class ShardScorer:
    """A worker of Ray Data, which scores one shard at a time.

    It returns the user's mistake that it meets, because Ray would bury an exception in a text of its own.
    """

    def __init__(self, job: Job, folder: str) -> None:
        self._job, self._folder = job, Path(folder)
        self._predictor: Predictor | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        try:
            self._score(row["shard"], [Network(**one) for one in json.loads(row["networks"])])
        except UserError as error:
            return {"shard": row["shard"], "mistake": str(error)}
        return {"shard": row["shard"], "mistake": ""}

    def _score(self, shard: int, networks: list[Network]) -> None:
        tried = _tries(self._folder, shard)
        before = int(tried.read_text()) if tried.is_file() else 0
        if before >= TRIES:
            raise UserError(
                f"{before} workers died, one after the other, at the shard of '{networks[0].nn}' to "
                f"'{networks[-1].nn}'; it may need more memory, or fewer networks in a shard (--shard)"
            )
        write_text(tried, str(before + 1))
        self._predictor = self._predictor or self._job.predictor()
        score_shard(self._predictor, self._job, networks, part_file(self._folder, shard))
        tried.unlink(missing_ok=True)


def _tries(folder: Path, shard: int) -> Path:
    """The file with the number of workers that began a shard and did not finish it."""
    return folder / f".{shard:06d}.tries"


def ray_engine(address: str | None = None) -> Engine:
    """An engine on the Ray cluster at an address, by default one on this machine; the machines share the folders.

    Raises:
        UserError: without Ray. The engine raises it if the cluster cannot be reached, for a user's mistake that a
            worker meets, and if `TRIES` workers died at one shard.
    """
    try:
        found = importlib.util.find_spec("ray") is not None
    except ValueError:  # an imported module without a spec
        found = False
    if not found:
        raise UserError("--engine ray needs Ray: pip install 'nngpt-ext[ray]'")
    return lambda job, shards, folder: _score_on_ray(job, shards, folder, address) if shards else iter(())


def _score_on_ray(job: Job, shards: Shards, folder: Path, address: str | None) -> Iterator[int]:
    if address is None:
        os.environ.update({name: value for name, value in _ALONE.items() if name not in os.environ})
    import ray
    import ray.data

    logging.getLogger("ray.data").setLevel(logging.ERROR)
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
            _tries(folder, i).unlink(missing_ok=True)  # of an earlier attempt
        # As text, because the values of a recipe have no common type.
        items = [{"shard": i, "networks": json.dumps([asdict(one) for one in networks])} for i, networks in shards]
        results = ray.data.from_items(items, override_num_blocks=len(items)).map(
            ShardScorer,  # type: ignore[arg-type]  # Ray's types leave out classes
            fn_constructor_args=(_everywhere(job), str(folder.resolve())),
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=CORES,
        )
        for row in results.iter_rows():
            if row["mistake"]:
                raise UserError(row["mistake"])
            yield int(row["shard"])
    finally:
        if started:
            ray.shutdown()


def _everywhere(job: Job) -> Job:
    """The job with absolute paths, because workers run in other folders."""
    base = str(Path(job.base).resolve()) if job.base and Path(job.base).is_dir() else job.base
    store = None if job.store is None else absolute(job.store)
    return replace(job, adapter=str(Path(job.adapter).resolve()), base=base, store=store)


@contextmanager
def ray_on_stderr() -> Iterator[None]:
    """Redirects standard output to standard error: Ray's C++ code reports there that a worker died."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)
