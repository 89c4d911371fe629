"""Running a study: its cells one after another, each an ordinary run; then what they show."""

from __future__ import annotations

import json
import logging
import shlex
import time
from pathlib import Path

from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.io import write_text
from nngpt_ext.models.base import base_folder
from nngpt_ext.run_folder import is_finished, read_record, versions
from nngpt_ext.study.grid import Cell, Grid, read_grid
from nngpt_ext.study.measurement import compare_bases, learning_curve, measure
from nngpt_ext.study.outcome import CellResult, CurvePoint, Study
from nngpt_ext.study.pictures import check_matplotlib
from nngpt_ext.study.sections import write_study
from nngpt_ext.study.study_folder import StudyFolder
from nngpt_ext.tasks.pipeline import Loader, find_template, run_pipeline

log = logging.getLogger(__name__)


def run_study(config: Path, folder: Path, *, resume: bool = False, draw_only: bool = False) -> Study:
    """Run the cells of a study that are not finished, and write study.json, study.md and index.html.

    A cell that fails is noted with its error, and one whose base model is not available here as not run. The others
    continue, and the next call with `resume` tries both again.

    Args:
        config: the study's file.
        folder: the study's folder.
        resume: continue the study in the folder.
        draw_only: run nothing; draw the page of what is finished.

    Raises:
        UserError: before anything is computed, for faults in the file (all unknown names in one line), for a folder
            of something else, and when matplotlib is missing.
    """
    grid = read_grid(config)
    check_matplotlib()
    place = StudyFolder(folder)
    if draw_only and not place.is_study():
        raise UserError(f"there is no study in '{folder}' to draw; run it without --draw")
    place.claim(grid, resume or draw_only)
    loader = Loader()
    if not draw_only:
        _run_cells(grid, place, loader)
    curve = _curve(grid, place, loader, compute=not draw_only)
    command = f"nngpt-ext study --config {shlex.quote(str(config))} --out {shlex.quote(str(folder))} --resume"
    study = _collected(grid, place, curve, command)
    write_study(study, folder)
    return study


def _run_cells(grid: Grid, place: StudyFolder, loader: Loader) -> None:
    """Run what is not finished, and note what fails or cannot run here."""
    # Cells of one base model follow one another, so that it is loaded once; random trials come after their run.
    bases = list(dict.fromkeys(cell.base for cell in grid.cells))
    cells = sorted(grid.cells, key=lambda cell: (bases.index(cell.base), cell.tested_on == "random"))
    todo = [cell for cell in cells if not place.is_finished(cell.name)]
    failed: set[str] = set()
    for number, cell in enumerate(todo, 1):
        progress = f"study: cell {number} of {len(todo)} to run, {cell.name}"
        place.forget(cell.name)
        reason = cell.not_here or _unavailable(cell)
        if reason is not None:
            place.note(cell.name, "not run", reason)
            log.info("%s: not run: %s", progress, reason)
            continue
        log.info("%s", progress)
        began = time.monotonic()
        try:
            if cell.run in failed:
                raise UserError(f"the run that this cell asks has failed: {cell.run}")
            run_pipeline(cell.config, place.cell(cell.run), resume=True, loader=loader)
            if cell.tested_on == "random":
                from nngpt_ext.study.random_trials import ask_random_trials

                ask_random_trials(place.cell(cell.run), cell.config, place.cell(cell.name), loader)
        except Exception as error:  # whatever one cell does, the others continue
            failed.add(cell.run)
            place.note(cell.name, "failed", _one_line(error))
            log.warning("study: %s failed: %s", cell.name, _one_line(error))
            log.debug("study: %s failed", cell.name, exc_info=error)
        else:
            log.info("%s: finished in %.1f min", progress, (time.monotonic() - began) / 60)


def _unavailable(cell: Cell) -> str | None:
    """Why a cell's base model is not available on this machine, or None."""
    try:
        base_folder(cell.config.model.base, revision=cell.config.model.revision)
    except UserError as error:
        return str(error)
    return None


def _curve(grid: Grid, place: StudyFolder, loader: Loader, *, compute: bool) -> list[CurvePoint]:
    """The baselines' learning curve, which is kept in the study's folder."""
    if place.curve.is_file():
        return [CurvePoint.model_validate(point) for point in json.loads(place.curve.read_text(encoding="utf-8"))]
    if not compute or not grid.learning_curve:
        return []
    found = learning_curve(grid.cells[0].config.data, grid.learning_curve, loader)
    if found:
        write_text(place.curve, json.dumps([point.model_dump() for point in found], indent=2) + "\n")
    return found


def _collected(grid: Grid, place: StudyFolder, curve: list[CurvePoint], command: str) -> Study:
    """All cells of a grid with what was measured of those that are finished."""
    cells = [_result(cell, place) for cell in grid.cells]
    finished = [cell for cell, result in zip(grid.cells, cells, strict=True) if result.figures is not None]
    reports = {cell.name: read_report(place.cell(cell.name)) for cell in finished}
    found: dict[str, set[str]] = {}
    for report in reports.values():  # sessions may have used several versions: all of them are named
        for name, version in report.versions.items():
            found.setdefault(name, set()).add(str(version))
    return Study(
        title=grid.title,
        command=command,
        cells=cells,
        learning_curve=curve,
        comparisons=compare_bases([(cell, place.cell(cell.name)) for cell in finished]),
        versions={name: " and ".join(sorted(known)) for name, known in found.items()} or versions(),
        timings={name: round(sum(report.timings.values()), 1) for name, report in reports.items()},
    )


def _result(cell: Cell, place: StudyFolder) -> CellResult:
    """What became of a cell. One whose files cannot be measured, for whatever reason, has failed."""
    found: dict[str, object] = {"status": "waiting"}
    if place.is_finished(cell.name):
        try:
            run = place.cell(cell.run)
            is_finished(run, cell.config.resolved(run), resume=True)  # raises if it is of another config
            figures = measure(place.cell(cell.name), run)
            template, device = find_template(cell.prompt), read_record(run).get("device")
            shown = template.needs("norm_acc") or template.needs("norm_acc_2")
            found = {"status": "finished", "device": device, "shows_answer": shown, "figures": figures}
        except Exception as error:  # a file that somebody changed fails in as many ways as there are libraries
            reason = _one_line(error)
            if not isinstance(error, UserError):
                reason = f"its files cannot be measured ({reason}); remove '{place.cell(cell.name)}' and continue"
            found = {"status": "failed", "reason": reason}
            log.debug("study: %s cannot be shown", cell.name, exc_info=error)
    elif noted := place.noted(cell.name):
        found = noted
    elif cell.not_here is not None:
        found = {"status": "not run", "reason": cell.not_here}
    return CellResult.model_validate({**cell.model_dump(exclude={"config", "not_here"}), **found})


def _one_line(error: Exception) -> str:
    """What an error says, on one line; with its type if it was not written for the user."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())
