"""The way of a run: LEMUR → pairs → baselines → base model → adapter → scores → report and store."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import astuple
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.config import ResolvedConfig, TaskConfig
from nngpt_ext.data.families import THRESHOLD
from nngpt_ext.data.load import PairData
from nngpt_ext.data.splits import pairs_hash, split_hash
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.report import Report, read_report
from nngpt_ext.io import digest, inside, replacing
from nngpt_ext.models.base import base_folder
from nngpt_ext.predict.database import store_file
from nngpt_ext.predict.store import PredictionStore
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.fields import GIVEN
from nngpt_ext.prompts.template import Template, load_template
from nngpt_ext.registry import finetuners
from nngpt_ext.run_folder import (
    ADAPTER,
    BASELINES,
    CHECKPOINTS,
    KEYS,
    PREDICTIONS,
    REPORT,
    claim,
    is_finished,
    read_table,
    same_inputs,
    versions,
    write_record,
)
from nngpt_ext.tasks.loading import Loader
from nngpt_ext.tasks.protocol import RunResult
from nngpt_ext.tasks.reporting import rebuild_report
from nngpt_ext.tuning.history import OnEpoch, read_history

if TYPE_CHECKING:
    from nngpt_ext.tasks.workbench import Workbench

log = logging.getLogger(__name__)


def run_pipeline(
    config: TaskConfig, folder: Path, resume: bool, loader: Loader | None = None, on_epoch: OnEpoch | None = None
) -> RunResult[Report]:
    """Run `dataset_compare`; see the task class. Several runs may share a loader, and what it has loaded."""
    model, timings, loader = config.model, Timings(), loader or Loader()
    looks: list[Callable[[], Any]] = [
        lambda: find_template(config.prompt), lambda: finetuners.get(config.tuning.finetuner),
    ]  # fmt: skip
    faults = _faults(looks)
    resolved = config.resolved(folder)
    if not faults and is_finished(folder, resolved, resume):
        same_inputs(folder, {"prompt": digest(astuple(find_template(config.prompt)))})
        return finished(folder)
    # What may be wrong with the configuration shows before anything is written; quick looks come first.
    faults += _faults(
        [lambda: base_folder(model.base, revision=model.revision), lambda: _check_links(resolved, folder)]
    )
    if faults:
        raise UserError("; ".join(faults))
    template = find_template(config.prompt)
    if resolved.store is not None:
        PredictionStore.check(resolved.store)
    with timings.stage("data"):
        data = loader.data(resolved.data)
    with timings.stage("base model"):
        base = loader.base(model)
    from nngpt_ext.tasks.workbench import Workbench  # which loads torch
    from nngpt_ext.tuning.threads import kept_threads

    with timings.stage("tokens"):  # what does not fit shows here, before a folder is made and a model trained
        bench = Workbench(resolved, template, base, data)
    if claim(folder, resolved, resume):
        return finished(folder)
    try:
        with kept_threads():
            return _run(bench, folder, timings, loader, on_epoch)
    except Exception as error:  # full disks come as OSError, RuntimeError (torch) and SafetensorError
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
            raise UserError(f"no space left on the disk for '{folder}'; free some and go on with --resume") from error
        raise


def _faults(looks: Iterable[Callable[[], Any]]) -> list[str]:
    """What the looks complain of, so that a user is told of everything at once."""
    faults = []
    for look in looks:
        try:
            look()
        except UserError as error:
            faults.append(str(error))
    return faults


def _check_links(config: ResolvedConfig, folder: Path) -> None:
    """See that no link leads out of the run's folder from where something is written."""
    names = [Path(ADAPTER), Path(CHECKPOINTS)]
    file, top = None if config.store is None else store_file(config.store), folder.resolve()
    if file is not None and (place := file.parent.resolve() / file.name).is_relative_to(top):
        names.append(place.relative_to(top))  # SQLite itself follows no link beside a database
    for name in names:
        inside(folder, name)


def find_template(prompt: str) -> Template:
    """A registered prompt, or one read from a file."""
    return load_template(prompt) if prompt.endswith(".json") else get_template(prompt)


def finished(folder: Path) -> RunResult[Report]:
    """The result of a finished run.

    Raises:
        UserError: when its report or its predictions are damaged.
    """
    adapter, report = folder / ADAPTER, read_report(folder)
    try:
        predictions = read_table(folder / PREDICTIONS)
    except UserError:
        raise UserError(
            f"'{folder / PREDICTIONS}' is missing or damaged; to score again, remove '{folder / REPORT}' and go on "
            "with --resume"
        ) from None
    return RunResult(folder, report, predictions, adapter if adapter.is_dir() else None)


class Timings(dict[str, float]):
    """Seconds by stage."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        began = time.monotonic()
        yield
        self[name] = round(self.get(name, 0.0) + time.monotonic() - began, 2)


def _run(
    bench: Workbench, folder: Path, timings: Timings, loader: Loader, on_epoch: OnEpoch | None
) -> RunResult[Report]:
    import torch

    from nngpt_ext.tasks.workbench import calibrated

    config, data, base = bench.config, bench.data, bench.base
    inputs = {
        "pairs": pairs_hash(data.pairs, data.training, given=GIVEN),
        "sources": digest(data.sources),
        "prompt": digest(astuple(bench.template)),
        "base model": base.sha256,
    }
    same_inputs(folder, inputs, {f"base model's {k.replace('_', ' ')}": v for k, v in base.identity.items()})
    with timings.stage("baselines"):
        _write_baselines(data, folder, lambda: loader.baselines(config.data))
    with timings.stage("tuning"):
        adapter = bench.tune(folder, on_epoch)
    with timings.stage("scoring"):
        predictions, epochs, selected = bench.score(folder)
    bench.describe(adapter)
    predictions = calibrated(bench.with_questions(predictions), adapter, config.calibration.target)
    with replacing(folder / PREDICTIONS) as temporary:
        predictions.to_parquet(temporary, index=False)
    record: dict[str, Any] = {
        "task": "dataset_compare",
        "versions": versions(),
        "device": bench.device_name,
        "threads": torch.get_num_threads(),  # after training, which may have chosen fewer; see history.json
        "seeds": {"data": config.data.seed, "tuning": config.tuning.seed},
        "split_hash": split_hash(data.pairs),
        "data": {"source": data.source, "fingerprint": data.fingerprint},
        "base_model": {"name": base.name, "sha256": base.sha256, "identity": dict(base.identity)},
        "adapter_sha256": bench.adapter_hash(adapter),
        "parts": {part: int(n) for part, n in data.pairs["split"].value_counts().items()},
        "networks": {part: int(n) for part, n in data.pairs.groupby("split")["nn"].nunique().items()},
        "training_pairs": len(data.training),
        "training_pairs_seen": sum(entry["examples"] for entry in read_history(folder)) // 2,
        "excluded": data.excluded,
        "near_duplicates": sorted(data.near_duplicates()),
        "near_duplicate_threshold": THRESHOLD,
        "epochs": epochs,
        "selected_epoch": selected,
        "cut_networks": len(bench.cut),
        "cut": sorted(bench.cut),
        "timings": dict(timings),
    }
    if config.store is not None:  # before the record, without which there is no report, and no finished run
        with PredictionStore.open(config.store) as store:
            store.add_run(folder)
    write_record(folder, record)
    return RunResult(folder, rebuild_report(folder), predictions, adapter)


def _write_baselines(data: PairData, folder: Path, fitted: Callable[[], Mapping[str, Any]]) -> None:
    """Write `baselines.parquet`: the test pairs' names and the probabilities that `fitted` gives for them.

    That of a run that goes on is kept if it is whole.
    """
    import numpy as np
    import pandas as pd

    file, asked = folder / BASELINES, data.part("test")[KEYS]
    if file.is_file():
        try:
            there = pd.read_parquet(file)
            finite = bool(np.isfinite(there.drop(columns=KEYS).to_numpy(dtype="float64")).all())
            if finite and there[KEYS].to_numpy().tolist() == asked.to_numpy().tolist():
                return
        except (OSError, ValueError, KeyError):
            pass
        log.warning("'%s' is damaged; the baselines are computed again", file)
    with replacing(file) as temporary:
        asked.assign(**fitted()).to_parquet(temporary, index=False)


def read_data(config: TaskConfig) -> PairData:
    """The pairs of a configuration."""
    return Loader().data(config.data)
