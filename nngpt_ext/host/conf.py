"""`nngpt-ext host enable` and `disable`: our task in the conf that the host reads, in a folder of the user's project.

The folder is a root (see `nngpt_ext.host.root`): started in it, the host finds our prompts and presets by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError, unknown
from nngpt_ext.host.changes import Change, apply, check_inside, link_change, read
from nngpt_ext.host.prompts import CHAT_TEMPLATE, TEMPLATE_FILE, dataset_meta, llm_preset, prompt_json
from nngpt_ext.host.root import BUILT_IN_PRESET, CONF
from nngpt_ext.io import cannot_write
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.template import load_template

NOTE = ".nngpt_ext.json"  # which files are ours, with their hashes
TASKS = ("dataset_compare",)
_README = """A folder to start NNGPT in: it reads prompts and LLM presets from ab/gpt/conf and LEMUR from db/ab.nn.db.
Written by nngpt-ext host enable; nngpt-ext host disable takes it back.
"""
# Only looked at where there is no such file: the host needs one, whoever wrote it.
_KEPT = ("README.md", str(CONF / "dataset_meta.json"), str(CONF / "llm" / BUILT_IN_PRESET))


def prompt_file(prompt: str) -> str:
    """The name of a prompt's JSON file."""
    return f"NN_dataset_compare_{prompt}.json"


def enable(
    task: str, prompts: Sequence[str] = ("code_only",), *, base: str = "deepseek-coder-7b",
    folder: str | Path = "nngpt", dry_run: bool = False,
) -> list[Change]:  # fmt: skip
    """Write the host's conf for a task; what is there already is left as it is.

    Args:
        task: `dataset_compare`.
        prompts: registered prompts or prompt files, each of which gets a JSON file for training and the same for
            measuring.
        base: base model of the LLM preset: a preset of ours, a hub id or a folder.
        folder: the folder of the user's project that is written to.
        dry_run: only say what would change.

    Returns:
        The changes, in the order of their paths; none where everything is there.

    Raises:
        UserError: for an unknown task or prompt, a folder inside an installed package or that leads outside by a
            link, for a file that was edited by hand or is not ours, and where it may not be written; nothing is
            changed then.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    root = _usable(Path(folder))
    note = _note(root)
    chosen = llm_preset(base)
    wanted = {"README.md": _README, str(CONF / "dataset_meta.json"): dataset_meta()}
    wanted[str(CONF / "llm" / BUILT_IN_PRESET)] = llm_preset("deepseek-coder-1.3b").text
    wanted[str(CONF / "llm" / chosen.name)] = chosen.text
    templates = [load_template(p) if p.endswith(".json") else get_template(p) for p in prompts]
    names = [template.name for template in templates]
    for template in templates:
        text = prompt_json(template)
        for part in ("train", "test"):
            wanted[str(CONF / "prompt" / part / prompt_file(template.name))] = text
    if chosen.chat_template:
        wanted[str(CONF / "chat_template" / TEMPLATE_FILE)] = CHAT_TEMPLATE
    wanted["tune_dataset_compare.py"] = _script(chosen.name, [*note["prompts"], *names][0])
    for path in (*wanted, *(chosen.link[:1] if chosen.link else ())):
        check_inside(root, path)
    changes = []
    for path, text in sorted(wanted.items()):
        before = read(root / path)
        if before is None:
            changes.append(Change(path, None, text))
        elif before != text and path not in _KEPT:
            _ours(root, path, before, note)
            changes.append(Change(path, before, text))
    linked = link_change(root, *chosen.link) if chosen.link is not None else None
    changes = sorted([*changes, *([linked] if linked else [])])
    if dry_run:
        return changes
    written = {c.path for c in changes if not c.link}
    written |= {p for p, t in wanted.items() if p not in _KEPT and read(root / p) == t}
    kept = {"files": note["files"] | {p: _hash(wanted[p]) for p in sorted(written)}, "base": base}
    kept["links"] = sorted({*note["links"], *([chosen.link[0]] if chosen.link else [])})
    kept["prompts"] = list(dict.fromkeys([*note["prompts"], *names]))  # in order: the script is of the first
    text, before = json.dumps(kept, indent=2) + "\n", read(root / NOTE)
    apply(root, [*changes, *([Change(NOTE, before, text)] if before != text else [])])
    return changes


def disable(task: str, *, folder: str | Path = "nngpt", dry_run: bool = False) -> list[Change]:
    """Take back what `enable` wrote; databases, outputs and files of others stay.

    Raises:
        UserError: when a file was edited by hand since; nothing is removed then.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    root = Path(folder)
    note = _note(root)
    changes = []
    for path in (*note["files"], *note["links"]):
        check_inside(root, path)
    for path in sorted(note["files"]):
        before = read(root / path)
        if before is not None:
            _ours(root, path, before, note)
            changes.append(Change(path, before, None))
    for path in note["links"]:
        if (root / path).is_symlink():
            changes.append(Change(path, str((root / path).readlink()), None, link=True))
    changes.sort()
    if dry_run or not (root / NOTE).is_file():
        return changes
    try:
        for path in [*(c.path for c in changes), NOTE]:
            (root / path).unlink()
            for parent in (root / path).parents:
                if parent == root.parent or any(parent.iterdir()):
                    break
                parent.rmdir()
    except OSError as error:
        raise cannot_write(root, error) from None
    return changes


def enabled(folder: Path) -> dict[str, Any] | None:
    """What is enabled in a folder: prompts, base, and files edited by hand since; None where nothing is."""
    if not (folder / NOTE).is_file():
        return None
    note = _note(folder)
    changed = [p for p, digest in note["files"].items() if (text := read(folder / p)) is None or _hash(text) != digest]
    return {"folder": str(folder.resolve()), "prompts": note["prompts"], "base": note["base"], "changed": changed}


def _usable(root: Path) -> Path:
    place = root.resolve()
    if {"site-packages", "dist-packages"} & set(place.parts):
        raise UserError(f"'{root}' is inside an installed package; give a folder of your project with --folder")
    if root.exists() and not root.is_dir():
        raise UserError(f"'{root}' is a file; give a folder with --folder")
    return root


def _ours(root: Path, path: str, text: str, note: dict[str, Any]) -> None:
    known = note["files"].get(path)
    if known is None:
        raise UserError(f"'{root / path}' is there and not ours; move it away or give another --folder")
    if known != _hash(text):
        raise UserError(f"'{root / path}' was edited by hand since it was written; move it away and type it again")


def _note(root: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"files": {}, "links": [], "prompts": [], "base": None}
    text = read(root / NOTE)
    if text is None:
        return empty
    try:
        found = json.loads(text)
        return {name: type(value)(found[name]) if value is not None else found[name] for name, value in empty.items()}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"'{root / NOTE}' is damaged; remove it and type nngpt-ext host enable again") from None


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _script(preset: str, prompt: str) -> str:
    name = prompt_file(prompt)
    return f'''"""Fine-tune with nngpt_ext's qlora by the arguments of NNGPT's own main. Start it in this folder."""

from nngpt_ext.host import tune_main

if __name__ == "__main__":
    tune_main(
        llm_conf="{preset}",
        llm_tune_conf="{name}",
        nn_gen_conf="{name}",
        nn_gen_conf_id="{prompt}",
        num_train_epochs=15,
        learning_rate=1e-4,
        classification_mode=True,
        use_agents=False,
        output_dir="out/dataset_compare",
    )
'''
