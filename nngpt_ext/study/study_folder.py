"""The folder of a study: which study it belongs to, and what has become of each cell.

study.yaml           the resolved cells: what the folder was made with
cells/NAME/          the run of a cell, or what a run answered about random trials
notes/NAME.json      why a cell failed or was not run here; the next --resume tries it again
learning_curve.json  the baselines after so many training networks
study.json, study.md, index.html
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from nngpt_ext.errors import UserError
from nngpt_ext.io import cannot_write, inside, is_free, write_text
from nngpt_ext.run_folder import REPORT, read_config
from nngpt_ext.study.grid import Grid

GRID = "study.yaml"
_ELSEWHERE = ("output_dir", "store")  # where results go does not change what they are
_SHOWN = 3  # differences that a message names


class StudyFolder:
    """Paths of a study and the state of its cells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.curve = folder / "learning_curve.json"

    def cell(self, name: str) -> Path:
        """Where a cell's results are."""
        return inside(self.folder, "cells", name)

    def is_study(self) -> bool:
        """Whether the folder holds a study."""
        return (self.folder / GRID).is_file()

    def is_finished(self, name: str) -> bool:
        """Whether a cell has its report, which is written last."""
        return (self.cell(name) / REPORT).is_file()

    def note(self, name: str, status: str, reason: str) -> None:
        """Note why a cell has no results: `failed` or `not run`."""
        self._note(name).parent.mkdir(exist_ok=True)
        write_text(self._note(name), json.dumps({"status": status, "reason": reason}, ensure_ascii=False) + "\n")

    def forget(self, name: str) -> None:
        """Remove a cell's note, because it is tried again."""
        self._note(name).unlink(missing_ok=True)

    def noted(self, name: str) -> dict[str, object]:
        """The status and the reason that were noted for a cell; empty if nothing was."""
        file = self._note(name)
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    def _note(self, name: str) -> Path:
        return inside(self.folder, "notes") / f"{name}.json"

    def claim(self, grid: Grid, resume: bool) -> None:
        """Make the folder this study's own.

        Raises:
            UserError: when it holds something else, a study and `resume` is not set, or one of another
                configuration (the line says what differs), when a link in it leads elsewhere, and when it cannot
                be made.
        """
        for name in ("cells", "notes"):
            inside(self.folder, name)
        content = _content(grid, self)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"the output folder '{self.folder}' is a file; give another with --out")
        if self.is_study():
            differing = _differences(read_config(self.folder / GRID), content)
            if differing:
                more = f"; and {len(differing) - _SHOWN} more" if len(differing) > _SHOWN else ""
                raise UserError(
                    f"the study in '{self.folder}' was made with another config "
                    f"({'; '.join(differing[:_SHOWN])}{more}); give another folder with --out, or the original config"
                )
            if not resume:
                raise UserError(
                    f"'{self.folder}' already holds this study; continue it with --resume, or give another folder "
                    "with --out"
                )
        elif self.folder.is_dir() and not is_free(self.folder, GRID):
            raise UserError(
                f"the output folder '{self.folder}' holds files that are not of a study; give another with --out"
            )
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.is_study():  # before the cells' folder: a study that is killed here can still begin
                write_text(self.folder / GRID, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
            (self.folder / "cells").mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from None


def _content(grid: Grid, place: StudyFolder) -> dict[str, Any]:
    """What decides the results of a study; its title, and why a cell is not run here, do not."""
    cells = {}
    for cell in grid.cells:
        config = cell.config.resolved(place.cell(cell.run)).model_dump(mode="json")
        cells[cell.name] = {key: value for key, value in config.items() if key not in _ELSEWHERE}
    return {"learning_curve": grid.learning_curve, "cells": cells}


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two contents, in words."""
    old, new = there.get("cells") or {}, now["cells"]
    found = []
    if there.get("learning_curve") != now["learning_curve"]:
        found.append(f"learning_curve {there.get('learning_curve')} there, {now['learning_curve']} now")
    found += [f"cell {name} only there" for name in old if name not in new]
    found += [f"cell {name} only now" for name in new if name not in old]
    for name in (name for name in new if name in old):
        before, after = _flat(old[name]), _flat(new[name])
        found += [
            f"{key} {before.get(key)} there, {after.get(key)} now, in {name}"
            for key in {**before, **after}
            if before.get(key) != after.get(key)
        ]
    return found


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat
