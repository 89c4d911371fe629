"""From a study's folder to what study.json says."""

from __future__ import annotations

import logging
import os
import platform
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.study.compare import compare_bases
from nngpt_ext.study.folder import StudyFolder
from nngpt_ext.study.grid import Cell, Grid
from nngpt_ext.study.measure import measure
from nngpt_ext.study.schema import CellResult, CurvePoint, Study
from nngpt_ext.tasks.folder import is_finished, read_record, versions
from nngpt_ext.tasks.pipeline import resolve

log = logging.getLogger(__name__)


def collect(grid: Grid, place: StudyFolder, curve: list[CurvePoint], command: str) -> Study:
    """All cells of a grid with what was measured of those that are finished.

    A cell whose files cannot be read or measured, for whatever reason, is a failed one: the others are shown.
    """
    cells = [_result(cell, place) for cell in grid.cells]
    finished = [cell for cell, result in zip(grid.cells, cells, strict=True) if result.figures is not None]
    found: dict[str, str] = {}
    for cell in finished:  # of several sittings with several versions all are named
        for name, version in read_record(place.cell(cell.run))["versions"].items():
            known = found.setdefault(name, version)
            if version not in known.split(" and "):
                found[name] = f"{known} and {version}"
    return Study(
        title=grid.title,
        command=command,
        cells=cells,
        learning_curve=curve,
        comparisons=compare_bases([(cell, place.cell(cell.name)) for cell in finished]),
        hardware=_hardware(),
        versions=found or versions(),
        timings={cell.name: seconds_of(place.cell(cell.name)) for cell in finished},
    )


def _result(cell: Cell, place: StudyFolder) -> CellResult:
    status, reason, figures, device = "waiting", None, None, None
    noted = place.noted(cell.name)
    if place.is_finished(cell.name):
        try:
            run = place.cell(cell.run)
            is_finished(run, resolve(cell.config, run), resume=True)  # which says whether it is of another config
            record = read_record(run, ("versions",))
            dict(record["versions"])
            device = record.get("device")
            figures = measure(place.cell(cell.name), run)
            status = "finished"
        except Exception as error:  # a file that somebody changed fails in as many ways as there are libraries
            status, reason = "failed", one_line(error)
            if not isinstance(error, UserError):
                reason = f"its files cannot be measured ({reason}); remove '{place.cell(cell.name)}' and go on"
            log.debug("study: %s cannot be shown", cell.name, exc_info=error)
    elif noted is not None:
        status, reason = noted
    elif cell.not_here is not None:
        status, reason = "not run", cell.not_here
    own = cell.model_dump(exclude={"config", "not_here"})
    return CellResult.model_validate({**own, "status": status, "reason": reason, "device": device, "figures": figures})


def one_line(error: Exception) -> str:
    """What an error says, on one line; its type too where it was not written for the user."""
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return " ".join(f"{kind}{error}".split())


def seconds_of(folder: Path) -> float:
    """How long a finished cell took in its last sitting; 0 where its report cannot be read."""
    try:
        timings = read_report(folder).timings
    except UserError:
        return 0.0
    return round(sum(value for value in timings.values() if isinstance(value, (int, float))), 1)


def _hardware() -> dict[str, Any]:
    """The machine that wrote the page; where a cell ran stands with the cell."""
    import psutil

    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory": f"{psutil.virtual_memory().total / 2**30:.0f} GiB",
        "system": platform.system(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
