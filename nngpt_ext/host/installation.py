"""Which NNGPT is installed and where its modules are, read from its files without running its code."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path

from nngpt_ext.errors import UserError
from nngpt_ext.extras import pip

INSTALL = pip("install --no-deps nn-gpt==1.0.6")
TESTED = f"tested with 1.0.6 ({INSTALL}) and the head of August 2026"
# NNGPT reads prompts and LLM presets from this path below the folder in which it is started.
CONF = Path("ab") / "gpt" / "conf"


@dataclass(frozen=True)
class Role:
    """A module of NNGPT that this package uses.

    Attributes:
        defines: the class or function by which the module is recognised.
        places: where the versions of NNGPT have it, below `ab.gpt`, the newest first.
        disables: what cannot be used without it.
    """

    defines: str
    places: tuple[str, ...]
    disables: str


ROLES = {
    "main": Role("main", ("act.tune.Tune", "TuneNNGen"), "host tune"),
    "tune": Role("tune", ("util.tune.Tune", "util.Tune"), "host tune"),
    "lora": Role("LoRA", ("util.llm.LoRA", "util.LoRA"), "host tune"),
    "prompt": Role("Prompt", ("util.prompt.Prompt",), "host tune"),
    "loader": Role("NNGenPrompt", ("util.prompt.NNGenPrompt",), "host tune and bench host"),
    "builder": Role(
        "DatasetCompareBuilder", ("util.data.DatasetCompareBuilder", "util.DatasetCompareBuilder"), "bench host"
    ),
    "evaluation": Role("evaluate_epoch", ("act.classification.Eval", "ClassificationEval"), "host import"),
    "state": Role("AgentState", ("act.agents.state", "agents.state"), "make_state"),
    "manager": Role("manager_node", ("act.agents.manager", "agents.manager"), "the agents' graph"),
}


@dataclass(frozen=True)
class Host:
    """An installed or checked-out NNGPT."""

    folder: Path  # ab/gpt
    version: str | None  # of the installed distribution or of the checkout

    @cached_property
    def modules(self) -> dict[str, str]:
        """The module of each role that was found, below `ab.gpt`: the first of its places that defines its name."""
        return {
            name: place
            for name, role in ROLES.items()
            for place in reversed(role.places)  # the newest is the last to be entered
            if any(getattr(node, "name", None) == role.defines for node in _body(_file(self.folder, place)))
        }

    @property
    def missing(self) -> dict[str, str]:
        """For each role without a module: where it was looked for, and what cannot be used without it."""
        return {
            name: f"none of {', '.join(role.places)} defines {role.defines}, so {role.disables} cannot be used"
            for name, role in ROLES.items()
            if name not in self.modules
        }

    def module(self, role: str) -> str:
        """The dotted name of the module that has a role in `ROLES`, such as `main`; an error if none has."""
        if role in self.modules:
            return f"ab.gpt.{self.modules[role]}"
        raise UserError(f"NNGPT in '{self.folder}': {self.missing[role]}; {TESTED}")

    def file(self, role: str) -> Path:
        """The file of that module."""
        return _file(self.folder, self.module(role).removeprefix("ab.gpt."))

    @property
    def conf(self) -> Path:
        """NNGPT's own folder of prompts and LLM presets."""
        return self.folder / "conf"

    def parameters(self, role: str) -> list[str]:
        """The names of the parameters of the function by which a role is recognised."""
        wanted = ROLES[role].defines
        node = next(n for n in _body(self.file(role)) if isinstance(n, ast.FunctionDef) and n.name == wanted)
        return [p.arg for p in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]

    def require(self, role: str, needed: Iterable[str]) -> None:
        """Check that a role's function accepts the arguments that this package passes; the error names the others."""
        known = self.parameters(role)
        missing = [name for name in needed if name not in known]
        if missing:
            what = f"NNGPT's {ROLES[role].defines} in '{self.file(role)}'"
            raise UserError(f"{what} does not accept {', '.join(missing)}; {TESTED}")


def find_host(folder: str | Path | None = None) -> Host:
    """Find NNGPT in its package folder `ab/gpt` or in one that contains it; by default the one that Python imports."""
    if folder is not None:
        where, places = f"in '{folder}'", [Path(folder), Path(folder) / "ab" / "gpt"]
    else:
        where, places = "here", [Path(entry or ".") / "ab" / "gpt" for entry in sys.path]
    package = next((place.resolve() for place in places if (place / "__init__.py").is_file()), None)
    if package is None:
        raise UserError(f"NNGPT is not installed {where}; type: {INSTALL}")
    return Host(package, _version(package))


def installed_host() -> Host | None:
    """The NNGPT that Python imports, if there is one."""
    try:
        return find_host()
    except UserError:
        return None


def _file(package: Path, module: str) -> Path:
    return package.joinpath(*module.split(".")).with_suffix(".py")


def _body(file: Path) -> list[ast.stmt]:
    """The statements of a module; none if it does not exist or cannot be parsed."""
    try:
        return ast.parse(file.read_text(encoding="utf-8")).body
    except (OSError, ValueError, SyntaxError, RecursionError):
        return []


def _version(package: Path) -> str | None:
    """The version in a checkout's file `version`, or that of the distribution which contains this folder."""
    stated = package.parents[1] / "version"
    if stated.is_file() and (package.parents[1] / "pyproject.toml").is_file():
        return stated.read_text(encoding="utf-8").strip()
    try:
        distribution = metadata.distribution("nn-gpt")
    except metadata.PackageNotFoundError:
        return None
    return distribution.version if Path(str(distribution.locate_file("ab/gpt"))).resolve() == package else None
