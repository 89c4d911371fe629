"""Shards on a Ray cluster: each worker loads the model once; the shard of a worker that dies goes to another."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

from nngpt_ext.errors import UserError, reason, typed
from nngpt_ext.extras import install_extra
from nngpt_ext.networks.codes import Network
from nngpt_ext.predict.collection import Engine, Job, Shards, score_shard
from nngpt_ext.predict.database import absolute
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.quiet import output_on_stderr
from nngpt_ext.shards import part_file

TRIES = 3  # workers that may die at one shard
# For a cluster of one machine; Ray reads these when it is imported. With clusters of several machines disabled (on any
# system, despite the name) its servers listen on loopback only; it sends no usage statistics; and a shard for which
# there is too little memory is given up too, which Ray would otherwise try forever.
_ALONE = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_task_oom_retries": str(TRIES - 1),
}


def ray_engine(address: str | None = None) -> Engine:
    """An engine on the Ray cluster at an address, by default one on this machine; the machines share the folders.

    Raises:
        UserError: without Ray. The engine raises it if the cluster cannot be reached, for a user's mistake that a
            worker meets, and if `TRIES` workers died at one shard.
    """
    if address is None:
        os.environ.update({name: value for name, value in _ALONE.items() if name not in os.environ})
    try:
        import ray  # noqa: F401
    except ImportError:
        raise UserError(f"Ray is not installed; type: {install_extra('ray')}") from None

    def engine(job: Job, shards: Shards, folder: Path) -> Iterator[int]:
        with output_on_stderr():
            yield from _score_on_ray(address, job, shards, folder)

    return engine


def _score_on_ray(address: str | None, job: Job, shards: Shards, folder: Path) -> Iterator[int]:
    import ray
    from ray.exceptions import RayError, RayTaskError

    if not shards:
        return
    started = not ray.is_initialized()
    try:
        if started:
            ray.init(address or "local", log_to_driver=False, include_dashboard=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        where = "start Ray on this machine" if address is None else f"reach a Ray cluster at '{address}'"
        raise UserError(f"cannot {where}: {reason(error)}") from None
    given, task = json.dumps(asdict(_everywhere(job))), ray.remote(num_cpus=1, max_retries=TRIES - 1)(score_remotely)
    running = {task.remote(given, one, part_file(folder.resolve(), i)): (i, one) for i, one in shards}
    try:
        while running:
            (done, *_), _ = ray.wait(list(running))
            i, networks = running.pop(done)
            try:
                ray.get(done)
            except RayTaskError as error:
                raise error.cause from error
            except RayError:
                raise UserError(
                    f"{TRIES} workers died, one after the other, at the shard of '{networks[0].nn}' to "
                    f"'{networks[-1].nn}'; it may need more memory, or a smaller {typed('--shard', 'shard')}"
                ) from None
            yield i
    finally:
        for left in running:
            ray.cancel(left, force=True)
        if started:
            ray.shutdown()


def score_remotely(job: str, networks: Sequence[Network], target: Path) -> None:
    """Score a shard in a worker, with the job as JSON."""
    score_shard(_predictor(job), Job(**json.loads(job)), networks, target)


@lru_cache(maxsize=1)
def _predictor(job: str) -> Predictor:
    found = Job(**json.loads(job))
    return Predictor(found.adapter, base=found.base, store=found.store, facts=found.facts)


def _everywhere(job: Job) -> Job:
    """The job with absolute paths, because workers run in other folders; structures travel with their networks."""
    base = str(Path(job.base).resolve()) if job.base and Path(job.base).is_dir() else job.base
    store = None if job.store is None else absolute(job.store)
    return replace(job, adapter=str(Path(job.adapter).resolve()), base=base, store=store, structure=None)
