"""A small real study: a few cells on the embedded model and a slice of LEMUR, one of which cannot run."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from nngpt_ext.study.outcome import Study
from nngpt_ext.study.sweep import run_study
from tests.models_made import one_thread

__all__ = ["one_thread"]

COMMON = {
    "data": {"train_networks": 6, "validation_networks": 4, "test_networks": 5, "code_tokens": 32},
    "tuning": {"epochs": 1, "learning_rate": 1e-3},
    "store": None,
}
CODE, RECIPE = (f"{prompt}.embedded.by_network.normalized.seed0" for prompt in ("code_only", "recipe"))
FOLDED_NEAR, FOLDED_STRICT = (
    f"recipe.embedded-small.by_family.{level}.normalized.seed0" for level in ("near", "strict")
)
RANDOM, CUT = f"{RECIPE}.random_trials", f"{CODE}.short_rows"


def grid(**changes: Any) -> dict[str, Any]:
    """A study's file: two runs, one of them asked about random trials too, and cells that have no figures."""
    content = {
        "title": "A <small> study",
        "common": copy.deepcopy(COMMON),
        "cells": [
            {"prompts": ["code_only"], "bases": ["embedded"]},
            # Fails where questions become tokens: none of them fits into a row.
            {
                "prompts": ["code_only"], "bases": ["embedded"], "tag": "short_rows",
                "settings": {"tuning": {"row_tokens": 64}},
            },
            {"prompts": ["recipe"], "bases": ["embedded"], "tested_on": ["best", "random"]},
            {"prompts": ["code_only"], "bases": ["deepseek-coder-7b"], "not_here": "needs a card & time"},
        ],
        "learning_curve": [3, 6],
    }  # fmt: skip
    return {**content, **changes}


def written(folder: Path, content: Any, name: str = "study.yaml") -> Path:
    """The content as a study's file."""
    file = folder / name
    file.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return file


class Studied(NamedTuple):
    """A study that was run: its file, its folder, what came of it."""

    file: Path
    folder: Path
    study: Study

    @property
    def content(self) -> dict[str, Any]:
        """study.json without what differs from one time to the next."""
        found = json.loads((self.folder / "study.json").read_text(encoding="utf-8"))
        return {key: value for key, value in found.items() if key not in ("timings", "command")}


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Studied:
    """The study of `grid()`, run. Do not change its folder."""
    place = tmp_path_factory.mktemp("studied")
    file = written(place, grid())
    return Studied(file, place / "out", run_study(file, place / "out"))


@pytest.fixture(scope="session")
def folded(tmp_path_factory: pytest.TempPathFactory) -> Studied:
    """A study of two cells, each of all folds, run. Do not change its folder."""
    place = tmp_path_factory.mktemp("folded")
    data = {**COMMON["data"], "folds": 2, "train_networks": 6, "validation_networks": 3, "test_networks": 4}
    cells = [
        {
            "prompts": ["recipe"],
            "bases": ["embedded-small"],
            "splits": ["by_family"],
            "family_levels": ["near", "strict"],
        }
    ]
    common = {**COMMON, "data": data, "workers": 1}
    file = written(place, grid(common=common, cells=cells, learning_curve=[]))
    return Studied(file, place / "out", run_study(file, place / "out"))
