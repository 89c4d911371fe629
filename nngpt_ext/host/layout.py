"""Where NNGPT is and how it is laid out: its modules have other paths in 1.0.6 than in its later head."""

from __future__ import annotations

import importlib.util
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

from nngpt_ext.errors import UserError

INSTALL = "pip install --no-deps nn-gpt==1.0.6"
# What the rest of this folder asks for by role; the values are relative to the package `ab.gpt`.
LAYOUTS: dict[str, dict[str, str]] = {
    "flat": {
        "main": "TuneNNGen", "evaluation": "ClassificationEval", "state": "agents.state", "manager": "agents.manager",
        "controller": "agents.run_agent",
    },
    "act": {
        "main": "act.tune.Tune", "evaluation": "act.classification.Eval", "state": "act.agents.state",
        "manager": "act.agents.manager", "controller": "act.agents.run_agent",
    },
}  # fmt: skip
SHARED = {
    "tune": "util.Tune", "prompt": "util.prompt.Prompt", "loader": "util.prompt.NNGenPrompt", "const": "util.Const",
    "builder": "util.DatasetCompareBuilder", "enrichment": "util.lemur_enrichment", "formulas": "util.Util",
    "lora": "util.LoRA", "llm": "util.LLM",
}  # fmt: skip


class Host(NamedTuple):
    """An NNGPT that can be imported from here."""

    folder: Path  # ab/gpt
    layout: str  # a key of LAYOUTS
    version: str | None  # of the installed distribution, or of the checkout

    def module(self, role: str) -> str:
        """The dotted name of the module that plays a role in this layout, such as `main`."""
        return f"ab.gpt.{(SHARED | LAYOUTS[self.layout])[role]}"

    def file(self, role: str) -> Path:
        """That module's file.

        Raises:
            UserError: when this host has none.
        """
        found = self.folder.joinpath(*(SHARED | LAYOUTS[self.layout])[role].split(".")).with_suffix(".py")
        if not found.is_file():
            raise UserError(f"NNGPT in '{self.folder}' has no {found.relative_to(self.folder)}; {_versions()}")
        return found

    @property
    def conf(self) -> Path:
        """Its own folder of prompts and LLM presets."""
        return self.folder / "conf"


def find_host(folder: str | Path | None = None) -> Host:
    """Find NNGPT without running any of its code.

    Args:
        folder: the package folder `ab/gpt`, or one that holds it; by default the one Python would import.

    Raises:
        UserError: when there is none, or its layout is not a known one.
    """
    package = _given(Path(folder)) if folder is not None else _importable()
    if package is None:
        where = f"in '{folder}'" if folder is not None else "here"
        raise UserError(f"NNGPT is not installed {where}; type: {INSTALL}")
    for name, roles in LAYOUTS.items():
        if package.joinpath(*roles["main"].split(".")).with_suffix(".py").is_file():
            return Host(package, name, _version(package))
    mains = " nor ".join(f"{roles['main'].replace('.', '/')}.py" for roles in LAYOUTS.values())
    raise UserError(f"NNGPT in '{package}' has an unknown layout: neither {mains}; {_versions()}")


def _versions() -> str:
    return f"known are 1.0.6 ({INSTALL}) and the head of August 2026"


def _given(folder: Path) -> Path | None:
    return next((place for place in (folder, folder / "ab" / "gpt") if (place / "util" / "prompt").is_dir()), None)


def _importable() -> Path | None:
    # `ab` alone runs two lines that join its folders; `ab.gpt` runs nothing, yet finding it would import `ab`.
    spec = importlib.util.find_spec("ab")
    places = [*(spec.submodule_search_locations or [] if spec is not None else [])]
    places += [str(Path(entry or ".") / "ab") for entry in sys.path]
    found = (Path(place) / "gpt" for place in places)
    return next((place.resolve() for place in found if (place / "util" / "prompt").is_dir()), None)


def _version(package: Path) -> str | None:
    """The version of a checkout's file `version`, or of the distribution that holds this very folder."""
    stated = package.parents[1] / "version"
    if stated.is_file() and (package.parents[1] / "pyproject.toml").is_file():
        return stated.read_text(encoding="utf-8").strip()
    for distribution in metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if name == "nn-gpt" and Path(str(distribution.locate_file("ab/gpt"))).resolve() == package:
            return distribution.version
    return None
