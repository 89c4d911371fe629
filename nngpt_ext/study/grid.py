"""The grid of a study: a YAML file, read into cells that are each the configuration of an ordinary run."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveInt, model_validator

from nngpt_ext.config import TaskConfig
from nngpt_ext.data.labels import LABELS
from nngpt_ext.data.lineage import LEVELS
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import SPLITS
from nngpt_ext.errors import UserError
from nngpt_ext.io import text_digest
from nngpt_ext.models.base import is_hub_id, unknown_base
from nngpt_ext.models.gguf import gguf_file
from nngpt_ext.models.presets import PRESETS
from nngpt_ext.settings import Stage, build_config, read_project
from nngpt_ext.study.outcome import RANDOM, Place
from nngpt_ext.tasks.pipeline import find_template

# Keys that are set by the lists of a block, and would silently be overwritten elsewhere.
_OF_LISTS = (
    "prompt", "model.base", "data.split", "data.family_level", "data.label", "data.seed", "tuning.seed", "output_dir",
)  # fmt: skip
_EXAMPLE = "cells: [{prompts: [recipe], bases: [embedded]}]"


def _known_prompt(name: str) -> str:
    find_template(name)
    return name


def _known_base(name: str) -> str:
    """Allow a base that is known but not available here: its cells are recorded as not run."""
    if name not in PRESETS and not is_hub_id(name) and not Path(name).is_dir() and not gguf_file(Path(name)):
        raise unknown_base(name)
    return name


class Block(Stage):
    """Cells: every combination of the lists."""

    prompts: list[Annotated[str, AfterValidator(_known_prompt)]] = Field(
        min_length=1, description="registered prompts, or paths of prompt files"
    )
    bases: list[Annotated[str, AfterValidator(_known_base)]] = Field(
        min_length=1, description="base models, as in model.base"
    )
    splits: list[Annotated[str, AfterValidator(SPLITS.check)]] = Field(["by_network"], min_length=1)
    family_levels: list[Annotated[str, AfterValidator(LEVELS.check)]] = Field(
        ["near"], min_length=1, description="of a split by families, for which each level is a cell"
    )
    labels: list[Annotated[str, AfterValidator(LABELS.check)]] = Field(["normalized"], min_length=1)
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
    cells: list[dict[str, Any]] = Field([], description="blocks of cells")
    learning_curve: list[PositiveInt] = Field([], description="numbers of training networks for the baselines' curve")
    price: list[Annotated[str, AfterValidator(LEVELS.check)]] = Field(
        [], description="levels of families on which baselines show what training for some epochs tells"
    )

    @model_validator(mode="after")
    def _has_something(self) -> StudyConfig:
        if not self.cells and not self.price:
            raise ValueError("a study has cells or price")
        return self


class Cell(Place):
    """A cell's place in the grid, and the configuration of its run."""

    not_here: str | None
    config: TaskConfig


@dataclass(frozen=True)
class Grid:
    """A study's cells, in the order of its file, each once."""

    title: str
    cells: list[Cell]
    learning_curve: list[int]
    price: list[str]
    data: DataConfig  # of what has no cell


def read_grid(file: Path) -> Grid:
    """Read a study's file.

    Raises:
        UserError: one line with everything that is wrong, including all unknown prompts, bases, splits and labels.
    """
    study = build_config(StudyConfig, read_project(file, "study", _EXAMPLE))
    faults = _overwritten("common", study.common)
    cells: dict[str, Cell] = {}
    for i, content in enumerate(study.cells, 1):
        try:
            block = build_config(Block, content, what=f"cells, block {i}")
            faults += _overwritten("settings", block.settings)
            for cell in _cells(block, study.common):
                if cells.setdefault(cell.name, cell) != cell:
                    faults.append(f"two blocks make the cell {cell.name} with different settings: give one a tag")
        except UserError as error:
            faults.append(str(error).removeprefix("configuration: "))
    if faults:
        raise UserError(f"the study '{file}': {'; '.join(dict.fromkeys(faults))}")
    families = [study.common, {"data": {"split": "by_family"}}] if study.price else []
    data, levels = build_config(TaskConfig, *families).data, list(dict.fromkeys(study.price))
    return Grid(study.title, list(cells.values()), sorted(set(study.learning_curve)), levels, data)


def _overwritten(place: str, settings: Mapping[str, Any]) -> list[str]:
    def has(inner: Any, key: str) -> bool:
        first, _, rest = key.partition(".")
        return isinstance(inner, Mapping) and first in inner and (not rest or has(inner[first], rest))

    return [f"{place}: {key} is set by the lists of the cells" for key in _OF_LISTS if has(settings, key)]


def _cells(block: Block, common: Mapping[str, Any]) -> Iterator[Cell]:
    splits = [
        (split, level)
        for split in block.splits
        for level in (block.family_levels if SPLITS[split].by_families else [None])
    ]
    if block.family_levels != Block.model_fields["family_levels"].default and not any(level for _, level in splits):
        takers = ", ".join(split.name for split in SPLITS.values() if split.by_families)
        raise UserError(f"family_levels goes with split {takers}, not {', '.join(block.splits)}")
    if any(SPLITS[split].by_datasets for split, _ in splits):
        raise UserError("by_dataset has a value for each dataset and no verdict, so it is no cell of a study: use run")
    lists = block.prompts, block.bases, splits, block.labels, block.seeds, block.train_networks, block.tested_on
    for prompt, base, (split, level), label, seed, size, tested_on in itertools.product(*lists):
        own: dict[str, Any] = {
            "prompt": prompt,
            "model": {"base": base},
            "data": {"split": split, "label": label, "seed": seed},
            "tuning": {"seed": seed},
        }
        parts = [_slug(prompt), _slug(base), split, label, f"seed{seed}"]
        if level is not None:
            own["data"]["family_level"] = level
            parts.insert(3, level)
        if size is not None:
            own["data"]["train_networks"] = size
            parts.append(f"{size}networks")
        if block.tag is not None:
            parts.append(block.tag)
        config = build_config(TaskConfig, common, block.settings, own)
        if tested_on == "random" and config.data.all_folds:
            raise UserError(
                f"tested_on: random needs the adapter of one run, and {split} has one for each fold; choose a fold "
                "(settings: {data: {fold: 0}}), or leave random out"
            )
        yield Cell(
            name=".".join(parts) + (RANDOM if tested_on == "random" else ""), prompt=prompt, base=base, split=split,
            family_level=level, label=label, seed=seed, train_networks=size, tested_on=tested_on, tag=block.tag,
            not_here=block.not_here, config=config,
        )  # fmt: skip


def _slug(name: str) -> str:
    """The name as part of a folder's name, different for different names."""
    if re.fullmatch(r"[A-Za-z0-9_-]+(\.[0-9][A-Za-z0-9_-]*)*", name):  # deepseek-coder-1.3b
        return name
    short = re.sub(r"[^A-Za-z0-9_-]+", "-", name.rstrip("/").rsplit("/", 1)[-1]).strip("-")
    return f"{short}-{text_digest(name)[:8]}"
