"""The folders stand in the order in which data flows; each imports only those before it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nngpt_ext"
# As in DESIGN.md.
FOLDERS = (
    "lemur", "prompts", "models", "batches", "scoring", "evaluation", "tuning", "predict", "tasks", "publish", "study",
    "host", "bench", "doctor", "cli",
)  # fmt: skip
GROUND = ("registry", "config", "errors", "files", "progress", "quiet", "shell", "version")
LINES = 399
MODULES = sorted(PACKAGE.rglob("*.py"))


def imported(tree: ast.AST, package: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also inside functions and `if TYPE_CHECKING`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            # `from nngpt_ext import registry` imports a part of the package, not the package only.
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)


def violations(module: Path, text: str) -> list[str]:
    place = module.relative_to(PACKAGE).with_suffix("")
    own = place.parts[0]
    found = []
    for line, name in imported(ast.parse(text), ".".join(["nngpt_ext", *place.parts[:-1]])):
        parts = name.split(".")
        if parts[0] != "nngpt_ext" or len(parts) < 2 or parts[1] in (own, *GROUND, "__version__"):
            continue
        # The name of something public, which __init__ gives out, comes from wherever it is at home.
        allowed = FOLDERS[: FOLDERS.index(own)] if own in FOLDERS else ()
        if parts[1] not in allowed:
            found.append(f"{place}:{line} imports {name}")
    return found


def test_every_folder_and_module_has_its_place():
    present = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    assert present - {"__pycache__", "__init__"} <= {*FOLDERS, *GROUND}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(module):
    if module == PACKAGE / "__init__.py":  # gives out the public names, on first use
        return
    assert violations(module, module.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("lemur/pairs.py", "from nngpt_ext.prompts.render import Renderer"),
        ("lemur/pairs.py", "def f():\n    import nngpt_ext.tasks.run"),
        ("config.py", "if TYPE_CHECKING:\n    from nngpt_ext.data import pairs"),
        ("tasks/run.py", "from nngpt_ext import cli"),
        ("tasks/run.py", "from nngpt_ext import run_task"),
        ("scoring/log_odds.py", "from ..evaluation import metrics"),
        ("scoring/log_odds.py", "from .. import evaluation"),
    ],
)
def test_an_import_upwards_is_seen(module, text):
    assert len(violations(PACKAGE / module, text)) == 1


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("tasks/run.py", "from nngpt_ext.data.pairs import build_pairs\nfrom nngpt_ext import registry"),
        ("scoring/log_odds.py", "from . import predictions\nfrom ..batches import rows\nimport torch"),
        ("cli.py", "from nngpt_ext.tasks.run import run_task"),
    ],
)
def test_an_import_downwards_is_not(module, text):
    assert violations(PACKAGE / module, text) == []


def test_no_module_is_long():
    lengths = {str(path.relative_to(PACKAGE)): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert {name: n for name, n in lengths.items() if n > LINES} == {}
