"""`run_task`: find the task and its configuration, and run it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from nngpt_ext.errors import UserError
from nngpt_ext.registry import tasks
from nngpt_ext.settings import build_config, find_project, known_keys, parse_settings, read_project
from nngpt_ext.tasks.protocol import RunResult
from nngpt_ext.tuning.history import OnEpoch

if TYPE_CHECKING:
    from nngpt_ext.evaluation.report import Report


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
        config: a YAML file, a mapping, or None: the nearest `nngpt.yaml` in this folder or above, in which
            the task is enabled.
        output_dir: the run's folder; by default the configuration's.
        resume: continue an unfinished run, or return a finished one.
        settings: `key=value` texts as of `--set`, for example `["tuning.epochs=3"]`.
        on_epoch: called after each tuning epoch with the entries of all epochs so far (see
            `nngpt_ext.tuning.history.Validation.epoch_ended`), for example `LiveCurves()` in a notebook.
        **overrides: keys of the configuration, for example `prompt="recipe"`, `tuning={"epochs": 3}`.

    Returns:
        The run's report, predictions and adapter.

    Raises:
        UserError: for an unknown task, no configuration, or an invalid one, and for `on_epoch` where a task takes none.
    """
    task = tasks.get(name)
    given = _given(name, config)
    where = {} if output_dir is None else {"output_dir": str(output_dir)}
    if output_dir is not None and "output_dir" not in known_keys(task.Config):
        where = {}
    built = build_config(task.Config, given, parse_settings(list(settings)), overrides, where)
    folder = output_dir if output_dir is not None else getattr(built, "output_dir", f"runs/{name}")
    run = task().run
    if on_epoch is None:
        return run(built, Path(folder), resume=resume)
    if "on_epoch" not in inspect.signature(run).parameters:
        raise UserError(f"task '{name}' does not report epochs: its run takes no on_epoch; leave on_epoch out")
    return run(built, Path(folder), resume=resume, on_epoch=on_epoch)


def _given(name: str, config: str | Path | Mapping[str, Any] | None) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return config
    if config is not None:
        return read_project(config, name)
    found = find_project()
    if found is None:
        raise UserError(
            f"no configuration for '{name}': give one (--config FILE, in Python config=…), or enable the task in "
            f"nngpt.yaml in this folder or above: tasks: {{{name}: {{}}}}"
        )
    return read_project(found, name)
