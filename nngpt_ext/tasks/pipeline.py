"""The way of a run: LEMUR → pairs → baselines → base model → adapter → scores → report and store."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.config import Stage, TaskConfig
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.files import inside, replacing
from nngpt_ext.lemur.clusters import THRESHOLD
from nngpt_ext.lemur.dataset import PairData
from nngpt_ext.lemur.splits import pairs_hash, split_hash
from nngpt_ext.models.load import base_folder
from nngpt_ext.models.presets import preset
from nngpt_ext.predict.keys import digest
from nngpt_ext.predict.store import PredictionStore
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.template import Template, load_template
from nngpt_ext.registry import finetuners
from nngpt_ext.tasks.asking import calibrated, describe_adapter, with_questions
from nngpt_ext.tasks.baselines import write_baselines
from nngpt_ext.tasks.folder import PREDICTIONS, REPORT, claim, is_finished, same_inputs, versions, write_record
from nngpt_ext.tasks.loading import Loader
from nngpt_ext.tasks.protocol import RunResult
from nngpt_ext.tasks.reporting import read_table, rebuild_report
from nngpt_ext.tuning.history import read_history

if TYPE_CHECKING:
    from nngpt_ext.tasks.tune_and_score import Workbench

log = logging.getLogger(__name__)


def run_pipeline(config: TaskConfig, folder: Path, resume: bool, loader: Loader | None = None) -> RunResult:
    """Run `dataset_compare`; see the task class. Several runs may share a loader, and what it has loaded."""
    model, timings, loader = config.model, Timings(), loader or Loader()
    looks: list[Callable[[], Any]] = [
        lambda: find_template(config.prompt), lambda: finetuners.get(config.tuning.finetuner),
    ]  # fmt: skip
    faults = _faults(looks)
    resolved = resolve(config, folder)
    if not faults and is_finished(folder, resolved, resume):
        same_inputs(folder, {"prompt": digest(find_template(config.prompt))})
        return finished(folder)
    # What may be wrong with the configuration shows before anything is written; quick looks come first.
    faults += _faults(
        [lambda: base_folder(model.base, revision=model.revision), lambda: _check_links(resolved, folder)]
    )
    if faults:
        raise UserError("; ".join(faults))
    config, template = resolved, find_template(config.prompt)
    if config.store is not None:
        PredictionStore.check(config.store)
    with timings.stage("data"):
        data = loader.data(config.data)
    with timings.stage("base model"):
        base = loader.base(model)
    from nngpt_ext.tasks.tune_and_score import Workbench  # which loads torch

    with timings.stage("tokens"):  # what does not fit shows here, before a folder is made and a model trained
        bench = Workbench(config, template, base, data)
    if claim(folder, config, resume):
        return finished(folder)
    try:
        return _run(bench, template, folder, resume, timings, loader)
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


def _check_links(config: TaskConfig, folder: Path) -> None:
    """See that no link leads out of the run's folder from where something is written."""
    names = ["adapter", "checkpoints"]
    if (config.store or "").startswith(below := f"sqlite:///{folder}/"):
        names.append(str(config.store).removeprefix(below))  # SQLite itself follows no link beside a database
    for name in names:
        inside(folder, name)


def find_template(prompt: str) -> Template:
    """A registered prompt, or one read from a file."""
    return load_template(prompt) if prompt.endswith(".json") else get_template(prompt)


def resolve(config: TaskConfig, folder: Path) -> TaskConfig:
    """Put the base model's preset where the configuration says nothing."""
    known = preset(config.model.base)
    data, model, tuning = config.data, config.model, config.tuning
    lora = {"r": known.lora_r, "alpha": known.lora_alpha, "dropout": known.lora_dropout}
    data = data.model_copy(update=_unset(data, {"code_tokens": known.code_tokens}))
    model = model.model_copy(update={"lora": model.lora.model_copy(update=_unset(model.lora, lora))})
    learning = {
        "epochs": known.epochs,
        "learning_rate": known.learning_rate,
        "networks_per_epoch": known.networks_per_epoch,
    }
    tuning = tuning.model_copy(update=_unset(tuning, learning))
    store = f"sqlite:///{folder / 'predictions.db'}" if config.store == "default" else config.store
    return config.model_copy(
        update={"data": data, "model": model, "tuning": tuning, "output_dir": str(folder), "store": store}
    )


def _unset(stage: Stage, values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if getattr(stage, key) is None}


def finished(folder: Path) -> RunResult:
    """The result of a finished run.

    Raises:
        UserError: when its report or its predictions are damaged.
    """
    adapter, report = folder / "adapter", read_report(folder)
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
    bench: Workbench, template: Template, folder: Path, resume: bool, timings: Timings, loader: Loader
) -> RunResult:
    config, data, base = bench.config, bench.data, bench.base
    inputs = {
        "pairs": pairs_hash(data.pairs, data.training),
        "sources": digest(data.sources),
        "prompt": digest(template),
        "base model": base.sha256,
    }
    same_inputs(folder, inputs)
    with timings.stage("baselines"):
        write_baselines(data, folder, lambda: loader.baselines(config.data))
    with timings.stage("tuning"):
        adapter = bench.tune(folder, resume)
    with timings.stage("scoring"):
        predictions, epochs, selected = bench.score(folder)
    describe_adapter(adapter, config, template, data)
    predictions = calibrated(with_questions(predictions, template, data), adapter, config.calibration.target)
    with replacing(folder / PREDICTIONS) as temporary:
        predictions.to_parquet(temporary, index=False)
    record: dict[str, Any] = {
        "task": "dataset_compare",
        "versions": versions(),
        "device": bench.device_name,
        "seeds": {"data": config.data.seed, "tuning": config.tuning.seed},
        "split_hash": split_hash(data.pairs),
        "data": {"source": data.source, "fingerprint": data.fingerprint},
        "base_model": {"name": base.name, "sha256": base.sha256},
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


def read_data(config: TaskConfig) -> PairData:
    """The pairs of a configuration."""
    return Loader().data(config.data)
