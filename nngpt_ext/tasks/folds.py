"""All folds of a split: each is an ordinary run in a folder of its own, and their test pairs together are one run.

OUT/fold-0, OUT/fold-1, … are the runs; OUT has the test pairs of all of them, and one report. Finished folds are taken
as they are, and unfinished ones continue.
"""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import as_completed
from pathlib import Path
from typing import Any

import pandas as pd

from nngpt_ext.config import TaskConfig
from nngpt_ext.data.load import per_fold, read_records
from nngpt_ext.errors import UserError, resuming
from nngpt_ext.evaluation.report import Report, read_answers
from nngpt_ext.io import digest, inside, remove, replacing, write_text
from nngpt_ext.progress import Progress, part_of
from nngpt_ext.run_folder import (
    ADAPTER,
    BASELINES,
    CONFIG,
    INPUTS,
    PREDICTIONS,
    RECORD,
    claim,
    fold_name,
    read_record,
    read_table,
    write_record,
)
from nngpt_ext.scoring.calibration import read_calibration
from nngpt_ext.tasks.pipeline import Loader, begin, run_pipeline
from nngpt_ext.tasks.processes import RunProcesses, gpus, reason_of
from nngpt_ext.tasks.protocol import RunResult
from nngpt_ext.tasks.reporting import NEEDED, rebuild_report
from nngpt_ext.tuning.history import OnEpoch
from nngpt_ext.tuning.threads import usable_cores

log = logging.getLogger(__name__)

Runs = Mapping[int, TaskConfig]  # by fold; each has its `output_dir`
_SAME = (
    "task", "device", "seeds", "data", "unpaired_networks", "base_model", "excluded", "without_evidence",
    "near_duplicate_threshold",
)  # fmt: skip


def run_folds(
    config: TaskConfig, folder: Path, resume: bool, on_epoch: OnEpoch | None = None, loader: Loader | None = None
) -> RunResult[Report]:
    """Run the folds that are not finished, and pool the test pairs of all.

    Folds run in processes, `config.workers` at a time. One at a time they run in this process, as they do with
    `on_epoch`, which is then called for each fold, and then use `loader`. All compute with one thread, so results do
    not depend on it.

    Raises:
        UserError: as `run_pipeline`; after the other folds have ended, a line about those that failed.
        RuntimeError: if a fold failed otherwise.
    """
    if (done := begin(config.resolved(folder), folder, resume)) is not None:
        return done
    runs = fold_runs(config, folder, resume)
    waiting = unfinished(runs)
    if waiting:
        workers = 1 if on_epoch is not None else min(len(waiting), config.workers or len(gpus()) or usable_cores())
        failed = _side_by_side(waiting, workers) if workers > 1 else _in_turn(waiting, on_epoch, loader)
        if failed:
            raise_failed(folder, failed)
    return _pool(folder, [Path(own.output_dir) for own in runs.values()])


def fold_runs(config: TaskConfig, folder: Path, resume: bool) -> dict[int, TaskConfig]:
    """The run of each fold, in a folder of its own; the folder of all is claimed for this configuration.

    Raises:
        UserError: as `nngpt_ext.run_folder.claim`.
    """
    resolved = config.resolved(folder)
    claim(folder, resolved, resume)
    runs: dict[int, TaskConfig] = {}
    for fold, data in enumerate(per_fold(config.data, lambda: read_records(config.data))):
        own = {"data": data, "store": resolved.store, "output_dir": str(inside(folder, fold_name(fold)))}
        runs[fold] = config.model_copy(update=own)
    return runs


def unfinished(runs: Runs) -> dict[int, TaskConfig]:
    """Those runs that are not finished.

    Raises:
        UserError: as `nngpt_ext.tasks.pipeline.begin`.
    """
    return {
        fold: own
        for fold, own in runs.items()
        if begin(own.resolved(Path(own.output_dir)), Path(own.output_dir), resume=True) is None
    }


def raise_failed(folder: Path, failed: Mapping[int, Exception]) -> None:
    """Raise an error that names the folds that failed, and says why the first did.

    Raises:
        UserError: if all failed with one.
        RuntimeError: otherwise.
    """
    first, numbers = failed[min(failed)], [str(fold) for fold in sorted(failed)]
    which = f"fold {numbers[0]}" if len(numbers) == 1 else f"folds {', '.join(numbers)}"
    message = f"{which} in '{folder}' failed: {reason_of(first)}; finished folds are kept: {resuming()}"
    if all(isinstance(error, UserError) for error in failed.values()):
        raise UserError(message) from None
    raise RuntimeError(message) from first


def _in_turn(runs: Runs, on_epoch: OnEpoch | None, loader: Loader | None) -> dict[int, Exception]:
    """Run folds one after another in this process, and return the errors of those that failed."""
    import torch

    from nngpt_ext.tuning.threads import kept_threads

    loader, failed = loader or Loader(), {}
    for fold, config in runs.items():
        log.info("fold %d", fold)
        with kept_threads(), part_of(f"fold {fold}"):
            torch.set_num_threads(1)
            try:
                run_pipeline(config, Path(config.output_dir), True, loader, on_epoch)
            except Exception as error:  # whatever one fold does, the others continue
                failed[fold] = error
                log.warning("fold %d failed: %s", fold, reason_of(error))
    return failed


def _side_by_side(runs: Runs, workers: int) -> dict[int, Exception]:
    """Run folds in processes, and return the errors of those that failed; whatever ends this ends them."""
    failed: dict[int, Exception] = {}
    with Progress("folds", len(runs)) as progress, RunProcesses(workers) as processes:
        waiting = {processes.submit(f"fold {n}", config): n for n, config in runs.items()}
        for future in as_completed(waiting):
            fold, error = waiting[future], future.exception()
            if isinstance(error, Exception):
                failed[fold] = error
                log.warning("fold %d failed: %s", fold, error)
            else:
                log.info("fold %d is finished", fold)
            progress.advance(1)
    return failed


def _pool(folder: Path, runs: list[Path]) -> RunResult[Report]:
    """Write the test pairs of finished folds, and what is known of all of them, as the files of one run.

    Raises:
        UserError: if a file of a fold was changed, or two folds were run on other data, prompts or base models.
    """
    parts = (CONFIG, INPUTS, BASELINES, PREDICTIONS, ADAPTER)
    records = [read_record(run, (*NEEDED, "split_hash", "adapter_sha256"), parts) for run in runs]
    inputs = _shared_inputs(runs, records)
    tested, chosen = [], []
    for fold, (run, record) in enumerate(zip(runs, records, strict=True)):
        predictions, _ = read_answers(run)
        tested.append(predictions[predictions["split"] == "test"].assign(fold=fold))
        calibration = read_calibration(run / ADAPTER)
        found = {} if calibration is None else calibration.model_dump(include={"temperature", "threshold"})
        found |= {"held_out": record["held_out"]} if "held_out" in record else {}
        chosen.append({"fold": fold, "selected_epoch": record["selected_epoch"], **found})
    cut = sorted({nn for record in records for nn in record["cut"]})
    versions: dict[str, dict[str, None]] = {}
    for record in records:  # sessions may have used several, all of which are named
        for name, version in record["versions"].items():
            versions.setdefault(name, {})[version] = None
    pooled: dict[str, Any] = {
        **{name: records[0][name] for name in _SAME if name in records[0]},
        "versions": {name: " and ".join(known) for name, known in versions.items()},
        "split_hash": digest([record["split_hash"] for record in records]),
        "parts": _sum(record["parts"] for record in records),
        "training_pairs": sum(record["training_pairs"] for record in records),
        "training_pairs_seen": sum(record["training_pairs_seen"] for record in records),
        "near_duplicates": sorted({nn for record in records for nn in record["near_duplicates"]}),
        "families": {nn: family for record in records for nn, family in record["families"].items()},
        "folds": chosen,
        **({"evidence": _sum(record["evidence"] for record in records)} if "evidence" in records[0] else {}),
        "epochs": [],
        "selected_epoch": None,
        "cut_networks": len(cut),
        "cut": cut,
        "timings": {name: round(t, 2) for name, t in _sum(record["timings"] for record in records).items()},
    }
    remove(folder / RECORD)  # of an earlier pooling, whose files are replaced
    write_text(folder / INPUTS, json.dumps(inputs, indent=2) + "\n")
    predictions = pd.concat(tested, ignore_index=True)
    for name, table in (
        (BASELINES, pd.concat([read_table(run / BASELINES).assign(fold=i) for i, run in enumerate(runs)])),
        (PREDICTIONS, predictions),
    ):
        with replacing(folder / name) as temporary:
            table.to_parquet(temporary, index=False)
    write_record(folder, pooled)
    return RunResult(folder, rebuild_report(folder), predictions, None)


def _shared_inputs(runs: list[Path], records: list[dict[str, Any]]) -> dict[str, str]:
    """The sha256 of what all folds read: everything but the pairs."""
    found = [
        {"records": record["data"]["fingerprint"], **json.loads((run / INPUTS).read_text(encoding="utf-8"))}
        for run, record in zip(runs, records, strict=True)
    ]
    for fold, inputs in enumerate(found):
        other = [name for name in found[0] if name != "pairs" and inputs.get(name) != found[0][name]]
        if other:
            raise UserError(
                f"'{runs[0]}' and '{runs[fold]}' were run on different inputs ({', '.join(other)}); remove the older "
                f"one and {resuming()}"
            )
    return {name: sha256 for name, sha256 in found[0].items() if name != "pairs"}


def _sum(numbers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The sums of mappings of numbers, by key."""
    total: Counter[str] = Counter()
    for one in numbers:
        total.update(one)
    return dict(total)
