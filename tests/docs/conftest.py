"""A small finished run, and for each page a folder that looks like a clone in which `make demo` was typed."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nngpt_ext import registry, run_task
from tests.docs.blocks import ROOT
from tests.models_made import one_thread
from tests.predict.conftest import SMALL

__all__ = ["one_thread"]


class Clone(NamedTuple):
    """A page's folder, the names that its Python blocks have defined, and the lines of the blocks run so far."""

    folder: Path
    names: dict[str, Any]
    lines: set[int]


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What stands for `runs/demo`. Do not change it."""
    folder = tmp_path_factory.mktemp("docs") / "run"
    run_task("dataset_compare", SMALL, output_dir=folder)
    return folder


@pytest.fixture(scope="session")
def clone(finished_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Clone]:
    """The folder of a page: its blocks are typed there one after the other."""
    made: dict[str, Clone] = {}

    def of(page: str) -> Clone:
        if page not in made:
            folder = tmp_path_factory.mktemp(page.replace("/", "-"))
            shutil.copytree(finished_run, folder / "runs" / "demo", ignore=shutil.ignore_patterns("checkpoints"))
            for name in ("examples", "benchmarks", "scripts", "constraints.txt", "client", "nngpt_ext", "docs"):
                (folder / name).symlink_to(ROOT / name)
            programs = folder / ".venv" / "bin"
            programs.mkdir(parents=True)
            _program(programs / "python", "")
            _program(programs / "nngpt-ext", "-c 'from nngpt_ext.cli import main; main()'")
            made[page] = Clone(folder, {"__name__": "__main__"}, set())
        return made[page]

    return of


def _program(file: Path, arguments: str) -> None:
    file.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" {arguments} "$@"\n')
    file.chmod(0o755)


@pytest.fixture
def as_typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a command or a script changes in its process is put back: logging, the registries, the environment."""
    root, ours = logging.getLogger(), logging.getLogger("nngpt_ext")
    before = list(root.handlers), root.level, ours.level
    environment = dict(os.environ)
    for known in (registry.tasks, registry.prompts, registry.finetuners):
        known.names()
        monkeypatch.setattr(known, "_items", dict(known._items))
    yield
    os.environ.clear()
    os.environ.update(environment)
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)
