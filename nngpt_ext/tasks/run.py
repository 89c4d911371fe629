"""`run_task`: find the task and its configuration, and run it."""

from __future__ import annotations

import inspect
import logging
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError, setting, typed
from nngpt_ext.registry import tasks
from nngpt_ext.settings import PROJECT_FILE, build_config, find_project, parse_settings, read_project
from nngpt_ext.tasks.protocol import RunResult
from nngpt_ext.tuning.history import OnEpoch

if TYPE_CHECKING:
    from nngpt_ext.evaluation.report import Report


log = logging.getLogger(__name__)


@overload
def run_task(
    name: Literal["dataset_compare"],
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    output_dir: str | Path | None = None,
    resume: bool = False,
    settings: Sequence[str] = (),
    on_epoch: OnEpoch | None = None,
    **overrides: Any,
) -> RunResult[Report]: ...


@overload
def run_task(
    name: str,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    output_dir: str | Path | None = None,
    resume: bool = False,
    settings: Sequence[str] = (),
    on_epoch: OnEpoch | None = None,
    **overrides: Any,
) -> RunResult[Any]: ...


def run_task(
    name: str,
    config: str | Path | Mapping[str, Any] | None = None,
    *,
    output_dir: str | Path | None = None,
    resume: bool = False,
    settings: Sequence[str] = (),
    on_epoch: OnEpoch | None = None,
    **overrides: Any,
) -> RunResult[Any]:
    """Run a registered task.

    Args:
        name: the task, for example `dataset_compare`.
        config: a YAML file, a mapping, or None for the nearest `nngpt.yaml` in this folder or above that enables
            the task. Without such a file, keys that are neither in `settings` nor in `overrides` have their defaults.
        output_dir: the run's folder; by default the configuration's.
        resume: continue an unfinished run, or return a finished one.
        settings: `key=value` texts as for `--set`, for example `["tuning.epochs=3"]`.
        on_epoch: called after each tuning epoch with the entries of all epochs so far (see
            `nngpt_ext.tuning.history.Validation.epoch_ended`), for example `LiveCurves()` in a notebook.
        **overrides: keys of the configuration, for example `prompt="recipe"`, `tuning={"epochs": 3}`.

    Returns:
        The run's report, predictions and adapter.

    Raises:
        UserError: for an unknown task, a missing or invalid configuration, and `on_epoch` for a task that has none.
    """
    task = tasks.get(name)
    more = {} if output_dir is None or "output_dir" not in task.Config.model_fields else {"output_dir": str(output_dir)}
    given = [parse_settings(settings), overrides]
    read = _read(name, config, any(given))
    built = build_config(task.Config, read or {}, *given, more)
    if read is None:
        log.warning("no configuration file: every key that is not set has its default%s", _main_keys(built))
    folder = Path(output_dir if output_dir is not None else getattr(built, "output_dir", f"runs/{name}"))
    run = task().run
    if on_epoch is None:
        return run(built, folder, resume=resume)
    if "on_epoch" not in inspect.signature(run).parameters:
        raise UserError(f"task '{name}' does not report epochs: its run has no argument on_epoch; leave it out")
    return run(built, folder, resume=resume, on_epoch=on_epoch)


def _main_keys(built: Any) -> str:
    """What a configuration of `dataset_compare` amounts to, for a message."""
    if not isinstance(built, TaskConfig):
        return ""
    return f" (model.base {built.model.base}, prompt {built.prompt}, data.split {built.data.split})"


def _read(name: str, config: str | Path | Mapping[str, Any] | None, more: bool) -> Mapping[str, Any] | None:
    """The configuration as given, or None if there is no file and `more` keys are given otherwise."""
    if isinstance(config, Mapping):
        return config
    found = config if config is not None else find_project()
    if found is None and more:
        return None
    if found is None:
        file = typed("--config FILE", "config=FILE")
        key = setting("model.base", "embedded") if name == "dataset_compare" else typed("--set KEY=VALUE", "KEY=VALUE")
        raise UserError(
            f"no configuration for '{name}': give a file ({file}) or what differs from the defaults ({key}), or enable "
            f"the task in {PROJECT_FILE} in this folder or above: tasks: {{{name}: {{}}}}"
        )
    read = read_project(found, name)
    if name == "dataset_compare" and "cells" in read:
        raise UserError(f"'{found}' is a study; type: nngpt-ext study --config {shlex.quote(str(found))}")
    return read
