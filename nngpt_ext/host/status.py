"""`nngpt-ext host status`: which NNGPT is here, what it can do, and what to know of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.host import probe
from nngpt_ext.host.conf import enabled
from nngpt_ext.host.defects import find_defects
from nngpt_ext.host.layout import Host, find_host
from nngpt_ext.host.reading import lacking, prompt_entries
from nngpt_ext.host.root import bare_root, run_in, said

# What still takes what the host gives: found by looking into their wheels (transformers 5.14.1 and 5.15.1, trl 1.6.0
# and 1.7.0).
WARMUP_TAKEN = "'transformers<5.15'"
COMPLETION_TAKEN = "'trl<1.7'"
ROLES = ("evaluation", "formulas", "state", "main", "tune", "lora")


def host_status(folder: str | Path | None = None, *, project: str | Path = "nngpt", run: bool = True) -> dict[str, Any]:
    """Describe the host.

    Args:
        folder: where NNGPT is, if not where Python finds it.
        project: the folder that `host enable` writes to.
        run: whether its functions are tried out, in a process of its own; else only its code is read.

    Returns:
        `version`, `layout`, `folder`, `conf`, `llm_presets`, `prompts`, `tuner`, `obstacles`, `defects`,
        `answers` and `enabled`, all of plain values.

    Raises:
        UserError: when there is no host, or one of an unknown layout.
    """
    host = find_host(folder)
    seen = probed(host) if run else {}
    failed = seen.get("failed", {})
    return {
        "version": host.version,
        "layout": host.layout,
        "folder": str(host.folder),
        "nn_dataset": _version("nn-dataset"),
        "conf": {name: str(host.conf / name) for name in ("prompt/train", "prompt/test", "llm")},
        "llm_presets": _names(host.conf / "llm"),
        "prompts": {part: _names(host.conf / "prompt" / part) for part in ("train", "test")},
        "tuner": {
            "main": host.module("main"),
            "importable": {r: r not in failed for r in ("main", "tune")} if run else None,
            "reasons": {r: failed[r] for r in ("main", "tune") if r in failed},
            "lacks": lacking(host, "tune"),
        },
        "obstacles": obstacles(host, seen),
        "defects": find_defects(host, seen),
        "answers": seen.get("answers"),
        "enabled": enabled(Path(project)),
    }


def probed(host: Host, roles: Sequence[str] = ROLES) -> dict[str, Any]:
    """Try the host's functions out in a process and a folder of their own."""
    modules = {role: host.module(role) for role in roles}
    with bare_root(host) as root:
        done = run_in(root, host, ["-m", "nngpt_ext.host.probe", json.dumps(modules)])
    return dict(said(done, probe.MARK, "trying the host's functions out"))


def obstacles(host: Host, seen: dict[str, Any]) -> list[str]:
    """What keeps this environment from running the host's tuner, a line each; conf files that it cannot read too."""
    import torch

    found = _unreadable(host)
    if not torch.cuda.is_available():
        found.append("no CUDA device: the host loads its model for one")
    missing = lacking(host, "tune")
    if missing:
        found.append(f"{host.module('tune')} needs {', '.join(missing)}; type: pip install {' '.join(missing)}")
    elif "tune" in seen.get("failed", {}):
        found.append(f"{host.module('tune')} cannot be imported: {seen['failed']['tune']}")
    present = {d["name"] for d in find_defects(host, seen) if d["present"]}
    if "warmup_ratio" in present:
        version = _version("transformers")
        found.append(
            f"transformers {version} takes no warmup_ratio, which the host gives it; type: pip install {WARMUP_TAKEN}"
        )
    if "completion_only_loss" in present:
        found.append(
            f"trl {_version('trl')}'s collator takes no completion_only_loss, which the host gives it; type: "
            f"pip install {COMPLETION_TAKEN}"
        )
    return found


def _unreadable(host: Host) -> list[str]:
    lines = []
    for part in ("train", "test"):
        for file in sorted((host.conf / "prompt" / part).glob("NN_dataset_compare*.json")):
            try:
                prompt_entries(file)
            except UserError as error:
                lines.append(str(error))
    return lines


def _names(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.glob("*.json"))


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
