"""Running a study: its cells, each an ordinary run, then the page of what they show.

A study's folder has these files:

study.yaml           the resolved cells with which the folder was made
cells/NAME/          the run of a cell (of all folds, if its split has some), or its answers about random trials
notes/NAME.json      why a cell failed or was not run here; the next --resume tries it again
learning_curve.json  the baselines after different numbers of training networks
price-LEVEL.json     the baselines after training for some epochs
study.json, study.md, index.html
"""

from __future__ import annotations

import json
import logging
import shlex
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import yaml

from nngpt_ext.config import ResolvedConfig
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError, elsewhere, resuming, typed
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.io import cannot_write, inside, is_free, write_text
from nngpt_ext.light import check_whole
from nngpt_ext.models.base import base_folder
from nngpt_ext.run_folder import REPORT, check_config, is_finished, read_config, read_record, versions
from nngpt_ext.settings import filled
from nngpt_ext.study.grid import Cell, Grid, read_grid
from nngpt_ext.study.measurement import compare_bases, learning_curve, measure
from nngpt_ext.study.outcome import CellResult, CurvePoint, PricePoint, Study
from nngpt_ext.study.price import price_of_knowing
from nngpt_ext.study.sections import write_study
from nngpt_ext.tasks.folds import fold_runs, raise_failed, run_folds, unfinished
from nngpt_ext.tasks.pipeline import Loader, find_template, run_pipeline
from nngpt_ext.tasks.processes import RunProcesses, gpus
from nngpt_ext.tuning.ranks import one_process
from nngpt_ext.views.drawing import check_installed

log = logging.getLogger(__name__)

GRID, CURVE = "study.yaml", "learning_curve.json"
Point = TypeVar("Point", CurvePoint, PricePoint)


def run_study(
    config: Path, folder: Path, *, resume: bool = False, draw_only: bool = False, workers: int | None = None
) -> Study:
    """Run the cells of a study that are not finished, and write study.json, study.md and index.html.

    A cell that fails is noted with its error, and one whose base model is not available here as not run. The other
    cells are run all the same, and the next call with `resume` tries both again.

    Args:
        config: the study's file.
        folder: the study's folder.
        resume: continue the study in the folder.
        draw_only: run nothing; draw the page of what is finished.
        workers: runs at a time, each in a process with one thread; by default one for each GPU. One at a time they run
            in this process.

    Raises:
        UserError: before anything is computed: for faults in the file (all unknown names in one line), if the folder
            holds something else, and if matplotlib is not installed.
    """
    one_process("a study", "its runs follow one another: start it without torchrun or accelerate launch")
    grid = read_grid(config)
    if workers is not None and workers < 1:
        raise UserError(f"workers must be 1 or more, not {workers}")
    check_installed("the study's pictures", "study", "matplotlib")
    if not draw_only:
        check_whole()
    elif not (folder / GRID).is_file():
        raise UserError(f"there is no study in '{folder}' to draw; run it without {typed('--draw', 'draw_only')}")
    _claim(folder, grid, resume or draw_only)
    loader = Loader()
    if not draw_only:
        _run_cells(grid, folder, loader, workers or len(gpus()) or 1)
    curve = _kept(
        folder / CURVE, CurvePoint, lambda: learning_curve(grid.cells[0].config.data, grid.learning_curve, loader),
        compute=bool(grid.learning_curve and grid.cells) and not draw_only,
    )  # fmt: skip
    price = [
        point
        for level in grid.price
        for point in _kept(
            folder / f"price-{level}.json", PricePoint, partial(price_of_knowing, grid.data, level, loader),
            compute=not draw_only,
        )
    ]  # fmt: skip
    command = f"nngpt-ext study --config {shlex.quote(str(config))} --out {shlex.quote(str(folder))} --resume"
    study = _collected(grid, folder, command, curve, price)
    write_study(study, folder)
    return study


def _claim(folder: Path, grid: Grid, resume: bool) -> None:
    """Make the folder this study's own.

    Raises:
        UserError: if it holds something else, this study and `resume` is not set, or a study with another configuration
            (the line says what differs); if a link in it leads elsewhere; if it cannot be made.
    """
    for name in ("cells", "notes"):
        inside(folder, name)
    content: dict[str, Any] = {"learning_curve": grid.learning_curve, "cells": {}}
    for cell in grid.cells:  # no title, reason for not running a cell here or number of workers changes results
        config = cell.config.resolved(inside(folder, "cells", cell.run))
        content["cells"][cell.name] = config.model_dump(mode="json", exclude={"output_dir", "store", "workers"})
    if grid.price:
        content |= {"price": grid.price, "data": grid.data.model_dump(mode="json")}
    if (folder / GRID).is_file():
        found = read_config(folder / GRID)
        if other := sorted((found.get("cells") or {}).keys() ^ content["cells"].keys()):
            raise UserError(
                f"the study in '{folder}' was made with other cells: only one of the two has {', '.join(other[:3])}; "
                f"{elsewhere()}"
            )
        check_config(folder, _filled(found), _filled(content))
        if not resume:
            raise UserError(f"'{folder}' already holds this study; {resuming()}, or {elsewhere()}")
        return
    if folder.exists() and not (folder.is_dir() and is_free(folder, GRID)):
        raise UserError(f"'{folder}' is neither a study nor an empty folder; {elsewhere()}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from None
    write_text(folder / GRID, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))


def _filled(content: dict[str, Any]) -> dict[str, Any]:
    cells = {name: filled(ResolvedConfig, cell) for name, cell in content["cells"].items()}
    data = {"data": filled(DataConfig, content["data"])} if "data" in content else {}
    return {**content, **data, "cells": cells}


def _is_finished(folder: Path, cell: Cell) -> bool:
    return (inside(folder, "cells", cell.name) / REPORT).is_file()  # which is written last


def _note(folder: Path, cell: Cell) -> Path:
    """The file with the status of a cell that has no results, and the reason for it."""
    return inside(folder, "notes") / f"{cell.name}.json"


def _write_note(folder: Path, cell: Cell, status: str, reason: str) -> None:
    file = _note(folder, cell)
    file.parent.mkdir(exist_ok=True)
    write_text(file, json.dumps({"status": status, "reason": reason}, ensure_ascii=False) + "\n")


def _run_cells(grid: Grid, folder: Path, loader: Loader, workers: int) -> None:
    # Cells of one base model follow one another, so that it is loaded once; random trials come after their run.
    bases = list(dict.fromkeys(cell.base for cell in grid.cells))
    cells = sorted(grid.cells, key=lambda cell: (bases.index(cell.base), cell.tested_on == "random"))
    todo = [cell for cell in cells if not _is_finished(folder, cell)]
    failed: set[str] = set()
    with RunProcesses(workers) as processes:
        begun = {} if workers == 1 else _begun(todo, folder, processes)
        for number, cell in enumerate(todo, 1):
            progress = f"study: cell {number} of {len(todo)} to run, {cell.name}"
            _note(folder, cell).unlink(missing_ok=True)
            began = time.monotonic()
            try:
                reason = cell.not_here or _unavailable(cell)
                if reason is not None:
                    _write_note(folder, cell, "not run", reason)
                    log.info("%s: not run: %s", progress, reason)
                    continue
                log.info("%s", progress)
                if cell.run in failed:
                    raise UserError(f"the run that this cell uses has failed: {cell.run}")
                _wait_for(begun.get(cell.run, {}), cell, folder)
                _run_cell(cell, folder, loader)
            except Exception as error:  # whatever one cell does, the others continue
                failed.add(cell.run)
                _write_note(folder, cell, "failed", _one_line(error))
                log.warning("study: %s failed: %s", cell.name, _one_line(error))
                log.debug("study: %s failed", cell.name, exc_info=error)
            else:
                took = "" if cell.run in begun else f" in {(time.monotonic() - began) / 60:.1f} min"
                log.info("%s: finished%s", progress, took)


def _begun(cells: list[Cell], folder: Path, processes: RunProcesses) -> dict[str, dict[int, Future[None]]]:
    """The unfinished runs of cells, started in processes, by fold; a split without folds has one, 0."""
    begun: dict[str, dict[int, Future[None]]] = {}
    for cell in cells:
        place = inside(folder, "cells", cell.run)
        if cell.run in begun or cell.not_here or (place / REPORT).is_file():
            continue
        own = cell.config.model_copy(update={"output_dir": str(place)})
        with suppress(Exception):  # the cell says it when its turn comes
            if _unavailable(cell):
                continue
            if own.data.all_folds:
                runs = unfinished(fold_runs(own, place, resume=True))
                begun[cell.run] = {n: processes.submit(f"{cell.run}, fold {n}", run) for n, run in runs.items()}
            else:
                begun[cell.run] = {0: processes.submit(cell.run, own)}
    return begun


def _wait_for(runs: Mapping[int, Future[None]], cell: Cell, folder: Path) -> None:
    """Wait for all runs of a cell, then raise what the cell would raise in this process."""
    failed = {n: error for n, run in runs.items() if isinstance(error := run.exception(), Exception)}
    if failed and cell.config.data.all_folds:
        raise_failed(inside(folder, "cells", cell.run), failed)
    for error in failed.values():
        raise error


def _run_cell(cell: Cell, folder: Path, loader: Loader) -> None:
    """Run a cell, or what is left of it."""
    run = inside(folder, "cells", cell.run)
    if cell.config.data.all_folds:
        run_folds(cell.config, run, resume=True, loader=loader)
    else:
        run_pipeline(cell.config, run, resume=True, loader=loader)
    if cell.tested_on == "random":
        from nngpt_ext.study.random_trials import ask_random_trials

        ask_random_trials(run, cell.config, inside(folder, "cells", cell.name), loader)


def _unavailable(cell: Cell) -> str | None:
    """Why a cell's base model is not available on this machine, or None."""
    try:
        advice = "download it and name its folder in the bases of the study's file"
        base_folder(cell.config.model.base, revision=cell.config.model.revision, advice=advice)
    except UserError as error:
        return str(error)
    return None


def _kept(file: Path, kind: type[Point], measured: Callable[[], list[Point]], *, compute: bool) -> list[Point]:
    """The points in a file; those of `measured` if there is none and they are to be computed."""
    if file.is_file():
        return [kind.model_validate(point) for point in json.loads(file.read_text(encoding="utf-8"))]
    found = measured() if compute else []
    if found:
        write_text(file, json.dumps([point.model_dump() for point in found], indent=2) + "\n")
    return found


def _collected(grid: Grid, folder: Path, command: str, curve: list[CurvePoint], price: list[PricePoint]) -> Study:
    """All cells of a grid, with the figures of those that are finished."""
    cells = [_result(cell, folder) for cell in grid.cells]
    finished = [(cell, folder / "cells" / cell.name) for cell in cells if cell.figures is not None]
    reports = {cell.name: read_report(place) for cell, place in finished}
    found: dict[str, set[str]] = {}
    for report in reports.values():  # sessions may have used several versions, all of which are named
        for name, version in report.versions.items():
            found.setdefault(name, set()).add(str(version))
    return Study(
        title=grid.title,
        command=command,
        cells=cells,
        learning_curve=curve,
        price=price,
        comparisons=compare_bases(finished),
        versions={name: " and ".join(sorted(known)) for name, known in found.items()} or versions(),
        timings={name: round(sum(report.timings.values()), 1) for name, report in reports.items()},
    )


def _result(cell: Cell, folder: Path) -> CellResult:
    """The result of a cell. One whose files cannot be measured, for whatever reason, has failed."""
    found: dict[str, Any] = {"status": "waiting"}
    if _is_finished(folder, cell):
        own, run = (inside(folder, "cells", name) for name in (cell.name, cell.run))
        try:
            is_finished(run, cell.config.resolved(run), resume=True)  # raises if it has another configuration
            template, data = find_template(cell.prompt, cell.config.tuning.head), cell.config.data
            own_trials = data.tested_trials == "random" and data.evidence.of == "same"
            found = {
                "status": "finished",
                "device": read_record(run).get("device"),
                "spent": data.evidence.spent(data.epoch) if own_trials else None,
                "shows_answer": template.needs("norm_acc") or template.needs("norm_acc_2"),
                "figures": measure(own, run),
            }
        except Exception as error:  # a file that somebody changed fails in as many ways as there are libraries
            reason = _one_line(error)
            if not isinstance(error, UserError):
                reason = f"its files cannot be measured ({reason}); remove '{own}' and continue"
            found = {"status": "failed", "reason": reason}
            log.debug("study: %s cannot be shown", cell.name, exc_info=error)
    elif _note(folder, cell).is_file():
        found = json.loads(_note(folder, cell).read_text(encoding="utf-8"))
    elif cell.not_here is not None:
        found = {"status": "not run", "reason": cell.not_here}
    return CellResult.model_validate({**cell.model_dump(exclude={"config", "not_here"}), **found})


def _one_line(error: Exception) -> str:
    """An error on one line, with its type if it was not written for the user."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())
