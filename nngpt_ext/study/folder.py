"""The folder of a study: whose it is, and what has become of each cell.

study.yaml           the cells, resolved: what the folder was made with
cells/NAME/          the run of a cell, or what a run answered about random trials
notes/NAME.json      why a cell failed, or was not run here; it is tried again with --resume
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
from nngpt_ext.files import cannot_write, inside, is_free, write_text
from nngpt_ext.study.grid import Grid
from nngpt_ext.tasks.folder import REPORT, read_config
from nngpt_ext.tasks.pipeline import resolve

GRID = "study.yaml"
_ELSEWHERE = ("output_dir", "store")  # where results go does not change what they are


class StudyFolder:
    """Paths of a study and the state of its cells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def cell(self, name: str) -> Path:
        """Where a cell's results are."""
        return inside(self.folder, "cells", name)

    def is_study(self) -> bool:
        """Whether it holds a study."""
        return (self.folder / GRID).is_file()

    def is_finished(self, name: str) -> bool:
        """Whether a cell has its report, which is written last."""
        return (self.cell(name) / REPORT).is_file()

    def note(self, name: str, status: str, reason: str) -> None:
        """Note why a cell has no results: `failed` or `not run`."""
        file = self._note(name)
        file.parent.mkdir(exist_ok=True)
        write_text(file, json.dumps({"status": status, "reason": reason}, indent=2, ensure_ascii=False) + "\n")

    def forget(self, name: str) -> None:
        """Take a cell's note away: it is tried again."""
        self._note(name).unlink(missing_ok=True)

    def noted(self, name: str) -> tuple[str, str] | None:
        """The status and the reason that were noted of a cell."""
        try:
            found = json.loads(self._note(name).read_text(encoding="utf-8"))
            return str(found["status"]), str(found["reason"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError):
            return "failed", "the note of it cannot be read; go on with --resume"

    def _note(self, name: str) -> Path:
        return inside(self.folder, "notes") / f"{name}.json"

    def check(self, grid: Grid, resume: bool) -> None:
        """See that the folder is free for a study, or holds this very one. Nothing is written.

        Raises:
            UserError: when it holds something else, a study and `resume` is not set, or one of another
                configuration: the line says what differs; and when a link in it leads elsewhere.
        """
        for name in ("cells", "notes"):
            inside(self.folder, name)
        if self.folder.exists() and not self.folder.is_dir():
            raise UserError(f"the output folder '{self.folder}' is a file; give another with --out")
        present = self.folder / GRID
        if present.is_file():
            differs = _differences(read_config(present), _content(grid, self))
            if differs:
                raise UserError(
                    f"the study in '{self.folder}' was made with another config ({differs}); "
                    "give another folder with --out, or the config it was made with"
                )
            if not resume:
                raise UserError(
                    f"a study is in '{self.folder}'; go on with --resume, or give another folder with --out"
                )
        elif self.folder.is_dir() and not is_free(self.folder, GRID):
            raise UserError(f"the output folder '{self.folder}' holds files and no study; give another with --out")

    def claim(self, grid: Grid, resume: bool) -> None:
        """Make the folder this study's own.

        Raises:
            UserError: as `check`, and when it cannot be made.
        """
        self.check(grid, resume)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not self.is_study():  # before the cells' folder: killed here, the study can still begin
                text = yaml.safe_dump(_content(grid, self), sort_keys=False, allow_unicode=True)
                write_text(self.folder / GRID, text)
            (self.folder / "cells").mkdir(exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from None


def _content(grid: Grid, place: StudyFolder) -> dict[str, Any]:
    """What decides the results of a study; its title and why a cell is not run here do not."""
    cells = {}
    for cell in grid.cells:
        config = resolve(cell.config, place.cell(cell.run)).model_dump(mode="json")
        cells[cell.name] = {key: value for key, value in config.items() if key not in _ELSEWHERE}
    return {"learning_curve": grid.learning_curve, "cells": cells}


def _differences(there: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """What differs, in words; empty where nothing does."""
    found = []
    old, new = there.get("cells") or {}, now["cells"]
    for where, names in (
        ("only there", [n for n in old if n not in new]),
        ("only now", [n for n in new if n not in old]),
    ):
        if names:
            found.append(f"cells {where}: {_few(names)}")
    changed: dict[str, list[str]] = {}
    for name in new:
        if name in old:
            one, two = _flat(old[name]), _flat(new[name])
            for key in {**one, **two}:
                if one.get(key) != two.get(key):
                    changed.setdefault(f"{key} {one.get(key)} there, {two.get(key)} now", []).append(name)
    found += [f"{what} (in {_few(names)})" for what, names in list(changed.items())[:3]]
    if len(changed) > 3:
        found.append(f"{len(changed) - 3} more keys")
    if there.get("learning_curve") != now["learning_curve"]:
        found.append(f"learning_curve {there.get('learning_curve')} there, {now['learning_curve']} now")
    return "; ".join(found)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat.update(_flat(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat
