"""Running a study: its cells one after another, each an ordinary run; then the page."""

from __future__ import annotations

import logging
import shlex
import time
from pathlib import Path

from nngpt_ext.errors import UserError
from nngpt_ext.models.base import base_folder
from nngpt_ext.study.canvas import check_matplotlib
from nngpt_ext.study.collect import collect, one_line, seconds_of
from nngpt_ext.study.curve import learning_curve
from nngpt_ext.study.folder import StudyFolder
from nngpt_ext.study.grid import Cell, Grid, read_grid
from nngpt_ext.study.schema import Study
from nngpt_ext.study.write import write_study
from nngpt_ext.tasks.loading import Loader
from nngpt_ext.tasks.pipeline import run_pipeline

log = logging.getLogger(__name__)


def run_study(config: Path, folder: Path, *, resume: bool = False, draw_only: bool = False) -> Study:
    """Run the cells of a study that are not finished, and write study.json, study.md and index.html.

    A cell that fails is noted with its error, one whose base model cannot be had here as not run; the others
    go on, and both are tried again by the next call with `resume`.

    Args:
        config: the study's file.
        folder: the study's folder.
        resume: go on with the study in the folder.
        draw_only: run nothing; draw the page of what is finished.

    Raises:
        UserError: for faults in the file, all unknown names in one line, a folder of something else, and
            where matplotlib is missing; before anything is computed.
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
    curve = learning_curve(grid, place, loader, compute=not draw_only)
    command = f"nngpt-ext study --config {shlex.quote(str(config))} --out {shlex.quote(str(folder))} --resume"
    study = collect(grid, place, curve, command)
    write_study(study, folder)
    return study


def _run_cells(grid: Grid, place: StudyFolder, loader: Loader) -> None:
    """Run what is not finished, and note what fails or cannot run here."""
    todo = [cell for cell in _by_base(grid.cells) if not place.is_finished(cell.name)]
    done = len(grid.cells) - len(todo)
    if done:
        log.info("study: %d of %d cells are finished", done, len(grid.cells))
    seconds = [seconds_of(place.cell(cell.name)) for cell in grid.cells if cell not in todo]
    failed: set[str] = set()
    for number, cell in enumerate(todo, done + 1):
        place.forget(cell.name)
        reason = _not_here(cell)
        if reason is not None:
            place.note(cell.name, "not run", reason)
            log.info("study: cell %d of %d, %s: not run: %s", number, len(grid.cells), cell.name, reason)
            continue
        log.info("study: cell %d of %d, %s%s", number, len(grid.cells), cell.name, _left(seconds, todo, number - done))
        began = time.monotonic()
        try:
            if cell.run in failed:
                raise UserError(f"the run that it asks failed: {cell.run}")
            _run_cell(cell, place, loader)
        except Exception as error:  # whatever a cell does, the others go on
            fault = one_line(error)
            place.note(cell.name, "failed", fault)
            failed.add(cell.run)
            log.warning("study: %s failed: %s", cell.name, fault)
            log.debug("study: %s failed", cell.name, exc_info=error)
        else:
            seconds.append(time.monotonic() - began)


def _run_cell(cell: Cell, place: StudyFolder, loader: Loader) -> None:
    run_pipeline(cell.config, place.cell(cell.run), resume=True, loader=loader)
    if cell.tested_on == "random":
        from nngpt_ext.study.random_trials import ask_random_trials

        ask_random_trials(place.cell(cell.run), cell.config, place.cell(cell.name), loader)


def _by_base(cells: list[Cell]) -> list[Cell]:
    """The cells with those of one base model together, that it is loaded once; random trials behind their run."""
    bases = list(dict.fromkeys(cell.base for cell in cells))
    return sorted(cells, key=lambda cell: (bases.index(cell.base), cell.tested_on == "random"))


def _not_here(cell: Cell) -> str | None:
    """Why a cell is not run on this machine, or None."""
    if cell.not_here is not None:
        return cell.not_here
    try:
        base_folder(cell.config.model.base, revision=cell.config.model.revision)
    except UserError as error:
        return str(error)
    return None


def _left(seconds: list[float], todo: list[Cell], number: int) -> str:
    """Such as `, about 24 min left`: the cells to come at the mean time of those that are finished."""
    if not seconds:
        return ""
    coming = sum(cell.not_here is None for cell in todo[number - 1 :])
    return f", about {coming * sum(seconds) / len(seconds) / 60:.0f} min left"
