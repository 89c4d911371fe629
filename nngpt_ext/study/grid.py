"""The grid of a study: a YAML file read into cells, each of which is the configuration of an ordinary run."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from nngpt_ext.config import TaskConfig
from nngpt_ext.data.labels import LABELS
from nngpt_ext.data.splits import SPLITS
from nngpt_ext.errors import UserError, unknown
from nngpt_ext.models.presets import PRESETS
from nngpt_ext.settings import Stage, build_config, read_project
from nngpt_ext.study.outcome import Place
from nngpt_ext.tasks.pipeline import find_template

# What the lists of a block decide; set elsewhere, it would be overwritten silently.
_OF_LISTS = ("prompt", "model.base", "data.split", "data.label", "data.seed", "tuning.seed", "output_dir")
_RANDOM = ".random_trials"


class Block(Stage):
    """Cells: every combination of the lists."""

    prompts: list[str] = Field(min_length=1, description="registered prompts, or paths of prompt files")
    bases: list[str] = Field(min_length=1, description="base models, as in model.base")
    splits: list[str] = Field(["by_network"], min_length=1)
    labels: list[str] = Field(["normalized"], min_length=1)
    seeds: list[int] = Field([0], min_length=1, description="of split, trials and tuning")
    train_networks: list[int | None] = Field([None], min_length=1, description="sizes for the learning curve")
    tested_on: list[Literal["best", "random"]] = Field(
        ["best"], min_length=1, description="random: the same run, tested on one random trial per network and dataset"
    )
    settings: dict[str, Any] = Field({}, description="keys of a run's configuration for these cells")
    tag: str | None = Field(None, pattern=r"^[A-Za-z0-9_-]+$", description="distinguishes cells of different settings")
    not_here: str | None = Field(None, description="why these cells are shown as not run where nobody has run them")


class StudyConfig(Stage):
    """A study as its file describes it."""

    title: str = "What the task can and cannot do"
    common: dict[str, Any] = Field({}, description="keys of a run's configuration for all cells")
    cells: list[dict[str, Any]] = Field(min_length=1, description="blocks of cells")
    learning_curve: list[int] = Field([], description="numbers of training networks for the baselines' curve")


class Cell(Place):
    """One cell: where it stands in the grid, and the configuration of its run."""

    not_here: str | None
    config: TaskConfig

    @property
    def run(self) -> str:
        """The name of the run that answers: a `random` cell asks the run that was tested on the best trials."""
        return self.name.removesuffix(_RANDOM) if self.tested_on == "random" else self.name


@dataclass(frozen=True)
class Grid:
    """A study's cells, in the order of its file, each once."""

    title: str
    cells: list[Cell]
    learning_curve: list[int]


def read_grid(file: Path) -> Grid:
    """Read a study's file.

    Raises:
        UserError: one line with everything that is wrong, including all unknown prompts, bases, splits and labels.
    """
    study = build_config(StudyConfig, read_project(file, "study"))
    blocks, faults = [], []
    for i, content in enumerate(study.cells, 1):
        try:
            blocks.append(build_config(Block, content))
        except UserError as error:
            faults.append(f"cells, block {i}: {str(error).removeprefix('configuration: ')}")
    for place, settings in (("common", study.common), *(("settings", block.settings) for block in blocks)):
        faults += [f"{place}: {key} is set by the lists of the cells" for key in _OF_LISTS if _has(settings, key)]
    faults += _unknown_names(study.cells)
    faults += [f"learning_curve: {n} is not a number of networks" for n in study.learning_curve if n < 1]
    cells: dict[str, Cell] = {}
    for block in [] if faults else blocks:
        for cell in _cells(block, study.common, faults):
            if cells.setdefault(cell.name, cell) != cell:
                faults.append(f"two blocks make the cell {cell.name} with different settings: give one of them a tag")
    if faults:
        raise UserError(f"the study '{file}': {'; '.join(dict.fromkeys(faults))}")
    return Grid(study.title, list(cells.values()), sorted(set(study.learning_curve)))


def _cells(block: Block, common: Mapping[str, Any], faults: list[str]) -> Iterator[Cell]:
    axes: dict[str, list[Any]] = {
        "prompt": block.prompts, "base": block.bases, "split": block.splits, "label": block.labels,
        "seed": block.seeds, "train_networks": block.train_networks, "tested_on": block.tested_on,
    }  # fmt: skip
    for values in itertools.product(*axes.values()):
        place: dict[str, Any] = dict(zip(axes, values, strict=True))
        size, seed = place["train_networks"], place["seed"]
        own = {
            "prompt": place["prompt"],
            "model": {"base": place["base"]},
            "data": {"split": place["split"], "label": place["label"], "seed": seed},
            "tuning": {"seed": seed},
        }
        limit = {} if size is None else {"data": {"train_networks": size}}
        try:
            config = build_config(TaskConfig, common, block.settings, own, limit)
        except UserError as error:
            faults.append(str(error).removeprefix("configuration: "))
            continue
        parts = [_slug(place["prompt"]), _slug(place["base"]), place["split"], place["label"], f"seed{seed}"]
        parts += [] if size is None else [f"{size}networks"]
        parts += [] if block.tag is None else [block.tag]
        name = ".".join(parts) + (_RANDOM if place["tested_on"] == "random" else "")
        yield Cell(name=name, **place, tag=block.tag, not_here=block.not_here, config=config)


def _slug(name: str) -> str:
    """The name as part of a folder's name; two different names never give the same."""
    if re.fullmatch(r"[A-Za-z0-9_-]+(\.[0-9][A-Za-z0-9_-]*)*", name):  # deepseek-coder-1.3b
        return name
    short = re.sub(r"[^A-Za-z0-9_-]+", "-", name.rstrip("/").rsplit("/", 1)[-1]).strip("-")
    return f"{short}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def _has(settings: Mapping[str, Any], key: str) -> bool:
    first, _, rest = key.partition(".")
    inner = settings.get(first)
    return first in settings and (not rest or (isinstance(inner, Mapping) and _has(inner, rest)))


def _unknown_names(blocks: Iterable[Mapping[str, Any]]) -> list[str]:
    """The unknown prompts, bases, splits and labels of all blocks, those with other faults included."""
    checks: dict[str, Callable[[str], object]] = {
        "prompts": find_template,
        "bases": _check_base,
        "splits": partial(_check, "split", SPLITS),
        "labels": partial(_check, "label", LABELS),
    }
    faults = []
    for key, check in checks.items():
        given = [name for block in blocks if isinstance(block.get(key), list) for name in block[key]]
        for name in dict.fromkeys(map(str, given)):
            try:
                check(name)
            except UserError as error:
                faults.append(str(error))
    return faults


def _check(kind: str, known: Iterable[str], name: str) -> None:
    if name not in known:
        raise unknown(kind, name, known)


def _check_base(name: str) -> None:
    """A base model that is known but not available here is no fault: its cells are recorded as not run."""
    is_hub_id = name.count("/") == 1 and not name.startswith((".", "/", "~"))
    if not is_hub_id and not Path(name).is_dir():
        _check("base model", [*PRESETS, "a folder", "a hub id (owner/name)"], name)
