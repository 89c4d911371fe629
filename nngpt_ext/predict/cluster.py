"""Shards on a Ray cluster: each worker loads the model once; a shard whose worker dies is given to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.predict.codes import Network
from nngpt_ext.predict.collection import Job, part_file, score_shard
from nngpt_ext.predict.predictor import Predictor

CORES = 1  # of a worker


class ShardScorer:
    """A worker of Ray Data: asks about one shard at a time."""

    def __init__(self, job: Job, parts: str) -> None:
        self._job, self._parts = job, Path(parts)
        self._predictor = Predictor(job.adapter, **job.options)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        networks = [Network(*one) for one in row["networks"]]
        # Written whole under its number: done twice, after a crash, it is the same file.
        rows = score_shard(self._predictor, self._job, networks, part_file(self._parts, row["shard"]))
        return {"shard": row["shard"], "rows": rows}


def score_on_ray(
    job: Job, shards: Sequence[tuple[int, Sequence[Network]]], parts: Path, address: str | None
) -> Iterator[tuple[int, int]]:
    """Score shards on a cluster whose machines share the folder `parts`; gives (shard, rows) as they finish.

    Raises:
        UserError: without Ray, or when the cluster cannot be reached.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise UserError("--engine ray needs Ray: pip install 'nngpt-ext[ray]'") from None
    started = not ray.is_initialized()
    try:
        if started:
            ray.init(address=address, log_to_driver=False, include_dashboard=False, configure_logging=False)
    except (ConnectionError, ValueError, RuntimeError, OSError) as error:
        raise UserError(f"cannot reach a Ray cluster at '{address}': {str(error).splitlines()[0]}") from None
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        workers = max(1, min(int(ray.cluster_resources().get("CPU", 1)) // CORES, len(shards)))
        items = [{"shard": i, "networks": [list(one) for one in networks]} for i, networks in shards]
        results = ray.data.from_items(items, override_num_blocks=len(items)).map(
            ShardScorer,  # type: ignore[arg-type]  # Ray's types leave out classes
            fn_constructor_args=(job, str(parts.resolve())),
            concurrency=workers,
            num_cpus=CORES,
            max_restarts=-1,
            max_task_retries=-1,
        )
        for row in results.iter_rows():
            yield int(row["shard"]), int(row["rows"])
    finally:
        if started:
            ray.shutdown()
