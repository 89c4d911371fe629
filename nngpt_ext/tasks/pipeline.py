"""The stages of a run: LEMUR → pairs → baselines → base model → adapter → scores → report and store."""

from __future__ import annotations

import errno
import importlib.util
import platform
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.config import ModelConfig, ResolvedConfig, TaskConfig, TuningConfig
from nngpt_ext.data.families import THRESHOLD
from nngpt_ext.data.load import PairData, Records, load_pairs, read_records
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import split_hash
from nngpt_ext.errors import UserError, resuming, setting, typed
from nngpt_ext.evaluation.baselines import baseline_probabilities
from nngpt_ext.evaluation.report import Report, read_report
from nngpt_ext.extras import install_libraries
from nngpt_ext.io import file_digest, inside, remove, replacing
from nngpt_ext.models.base import base_folder, load_base
from nngpt_ext.predict.database import store_file
from nngpt_ext.predict.store import PredictionStore
from nngpt_ext.prompts.builtin import NAMES, get_template
from nngpt_ext.prompts.fields import GIVEN
from nngpt_ext.prompts.template import Template, load_template
from nngpt_ext.registry import finetuners
from nngpt_ext.run_folder import (
    ADAPTER,
    BASELINES,
    CHECKPOINTS,
    CONFIG,
    KEYS,
    PREDICTIONS,
    RECORD,
    WEIGHTS,
    claim,
    fold_name,
    is_finished,
    read_record,
    read_table,
    record_adapter,
    result_settings,
    same_inputs,
    versions,
    write_record,
)
from nngpt_ext.tasks.protocol import RunResult
from nngpt_ext.tasks.reporting import LEMUR, rebuild_report
from nngpt_ext.tuning.history import OnEpoch, read_history
from nngpt_ext.tuning.ranks import check_common, check_same, forget_launcher, is_first, of_first, one_process, size

if TYPE_CHECKING:
    import numpy as np

    from nngpt_ext.models.base import Base
    from nngpt_ext.tasks.workbench import Workbench

# These say how pairs are shown and drawn in training, not which pairs there are.
_NOT_OF_PAIRS = {"code_tokens", "compact_code", "pairs_per_network"}


class Loader:
    """Loads records, pairs, baselines and base models for one run, or for several that share what is loaded.

    All records and baselines stay in memory; pairs and base models are large, so only the last ones do.
    """

    def __init__(self) -> None:
        self._records: dict[str, Records] = {}
        self._baselines: dict[str, dict[str, np.ndarray]] = {}
        self._data: dict[str, PairData] = {}
        self._base: dict[str, Base] = {}

    def data(self, config: DataConfig, required: Collection[str] = ()) -> PairData:
        """The pairs of a configuration, of trials that have what is required.

        Raises:
            UserError: as `load_pairs`.
        """
        key = _key(config, required)
        place = repr((config.places, config.epoch, config.evidence.epochs))
        if key not in self._data:
            self._data.clear()  # before the next pairs are loaded
            if place not in self._records:
                self._records[place] = read_records(config)
            self._data[key] = load_pairs(config, self._records[place], required)
        return self._data[key]

    def baselines(self, config: DataConfig, required: Collection[str] = ()) -> dict[str, np.ndarray]:
        """The result of `baseline_probabilities` for the pairs of a configuration, as `data` has them."""
        key = _key(config, required)
        if key not in self._baselines:
            self._baselines[key] = baseline_probabilities(self.data(config, required))
        return self._baselines[key]

    def base(self, config: ModelConfig) -> Base:
        """The base model of a configuration; runs leave it unchanged.

        Raises:
            UserError: as `load_base`.
        """
        key = config.model_dump_json(exclude={"lora"})
        if key not in self._base:
            self._base.clear()
            self._base[key] = load_base(
                config.base, load_in_4bit=config.load_in_4bit, revision=config.revision,
                trust_remote_code=config.trust_remote_code, configured=True,
            )  # fmt: skip
        return self._base[key]


def _key(config: DataConfig, required: Collection[str]) -> str:
    return config.model_dump_json(exclude=_NOT_OF_PAIRS) + " ".join(sorted(required))


def run_pipeline(
    config: TaskConfig, folder: Path, resume: bool, loader: Loader | None = None, on_epoch: OnEpoch | None = None
) -> RunResult[Report]:
    """Run `dataset_compare`; see the task class. Several runs may share a loader, and several processes one run.

    A launcher's variables are removed for good: a script of one process may call this under torchrun.
    """
    forget_launcher()
    timings, loader, resolved = Timings(), loader or Loader(), config.resolved(folder)
    check_same("settings", result_settings(resolved.model_dump(mode="json")))
    if (done := of_first(lambda: begin(resolved, folder, resume))) is not None:
        return done
    template = find_template(config.prompt, config.tuning.head)
    with timings.stage("data"):
        data = loader.data(resolved.data, template.required)
    with timings.stage("base model"):
        base = loader.base(config.model)
    from nngpt_ext.tasks.workbench import Workbench  # which loads torch
    from nngpt_ext.tuning.threads import kept_threads

    with timings.stage("tokens"):  # a question that is too long is reported here, before a folder is made
        bench = Workbench(resolved, template, base, data)
    if size() > 1:
        check_same("inputs", bench.prepared())
    if of_first(lambda: claim(folder, resolved, resume)):
        return finished(folder)
    check_common(folder / CONFIG)
    try:
        of_first(lambda: same_inputs(folder, *bench.inputs))  # before another process writes to the folder
        with kept_threads():
            if not is_first():
                bench.tune(folder)
                bench.score(folder)
            return of_first(lambda: _run(bench, folder, timings, loader, on_epoch))
    except Exception as error:  # a full disk is an OSError, a RuntimeError (torch) or a SafetensorError
        if getattr(error, "errno", None) == errno.ENOSPC or "No space left on device" in str(error):
            raise UserError(f"no space left on the disk for '{folder}'; free some, then {resuming()}") from error
        raise


def begin(config: ResolvedConfig, folder: Path, resume: bool) -> RunResult[Report] | None:
    """The finished run of this configuration, or None if it can be run; nothing is written.

    Raises:
        UserError: as `is_finished`; for all faults of the configuration at once; for a store that cannot be used.
    """
    model, head = config.model, config.tuning.head
    faults = _faults(
        lambda: check_evidence(find_template(config.prompt, head), config.data),
        lambda: _check_finetuner(config.tuning),
        lambda: _check_trackers(config.tuning.report_to),
    )
    if not faults and is_finished(folder, config, resume):
        same_inputs(folder, {"prompt": find_template(config.prompt, head).hash})
        return finished(folder)
    # All faults of the configuration are reported at once; quick checks come first.
    faults += _faults(
        lambda: base_folder(model.base, revision=model.revision, configured=True),
        lambda: _check_links(config, folder),
    )
    if faults:
        raise UserError("; ".join(faults))
    if config.store is not None:
        PredictionStore.check(config.store)
    return None


def find_template(prompt: str, head: str = "answer") -> Template:
    """A registered prompt, or one read from a file `NAME.json`; for the head `lines`, with a line.

    Raises:
        UserError: for an unknown prompt or a damaged file, and for one without a line.
    """
    if not prompt.endswith(".json") and Path(prompt).is_file():
        raise UserError(f"prompt '{prompt}' is a file whose name does not end in .json; rename it")
    found = load_template(prompt) if prompt.endswith(".json") else get_template(prompt)
    if head != "lines":
        return found
    if found.lines is None:
        having = ", ".join(name for name in NAMES if get_template(name).lines is not None)
        raise UserError(
            f"prompt '{found.name}' has no lines, one for each dataset, which tuning.head=lines scores; use a prompt "
            f"with lines ({having}), or set tuning.head=answer"
        )
    return found.lines


def check_evidence(template: Template, data: DataConfig) -> None:
    """Check that the epochs of early accuracies are set for a prompt that shows them."""
    if template.takes(GIVEN["evidence"]) and not data.evidence.epochs:
        example = typed("--set data.evidence.epochs=[1]", 'data={"evidence": {"epochs": [1]}}')
        raise UserError(f"prompt '{template.name}' shows early accuracies: set their epochs, for example {example}")


def _check_finetuner(config: TuningConfig) -> None:
    name = config.finetuner
    finetuners.get(name)
    if name != "qlora" and config.init_from is not None:
        raise UserError(f"only {setting('tuning.finetuner', 'qlora')} reads tuning.init_from, not '{name}'")
    if name != "qlora":
        one_process(f"the fine-tuner '{name}'", f"use {setting('tuning.finetuner', 'qlora')}, or start the run alone")


def _check_trackers(names: Sequence[str]) -> None:
    missing = [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"tuning.report_to: {', '.join(missing)} not installed; type: {install_libraries(missing)}")


def _faults(*checks: Callable[[], Any]) -> list[str]:
    faults = []
    for check in checks:
        try:
            check()
        except UserError as error:
            faults.append(str(error))
    return faults


def _check_links(config: ResolvedConfig, folder: Path) -> None:
    """Check that no link leads out of the run's folder from a place that is written to."""
    names = [Path(ADAPTER), Path(CHECKPOINTS)]
    file, top = None if config.store is None else store_file(config.store), folder.resolve()
    if file is not None and (place := file.parent.resolve() / file.name).is_relative_to(top):
        names.append(place.relative_to(top))  # SQLite itself follows no link beside a database
    for name in names:
        inside(folder, name)


def finished(folder: Path) -> RunResult[Report]:
    """A finished run, of one fold or all of them, from its files.

    Raises:
        UserError: if one of them is missing or was changed.
    """
    folds = [fold_name(i) for i in range(len(read_record(folder).get("folds", ())))]
    read_record(folder, checked=(CONFIG, BASELINES, PREDICTIONS, ADAPTER, *folds))
    adapter = folder / ADAPTER
    predictions = read_table(folder / PREDICTIONS)
    return RunResult(folder, read_report(folder), predictions, adapter if adapter.is_dir() else None)


class Timings(dict[str, float]):
    """Seconds by stage."""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self[name] = round(time.monotonic() - start, 2)


def _run(
    bench: Workbench, folder: Path, timings: Timings, loader: Loader, on_epoch: OnEpoch | None
) -> RunResult[Report]:
    import torch

    from nngpt_ext.tasks.workbench import calibrated

    config, data, base = bench.config, bench.data, bench.base
    with timings.stage("baselines"), replacing(folder / BASELINES) as temporary:
        data.part("test")[KEYS].assign(**loader.baselines(config.data, bench.template.required)).to_parquet(
            temporary, index=False
        )
    with timings.stage("tuning"):
        adapter = bench.tune(folder, on_epoch)
    with timings.stage("scoring"):
        predictions, epochs, selected = bench.score(folder)
    bench.describe(adapter)
    unseen = data.held_out is not None
    predictions = calibrated(bench.with_questions(predictions), adapter, config.calibration.target, unseen=unseen)
    record_adapter(adapter)
    remove(folder / RECORD)  # of an earlier scoring, whose files are replaced
    with replacing(folder / PREDICTIONS) as temporary:
        predictions.to_parquet(temporary, index=False)
    cut = sorted(bench.encoder.cut_networks())
    record: dict[str, Any] = {
        "task": "dataset_compare",
        "versions": {name: found for name, found in versions().items() if name != LEMUR or data.place is None},
        "device": torch.cuda.get_device_name() if base.device.type == "cuda" else f"{platform.machine()} CPU",
        "threads": torch.get_num_threads(),  # after training, which may have chosen fewer; see history.json
        "processes": size(),
        "seeds": {"data": config.data.seed, "tuning": config.tuning.seed},
        "split_hash": split_hash(data.pairs),
        "data": {"source": data.source, "fingerprint": data.fingerprint} | ({"path": data.place} if data.place else {}),
        "available_networks": data.networks,
        "unpaired_networks": data.unpaired,
        "base_model": {"name": base.name, "sha256": base.sha256, "identity": dict(base.identity)},
        "adapter_sha256": file_digest(adapter / WEIGHTS),
        "parts": {part: int(n) for part, n in data.pairs["split"].value_counts().items()},
        "networks": {part: int(n) for part, n in data.pairs.groupby("split")["nn"].nunique().items()},
        "training_pairs": len(data.training),
        "training_pairs_seen": sum(entry["examples"] for entry in read_history(folder)) // config.tuning.orders,
        "excluded": data.excluded,
        **({"evidence": dict(data.evidence), "without_evidence": dict(data.without_evidence)} if data.evidence else {}),
        **bench.begun,
        "near_duplicates": sorted(data.near_duplicates()),
        "near_duplicate_threshold": THRESHOLD,
        **({"held_out": data.held_out} if data.held_out else {}),
        "families": {nn: data.families[nn] for nn in sorted(set(data.part("test")["nn"])) if nn in data.families},
        "epochs": epochs,
        "selected_epoch": selected,
        "read_networks": int(data.pairs["nn"].nunique()),
        "cut_networks": len(cut),
        "cut": cut,
        "timings": dict(timings),
    }
    if config.store is not None:  # before the record, without which there is no report, and no finished run
        with PredictionStore.open(config.store) as store:
            store.add_run(folder)
    write_record(folder, record)
    return RunResult(folder, rebuild_report(folder), predictions, adapter)
