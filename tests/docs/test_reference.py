"""The pages that are made from the package are as the package is now."""

from __future__ import annotations

import importlib.util
import re
import shlex
from typing import Any

import pytest
import typer.main

from nngpt_ext import cli
from nngpt_ext.config import TaskConfig
from nngpt_ext.settings import known_keys
from tests.docs.blocks import PAGES, ROOT, inline_code

_SPEC = importlib.util.spec_from_file_location("reference", ROOT / "scripts" / "reference.py")
assert _SPEC is not None
assert _SPEC.loader is not None
reference = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(reference)

COMMAND: Any = typer.main.get_command(cli.app)
EXTRA = re.compile(r"(?:nngpt-ext|'\.)\[([a-z,-]+)\]")


def commands(command: Any, name: str = "nngpt-ext") -> dict[str, Any]:
    found = {name: command}
    for part, inner in getattr(command, "commands", {}).items():
        found |= commands(inner, f"{name} {part}")
    return found


@pytest.mark.parametrize("page", reference.PAGES)
def test_a_page_is_as_the_package_is(page: str) -> None:
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    assert text == reference.PAGES[page](), "type: .venv/bin/python scripts/reference.py"


def test_commands_and_keys_are_all_there() -> None:
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    for name, command in commands(COMMAND).items():
        assert name == "nngpt-ext" or f"`{name}`" in page
        for option in command.params:
            assert option.opts[0] in page
    keys = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [key for key in known_keys(TaskConfig) if f"`{key}`" not in keys] == []


@pytest.mark.parametrize("page", PAGES)
def test_commands_in_the_text_exist(page: str) -> None:
    """`nngpt-ext …` between backquotes names a command, and options that it has."""
    known = commands(COMMAND)
    for code in inline_code((ROOT / page).read_text(encoding="utf-8")):
        if not code.startswith("nngpt-ext "):
            continue
        words = shlex.split(code)
        depth = max(n for n in range(1, len(words) + 1) if " ".join(words[:n]) in known)
        command = known[" ".join(words[:depth])]
        assert depth > 1 or words[1].startswith(("-", "…")), f"{page}: {code}"
        options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        assert [w for w in words[depth:] if w.startswith("--") and w not in options | {"--help"}] == [], (
            f"{page}: {code}"
        )


def test_extras_that_are_spoken_of_exist() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z-]+) = \[", project.split("[project.optional-dependencies]")[1], re.MULTILINE))
    files = [*map(ROOT.joinpath, PAGES), ROOT / "pyproject.toml", *ROOT.glob("nngpt_ext/**/*.py")]
    for file in files:
        for names in EXTRA.findall(file.read_text(encoding="utf-8")):
            assert set(names.split(",")) <= known, file
