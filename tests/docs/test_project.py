"""CONTRIBUTING.md, the Makefile, hooks, issue templates and the pins fit the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib import metadata

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.docs.blocks import ROOT
from tests.test_layers import FOLDERS, GROUND, PACKAGE

# Ours, what the Makefile names with its version, and what a virtual environment brings.
BY_ITSELF = ("nngpt-ext", "nn-dataset", "torch", "setuptools")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return CONTRIBUTING.split(f"## {title}\n")[1].split("\n## ")[0]


def test_the_map_has_every_folder_in_its_order() -> None:
    rows = re.findall(r"^\| `(\w+)/` \| .+ \|$", section("Code structure"), re.MULTILINE)
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert set(rows) == folders
    assert rows == [name for name in FOLDERS if name in folders]
    assert [name for name in GROUND if name != "version" and f"`{name}.py`" not in CONTRIBUTING] == []


def test_what_is_spoken_of_is_there() -> None:
    """Paths between backquotes that CONTRIBUTING.md names exist, from the root or from the package."""
    for path in re.findall(r"`([\w./-]+(?:/|\.py|\.md|\.toml))`", CONTRIBUTING):
        if path in ("dist/", "site/", ".venv/"):
            continue
        assert (ROOT / path).exists() or (PACKAGE / path).exists(), path


def test_make_help_lists_every_target() -> None:
    make = shutil.which("make")
    if make is None:
        pytest.skip("make is not installed")
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.+)$", text, re.MULTILINE)
    assert phony is not None
    shown = subprocess.check_output([make, "-s", "help"], cwd=ROOT, text=True)
    assert {line.split()[0] for line in shown.splitlines()} == set(phony.group(1).split())
    for target in re.findall(r"`make ([a-z-]+)", CONTRIBUTING):
        assert target in phony.group(1).split()


def test_hooks_fetch_nothing() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = hooks["repos"]
    assert repository["repo"] == "local"
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert {"ruff-check", "ruff-format", "mypy"} <= {hook["id"] for hook in repository["hooks"]}
    assert all(hook["entry"].startswith(".venv/bin/") for hook in repository["hooks"])


@pytest.mark.parametrize("name", sorted(p.name for p in (ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")))
def test_issue_templates(name: str) -> None:
    form = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8"))
    if name == "config.yml":
        return
    assert form["name"]
    assert form["description"]
    ids = [field["id"] for field in form["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in form["body"])


def test_every_requirement_that_is_installed_is_pinned() -> None:
    """What pyproject.toml asks for, with what that asks for, has a pin: an extra that is not here is not looked at."""
    pins = {canonicalize_name(line.split("==")[0]) for line in (ROOT / "constraints.txt").read_text().splitlines()[1:]}
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    asked = [Requirement(text) for text in re.findall(r'"([a-zA-Z][\w.-]*(?:\[[\w,-]+\])?(?:[<>=~!][^"]*)?)"', project)]
    lacking, seen = set(), set()
    waiting = [one for one in asked if one.specifier or canonicalize_name(one.name) in pins]
    while waiting:
        one = waiting.pop()
        name = canonicalize_name(one.name)
        if (name, *sorted(one.extras)) in seen or name in BY_ITSELF:
            continue
        seen.add((name, *sorted(one.extras)))
        if name not in pins:
            lacking.add(name)
        try:
            further = [Requirement(text) for text in metadata.requires(one.name) or []]
        except metadata.PackageNotFoundError:
            continue
        waiting += [
            other for other in further
            if other.marker is None or any(other.marker.evaluate({"extra": extra}) for extra in (*one.extras, ""))
        ]  # fmt: skip
    assert lacking == set()
