"""Which NNGPT is installed and where its modules are, read from its files without running its code."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from nngpt_ext.errors import UserError
from nngpt_ext.extras import pip

INSTALL = pip("install --no-deps nn-gpt==1.0.6")
TESTED = f"tested with 1.0.6 ({INSTALL}) and the head of August 2026"
# NNGPT reads prompts and LLM presets from this path below the folder in which it is started.
CONF = Path("ab") / "gpt" / "conf"
# The modules by role, relative to the package `ab.gpt`: those whose paths differ between layouts, then the others.
LAYOUTS: dict[str, dict[str, str]] = {
    "flat": {
        "main": "TuneNNGen", "evaluation": "ClassificationEval", "state": "agents.state", "manager": "agents.manager",
    },
    "act": {
        "main": "act.tune.Tune", "evaluation": "act.classification.Eval", "state": "act.agents.state",
        "manager": "act.agents.manager",
    },
}  # fmt: skip
SHARED = {
    "tune": "util.Tune", "prompt": "util.prompt.Prompt", "loader": "util.prompt.NNGenPrompt",
    "builder": "util.DatasetCompareBuilder", "lora": "util.LoRA",
}  # fmt: skip


@dataclass(frozen=True)
class Host:
    """An installed or checked-out NNGPT."""

    folder: Path  # ab/gpt
    layout: str  # a key of LAYOUTS
    version: str | None  # of the installed distribution or of the checkout

    def module(self, role: str) -> str:
        """The dotted name of the module that has a role in this layout, such as `main`."""
        return f"ab.gpt.{(SHARED | LAYOUTS[self.layout])[role]}"

    def file(self, role: str) -> Path:
        """The file of that module; an error if it does not exist."""
        found = _file(self.folder, (SHARED | LAYOUTS[self.layout])[role])
        if not found.is_file():
            raise UserError(f"NNGPT in '{self.folder}' has no {found.relative_to(self.folder)}; {TESTED}")
        return found

    @property
    def conf(self) -> Path:
        """NNGPT's own folder of prompts and LLM presets."""
        return self.folder / "conf"

    def parameters(self, role: str, function: str) -> list[str]:
        """The names of the parameters of a function in a role's module."""
        file = self.file(role)
        try:
            body = ast.parse(file.read_text(encoding="utf-8")).body
        except (OSError, ValueError, SyntaxError) as error:
            raise UserError(f"cannot read NNGPT's '{file}': {error}") from None
        for node in body:
            if isinstance(node, ast.FunctionDef) and node.name == function:
                return [p.arg for p in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)]
        raise UserError(f"NNGPT's '{file}' has no function {function}; {TESTED}")

    def require(self, role: str, function: str, needed: Iterable[str]) -> None:
        """Check that a function accepts the arguments that this package passes; the error names those it does not."""
        known = self.parameters(role, function)
        missing = [name for name in needed if name not in known]
        if missing:
            raise UserError(f"NNGPT's {function} in '{self.file(role)}' does not accept {', '.join(missing)}; {TESTED}")


def find_host(folder: str | Path | None = None) -> Host:
    """Find NNGPT in its package folder `ab/gpt` or in one that contains it; by default the one that Python imports."""
    if folder is not None:
        where, places = f"in '{folder}'", [Path(folder), Path(folder) / "ab" / "gpt"]
    else:
        where, places = "here", [Path(entry or ".") / "ab" / "gpt" for entry in sys.path]
    package = next((place.resolve() for place in places if (place / "util" / "prompt").is_dir()), None)
    if package is None:
        raise UserError(f"NNGPT is not installed {where}; type: {INSTALL}")
    for name, roles in LAYOUTS.items():
        if _file(package, roles["main"]).is_file():
            return Host(package, name, _version(package))
    mains = " nor ".join(f"{roles['main'].replace('.', '/')}.py" for roles in LAYOUTS.values())
    raise UserError(f"NNGPT in '{package}' has an unknown layout: neither {mains} exists; {TESTED}")


def installed_host() -> Host | None:
    """The NNGPT that Python imports, if there is one."""
    try:
        return find_host()
    except UserError:
        return None


def _file(package: Path, module: str) -> Path:
    return package.joinpath(*module.split(".")).with_suffix(".py")


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
