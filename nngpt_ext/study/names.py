"""The names in a grid, looked up before anything is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from nngpt_ext.errors import UserError, nearest
from nngpt_ext.data.words import LABELS, SPLITS
from nngpt_ext.models.presets import PRESETS
from nngpt_ext.prompts.template import load_template
from nngpt_ext.registry import prompts


def check_names(
    prompt_names: Sequence[str], bases: Sequence[str], splits: Sequence[str], labels: Sequence[str]
) -> list[str]:
    """What is wrong with the names of prompts, bases, splits and labels: a fault a kind that names all unknown ones.

    A base that is known and cannot be had here is no fault: its cells are recorded as not run.
    """
    faults = _prompt_files(prompt_names)
    known_prompts = prompts.names()
    kinds: tuple[tuple[str, Iterable[str], Sequence[str], Callable[[str], bool]], ...] = (
        ("prompt", prompt_names, known_prompts, lambda n: n.endswith(".json")),
        ("base model", bases, list(PRESETS), _is_place),
        ("split", splits, SPLITS, lambda n: False),
        ("label", labels, LABELS, lambda n: False),
    )
    for kind, given, known, otherwise in kinds:
        strange = [name for name in dict.fromkeys(given) if name not in known and not otherwise(name)]
        if strange:
            shown = ", ".join(f"'{name}'{nearest(name, known)}" for name in strange)
            more = ", a folder or a hub id (owner/name)" if kind == "base model" else ""
            plural = "s" if len(strange) > 1 else ""
            faults.append(f"unknown {kind}{plural} {shown}; known: {', '.join(known)}{more}")
    if any("prompt" in fault for fault in faults):
        faults += prompts.broken()
    return faults


def _prompt_files(names: Iterable[str]) -> list[str]:
    faults = []
    for name in dict.fromkeys(names):
        if name.endswith(".json"):
            try:
                load_template(name)
            except UserError as error:
                faults.append(str(error))
    return faults


def _is_place(base: str) -> bool:
    """Whether it is a folder that is there, or has the form of a hub id."""
    return Path(base).is_dir() or (base.count("/") == 1 and not base.startswith((".", "/", "~")))
