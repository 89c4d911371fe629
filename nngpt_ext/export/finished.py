"""A finished run as it is published: read, checked, and without what only its machine knows."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any, NamedTuple

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.report import Report, read_report
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.run_folder import ADAPTER, CONFIG, read_config, read_record

# Never what may run code when it is read, such as *.bin or *.py.
PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "*.txt")


class FinishedRun(NamedTuple):
    """What a run's folder holds."""

    folder: Path
    config: TaskConfig
    record: dict[str, Any]  # run.json
    report: Report
    adapter: AdapterFiles

    def made_of(self) -> dict[str, Any]:
        """For `export.json`: which adapter this was."""
        return {"adapter": self.adapter.hash, "prompt": self.adapter.note.prompt}


def read_run(folder: Path) -> FinishedRun:
    """Read a finished run.

    Raises:
        UserError: when there is none, it is not finished, its adapter is another than it left, or a file is damaged.
    """
    record = read_record(folder, ("split_hash", "data", "versions"))
    report = read_report(folder)
    try:
        config = TaskConfig.model_validate(read_config(folder / CONFIG))
    except ValueError as error:
        raise UserError(f"'{folder / CONFIG}' is damaged: {' '.join(str(error).split())[:200]}") from None
    adapter = AdapterFiles(folder / ADAPTER)
    adapter.check_run(folder)
    return FinishedRun(folder, config, record, report, adapter)


def portable(config: TaskConfig, base: str) -> TaskConfig:
    """The configuration without folders and databases of this machine; `base` is what others find the base by."""
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"path": None}),
            "model": config.model.model_copy(update={"base": base}),
            "output_dir": "run",
            "store": None,
        }
    )


def copy_files(source: Path, target: Path) -> None:
    """Copy a model's or an adapter's files, without its card, readable by all."""
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted({file for pattern in PATTERNS for file in source.glob(pattern) if file.is_file()}):
        shutil.copyfile(file, target / file.name)
