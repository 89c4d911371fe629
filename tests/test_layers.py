"""The rooms stand in the order in which data flows; each imports only those before it, and no module is in a circle."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nngpt_ext"
FOLDERS = (
    "views", "data", "networks", "prompts", "models", "batches", "scoring", "evaluation", "config", "tuning",
    "terminal", "predict", "client", "serve", "ask_commands", "tasks", "export", "study", "host", "bench", "doctor",
    "cli", "__main__",
)  # fmt: skip
GROUND = (
    "registry", "channel", "compact", "declaration", "definitions", "settings", "errors", "extras", "io", "light",
    "run_folder", "progress", "quiet", "shards", "shell", "version",
)  # fmt: skip
LINES = 399
MODULES = sorted(PACKAGE.rglob("*.py"))


def without_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those below `if TYPE_CHECKING`, which are never run."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not (isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING"):
            yield from without_type_checking(child)


def imported(nodes: Iterator[ast.AST], package: str) -> Iterator[tuple[int, str]]:
    """(line, module) of every import, also inside functions."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, name.name) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*above, *([node.module] if node.module else [])])
            # `from nngpt_ext import registry` imports a part of the package, not the package only.
            yield from ((node.lineno, f"{module}.{name.name}") for name in node.names)


def package_of(module: Path) -> str:
    return ".".join(["nngpt_ext", *module.relative_to(PACKAGE).parts[:-1]])


def violations(module: Path, text: str) -> list[str]:
    place = module.relative_to(PACKAGE).with_suffix("")
    own = place.parts[0]
    found = []
    for line, name in imported(ast.walk(ast.parse(text)), package_of(module)):
        parts = name.split(".")
        if parts[0] != "nngpt_ext" or len(parts) < 2 or parts[1] in (own, *GROUND, "__version__"):
            continue
        # The name of something public, which __init__ gives out, comes from wherever it is at home.
        allowed = FOLDERS[: FOLDERS.index(own)] if own in FOLDERS else ()
        if parts[1] not in allowed:
            found.append(f"{place}:{line} imports {name}")
    return found


def dotted(module: Path) -> str:
    return ".".join(["nngpt_ext", *module.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")


def test_every_folder_and_module_has_its_place():
    present = {path.stem if path.is_file() else path.name for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    assert present - {"__pycache__", "__init__"} <= {*FOLDERS, *GROUND}


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down_only(module):
    if module == PACKAGE / "__init__.py":  # gives out the public names, on first use
        return
    assert violations(module, module.read_text(encoding="utf-8")) == []


def test_there_is_no_circle():
    names = {dotted(module) for module in MODULES}
    graph = {}
    for module in MODULES:
        if module == PACKAGE / "__init__.py":
            continue
        nodes = without_type_checking(ast.parse(module.read_text(encoding="utf-8")))
        found = {name for _, name in imported(nodes, package_of(module))}
        # A name of a module, or the module itself.
        graph[dotted(module)] = {
            known for name in found for known in (name, name.rpartition(".")[0]) if known in names
        } - {dotted(module), "nngpt_ext"}
    assert list(TopologicalSorter(graph).static_order())  # raises CycleError, which names the circle


def test_every_stem_is_unique():
    stems = Counter(module.stem for module in MODULES if module.stem != "__init__")
    assert [stem for stem, n in stems.items() if n > 1] == []


@pytest.mark.parametrize(
    ("module", "text"),
    [
        ("data/pairs.py", "from nngpt_ext.prompts.render import Renderer"),
        ("data/pairs.py", "def f():\n    import nngpt_ext.tasks.run"),
        ("settings.py", "if TYPE_CHECKING:\n    from nngpt_ext.data import pairs"),
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


def test_a_room_is_small():
    rooms: dict[Path, list[Path]] = {}
    for module in MODULES:
        if module.stem != "__init__" and module.parent != PACKAGE:
            rooms.setdefault(module.parent, []).append(module)
    assert {room.name: len(found) for room, found in rooms.items() if len(found) > 12} == {}
    lines = {room: sum(m.read_text(encoding="utf-8").count("\n") for m in found) for room, found in rooms.items()}
    assert {room.name: n for room, n in lines.items() if n > 2000} == {}
