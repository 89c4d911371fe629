"""Which NNGPT is installed and where its modules are, read from its files without running its code."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from importlib import metadata
from pathlib import Path
from types import UnionType

from nngpt_ext.definitions import Class, Function, arguments, defined, is_readable, module_file
from nngpt_ext.errors import UserError
from nngpt_ext.extras import pip
from nngpt_ext.io import check_folder

INSTALL = pip("install --no-deps nn-gpt==1.0.6")
TESTED = f"tested with 1.0.6 ({INSTALL}) and the head of August 2026"
# NNGPT reads prompts and LLM presets from this path below the folder in which it is started.
CONF = Path("ab") / "gpt" / "conf"


@dataclass(frozen=True)
class Role:
    """A module of NNGPT that this package uses."""

    defines: str  # the class or function by which the module is recognised
    kind: type[Class] | UnionType  # which of the two it is
    places: tuple[str, ...]  # where the versions of NNGPT have it, below `ab.gpt`, the newest first
    without: str  # what follows if there is no such module


_TUNE, _BENCH = "host tune cannot be used", "bench host cannot be used"
_TRL = "host status and host tune do not check whether the installed trl accepts what NNGPT passes to it"
_GRAPH = "host_object cannot return NNGPT's manager for a graph of its agents"
ROLES = {
    "main": Role("main", Function, ("act.tune.Tune", "TuneNNGen"), _TUNE),
    "tune": Role("tune", Function, ("util.tune.Tune", "util.Tune"), _TUNE),
    "prompt": Role("Prompt", Class, ("util.prompt.Prompt",), _TUNE),
    "lora": Role("LoRA", Class, ("util.llm.LoRA", "util.LoRA"), _TRL),
    "loader": Role("NNGenPrompt", Class, ("util.prompt.NNGenPrompt",), _BENCH),
    "builder": Role(
        "DatasetCompareBuilder", Class, ("util.data.DatasetCompareBuilder", "util.DatasetCompareBuilder"), _BENCH
    ),
    "state": Role("AgentState", Class, ("act.agents.state", "agents.state"), "make_state cannot be used"),
    "manager": Role("manager_node", Function, ("act.agents.manager", "agents.manager"), _GRAPH),
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
            if isinstance(defined(module_file(self.folder, place), role.defines), role.kind)
        }

    @property
    def missing(self) -> dict[str, str]:
        """For each role without a module: where it was looked for, and what follows."""
        found = {}
        for name, role in ROLES.items():
            if name not in self.modules:
                unread = ", ".join(place for place in role.places if not is_readable(module_file(self.folder, place)))
                why = f" ({unread}: not readable as Python)" if unread else ""
                found[name] = f"none of {', '.join(role.places)} defines {role.defines}{why}, so {role.without}"
        return found

    def module(self, role: str) -> str:
        """The dotted name of the module that has a role in `ROLES`, such as `main`; an error if none has."""
        if role in self.modules:
            return f"ab.gpt.{self.modules[role]}"
        raise UserError(f"NNGPT in '{self.folder}': {self.missing[role]}; {TESTED}")

    def file(self, role: str) -> Path:
        """The file of that module."""
        return module_file(self.folder, self.module(role).removeprefix("ab.gpt."))

    @property
    def conf(self) -> Path:
        """NNGPT's own folder of prompts and LLM presets."""
        return self.folder / "conf"

    def parameters(self, role: str) -> list[str]:
        """The parameters that the function by which a role is recognised takes by name; see also `takes_any`."""
        given = arguments(self.file(role), ROLES[role].defines)
        return [one.arg for one in (*given.args, *given.kwonlyargs)]

    def takes_any(self, role: str) -> bool:
        """Whether that function takes arguments of any name (`**kwargs`)."""
        return arguments(self.file(role), ROLES[role].defines).kwarg is not None

    def require(self, role: str, needed: Iterable[str]) -> None:
        """Check that a role's function accepts the arguments that this package passes; the error names the others."""
        known = self.parameters(role)
        missing = [] if self.takes_any(role) else [name for name in needed if name not in known]
        if missing:
            what = f"NNGPT's {ROLES[role].defines} in '{self.file(role)}'"
            raise UserError(f"{what} does not accept {', '.join(missing)}; {TESTED}")


def find_host(folder: str | Path | None = None) -> Host:
    """Find NNGPT in its package folder `ab/gpt` or in one that contains it; by default the one that Python imports."""
    if folder is not None:
        check_folder(folder, "give NNGPT's folder ab/gpt, or one that contains it")
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


def _version(package: Path) -> str | None:
    """The version in a checkout's file `version`, or that of the distribution which contains this folder."""
    stated = package.parents[1] / "version"
    if stated.is_file() and (package.parents[1] / "pyproject.toml").is_file():
        return stated.read_text(encoding="utf-8", errors="replace").strip()
    try:
        distribution = metadata.distribution("nn-gpt")
    except metadata.PackageNotFoundError:
        return None
    return distribution.version if Path(str(distribution.locate_file("ab/gpt"))).resolve() == package else None
