"""The folder of a study: which study it belongs to, and the state of each cell.

study.yaml           the resolved cells with which the folder was made
cells/NAME/          the run of a cell, or its answers about random trials
notes/NAME.json      why a cell failed or was not run here; the next --resume tries it again
learning_curve.json  the baselines after different numbers of training networks
study.json, study.md, index.html
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from nngpt_ext.errors import UserError
from nngpt_ext.io import cannot_write, inside, is_free, write_text
from nngpt_ext.run_folder import REPORT, check_config, read_config
from nngpt_ext.study.grid import Grid

GRID = "study.yaml"


class StudyFolder:
    """Paths of a study and the state of its cells."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.curve = folder / "learning_curve.json"

    def cell(self, name: str) -> Path:
        """The folder of a cell's results."""
        return inside(self.folder, "cells", name)

    def is_study(self) -> bool:
        return (self.folder / GRID).is_file()

    def is_finished(self, name: str) -> bool:
        """Whether a cell has its report, which is written last."""
        return (self.cell(name) / REPORT).is_file()

    def note(self, name: str) -> Path:
        """The file with the status and the reason of a cell that failed or was not run."""
        return inside(self.folder, "notes") / f"{name}.json"

    def write_note(self, name: str, status: str, reason: str) -> None:
        """Note why a cell has no results: `failed` or `not run`."""
        self.note(name).parent.mkdir(exist_ok=True)
        write_text(self.note(name), json.dumps({"status": status, "reason": reason}, ensure_ascii=False) + "\n")

    def claim(self, grid: Grid, resume: bool) -> None:
        """Make the folder this study's own.

        Raises:
            UserError: if it holds something else, this study and `resume` is not set, or a study with another
                configuration (the line says what differs); if a link in it leads elsewhere; if it cannot be made.
        """
        for name in ("cells", "notes"):
            inside(self.folder, name)
        content: dict[str, Any] = {"learning_curve": grid.learning_curve, "cells": {}}
        for cell in grid.cells:  # neither a title nor the reason for not running a cell here changes results
            config = cell.config.resolved(self.cell(cell.run))
            content["cells"][cell.name] = config.model_dump(mode="json", exclude={"output_dir", "store"})
        if self.is_study():
            found = read_config(self.folder / GRID)
            if other := sorted((found.get("cells") or {}).keys() ^ content["cells"].keys()):
                raise UserError(
                    f"the study in '{self.folder}' was made with other cells: only one of the two has "
                    f"{', '.join(other[:3])}; give another folder with --out"
                )
            check_config(self.folder, found, content)
            if not resume:
                raise UserError(
                    f"'{self.folder}' already holds this study; continue it with --resume, or give another folder "
                    "with --out"
                )
            return
        if self.folder.exists() and not (self.folder.is_dir() and is_free(self.folder, GRID)):
            raise UserError(f"'{self.folder}' is neither a study nor an empty folder; give another folder with --out")
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise cannot_write(self.folder, error) from None
        write_text(self.folder / GRID, yaml.safe_dump(content, sort_keys=False, allow_unicode=True))
