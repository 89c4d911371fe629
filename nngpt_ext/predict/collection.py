"""Score a whole collection in shards: what is done stays done, whatever ends the process."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from nngpt_ext.errors import UserError
from nngpt_ext.io import digest, write_text
from nngpt_ext.predict.codes import Network, Refused, read_codes
from nngpt_ext.predict.parts import Parts
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.predict.shards import Job, score_shard
from nngpt_ext.progress import Progress

log = logging.getLogger(__name__)

SHARD = 20  # networks: a minute of work that a crash may cost


class Scored(NamedTuple):
    """What came of a collection."""

    out: Path
    networks: int
    rows: int
    refused: list[Refused]
    unseen: tuple[str, ...]  # datasets that the adapter was not trained on: all rows about them abstain


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
    """Ask about all pairs of datasets for every network and write one Parquet file with the columns of a shard.

    Finished shards lie in `<out>.parts/` until all are done. Started again with the same collection, adapter
    and datasets, only the missing ones are computed. What is no network, or lacks what the prompt shows, is left
    out and listed in `<out>.refused.json`.

    Args:
        predictor: answers where `engine` is `local`.
        job: the adapter and what is asked; workers of a cluster make their predictor of it.
        codes: see `read_codes`.
        out: the Parquet file.
        shard: networks of a shard; a collection that was begun keeps its own.
        engine: `local`, or `ray` for a Ray cluster.
        address: of the Ray cluster; by default one on this machine.

    Raises:
        UserError: when `out` or its parts belong to another collection, for unknown datasets, when no network can
            be asked about, without Ray where it is needed, and as `read_codes`.
    """
    if not out.resolve().parent.is_dir():
        raise UserError(f"cannot write '{out}': there is no folder '{out.parent}'")
    unseen = predictor.unseen(predictor.check_datasets(job.datasets))
    if engine == "ray":
        from nngpt_ext.predict.cluster import check_ray, score_on_ray

        check_ray()
    networks, refused = askable(predictor, codes, job.datasets, job.recipe)
    plan = digest([predictor.fingerprint, job.datasets, job.recipe, [list(one) for one in networks]])
    parts = Parts(out, plan)
    if parts.joined():
        log.info("'%s' is complete", out)
        _list_refused(out, refused)
        parts.remove()
        return Scored(out, len(networks), len(pd.read_parquet(out, columns=["nn"])), refused, unseen)
    shard = parts.claim(shard)
    shards = [networks[i : i + shard] for i in range(0, len(networks), shard)]
    missing = [i for i in range(len(shards)) if not parts.file(i).is_file()]
    if len(missing) < len(shards):
        log.info("%d of %d shards are done", len(shards) - len(missing), len(shards))
    try:
        with Progress("scoring", sum(len(shards[i]) for i in missing), unit="networks") as progress:
            if engine == "ray":
                work = score_on_ray(job, [(i, shards[i]) for i in missing], parts.folder, address)
            else:
                work = ((i, score_shard(predictor, job, shards[i], parts.file(i))) for i in missing)
            for i, _ in work:
                progress.advance(len(shards[i]))
        # First what was refused: with `out` the collection is complete.
        _list_refused(out, refused)
        rows = parts.join(len(shards))
    except BaseException:
        parts.remove(only_empty=True)
        raise
    parts.remove()
    return Scored(out, len(networks), rows, refused, unseen)


def askable(
    predictor: Predictor, codes: Path, datasets: Sequence[str], recipe: Mapping[str, Any] | None = None
) -> tuple[list[Network], list[Refused]]:
    """The networks of a collection that can be asked about, and those that cannot, with the reasons.

    Args:
        predictor: will be asked.
        codes: see `read_codes`.
        datasets: of which all pairs will be asked.
        recipe: one for all networks that have none of their own, or one for each dataset.

    Raises:
        UserError: when there is no network left, for unknown datasets, for a fault in the recipe for all, and as
            `read_codes`.
    """
    predictor.check_datasets(datasets)
    found = [_checked(predictor, one, datasets, recipe) for one in read_codes(codes)]
    networks = [one for one in found if isinstance(one, Network)]
    refused = [one for one in found if isinstance(one, Refused)]
    if not networks:
        raise UserError(f"'{codes}' holds no network that can be asked about; the first: {refused[0].reason}")
    return networks, refused


def _checked(
    predictor: Predictor, one: Network | Refused, datasets: Sequence[str], recipe: Mapping[str, Any] | None
) -> Network | Refused:
    if isinstance(one, Refused):
        return one
    try:
        predictor.check_given(datasets, recipe if one.recipe is None else one.recipe)
    except UserError as error:
        if one.recipe is None and recipe is not None:  # no fault of this network
            raise
        return Refused(one.nn, f"'{one.nn}': {error}")
    return one


def _list_refused(out: Path, refused: Sequence[Refused]) -> None:
    file = out.with_name(f"{out.name}.refused.json")
    if not refused:
        file.unlink(missing_ok=True)  # of an earlier collection
        return
    write_text(file, json.dumps([one._asdict() for one in refused], indent=2, ensure_ascii=False) + "\n")
    log.warning("%d networks were refused; see '%s'", len(refused), file)
