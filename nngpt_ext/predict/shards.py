"""One shard of a collection: asked about as a whole, and written whole or not at all."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nngpt_ext.io import replacing
from nngpt_ext.predict.codes import Network
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.predict.question import Query

COLUMNS = (
    "nn", "dataset_1", "dataset_2", "predicted", "probability_1", "log_odds", "flipped", "abstain", "model",
)  # fmt: skip


class Job(NamedTuple):
    """What is asked about every network of a collection."""

    adapter: str
    options: Mapping[str, Any]  # of Predictor
    datasets: tuple[str, ...]
    recipe: Mapping[str, Any] | None


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
