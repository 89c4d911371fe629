"""`nngpt-ext host enable`, `disable` and `status`: our task in the configuration that NNGPT reads.

`enable` writes to a folder of the user's project in which NNGPT is started; there it finds our prompts and presets by
name. A note in that folder says which files are ours.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError, typed, unknown
from nngpt_ext.host import conversion
from nngpt_ext.host.conversion import llm_preset, prompt_file, to_json
from nngpt_ext.host.installation import CONF, find_host
from nngpt_ext.host.process import obstacles
from nngpt_ext.io import cannot_write, inside, text_digest, write_text
from nngpt_ext.models.base import local_base
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.template import load_template

NOTE = ".nngpt_ext.json"  # which files and links are ours, with their hashes
TASKS = ("dataset_compare",)
# NNGPT opens the file of this preset when it is imported.
BUILT_IN_PRESET = "nngpt_ds_coder_1.3b_instruct.json"
_README = """Start NNGPT in this folder: it reads prompts and LLM presets from ab/gpt/conf and LEMUR from db/ab.nn.db.
This folder was written by nngpt-ext host enable; nngpt-ext host disable removes what was written.
"""
# NNGPT needs these, no matter who wrote them: they are written only if they are missing.
_SHARED = ("README.md", str(CONF / "dataset_meta.json"), str(CONF / "llm" / BUILT_IN_PRESET))


@dataclass(frozen=True)
class Change:
    """A file or link that is written or removed.

    `before` and `after` are the text of a file or the target of a link; None if it does not exist.
    """

    path: str  # relative to the folder
    before: str | Path | None
    after: str | Path | None

    def diff(self) -> str:
        """The change as a unified diff."""
        both = (self.before, self.after)
        texts = [f"link to {one}" if isinstance(one, Path) else one or "" for one in both]
        old, new = ([f"{line}\n" for line in text.splitlines()] for text in texts)
        one, two = ("/dev/null" if content is None else self.path for content in both)
        return "".join(difflib.unified_diff(old, new, one, two))


def enable(
    task: str, prompts: Sequence[str] = ("code_only",), *, base: str = "deepseek-coder-7b",
    folder: str | Path = "nngpt", dry_run: bool = False,
) -> list[Change]:  # fmt: skip
    """Write NNGPT's configuration for a task; existing files stay as they are.

    Args:
        task: `dataset_compare`.
        prompts: registered prompts or prompt files; the same JSON is written for training and for measuring.
        base: base model of the LLM preset: one of our names, a hub id, a folder or a GGUF file.
        folder: the folder of the user's project that is written to.
        dry_run: only return what would change.

    Returns:
        The changes, sorted by path.

    Raises:
        UserError: for an unknown task or prompt, a folder that is in an installed package or leads outside by a link,
            and a file that was edited by hand or is not ours; nothing is changed then.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    root, chosen = Path(folder), llm_preset(base)
    note = _note(root)
    templates = [load_template(p) if p.endswith(".json") else get_template(p) for p in prompts]
    names = list(dict.fromkeys([*note["prompts"], *(template.name for template in templates)]))
    file = f"nngpt_ext_{Path(chosen['base_model_name']).name}.json"
    wanted: dict[str, str | Path] = {
        "README.md": _README,
        "tune_dataset_compare.py": _script(file, names[0]),
        str(CONF / "dataset_meta.json"): conversion.dataset_meta(),
        str(CONF / "llm" / BUILT_IN_PRESET): to_json(llm_preset("deepseek-coder-1.3b")),
        str(CONF / "llm" / file): to_json(chosen),
    }
    for template in templates:
        for part in ("train", "test"):
            wanted[str(CONF / "prompt" / part / prompt_file(template.name))] = conversion.prompt_json(template)
    if "chat_template_path" in chosen:
        wanted[str(CONF / "chat_template" / conversion.CHAT_TEMPLATE_FILE)] = conversion.CHAT_TEMPLATE
    if (local := local_base(base)) is not None:
        wanted[chosen["base_model_name"]] = local.resolve()
    _check_inside(root, wanted)
    changes, ours = [], dict(note["files"])
    for path, content in sorted(wanted.items()):
        before = _read(root / path)
        if before != content:
            if before is not None and path in _SHARED:
                continue
            _check_ours(root, path, before, note)
            changes.append(Change(path, before, content))
        elif path in _SHARED:
            continue
        ours[path] = text_digest(str(content))
    if not dry_run:
        text, before = to_json({"files": ours, "base": base, "prompts": names}), _read(root / NOTE)
        _apply(root, [*changes, *([Change(NOTE, before, text)] if before != text else [])])
    return changes


def disable(task: str, *, folder: str | Path = "nngpt", dry_run: bool = False) -> list[Change]:
    """Remove what `enable` wrote, unless a file was edited by hand; databases, outputs and the user's files stay."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    root = Path(folder)
    note = _note(root)
    _check_inside(root, note["files"])
    changes = []
    for path in sorted(note["files"]):
        before = _read(root / path)
        _check_ours(root, path, before, note)
        if before is not None:
            changes.append(Change(path, before, None))
    text = _read(root / NOTE)
    if not dry_run and text is not None:
        _apply(root, [*changes, Change(NOTE, text, None)])
    return changes


def enabled(folder: Path) -> dict[str, Any] | None:
    """What is enabled in a folder: prompts, base, and files edited by hand since then; None if nothing is."""
    if not (folder / NOTE).is_file():
        return None
    note = _note(folder)
    changed = [path for path, digest in note["files"].items() if text_digest(str(_read(folder / path))) != digest]
    return {"folder": str(folder.resolve()), "prompts": note["prompts"], "base": note["base"], "changed": changed}


def host_status(folder: str | Path | None = None, *, project: str | Path = "nngpt", run: bool = True) -> dict[str, Any]:
    """Describe the NNGPT in a folder, or where Python finds it, and what is enabled in `project`, in plain values.

    With `run`, its tuner is imported in a separate process.
    """
    host = find_host(folder)
    return {
        "version": host.version,
        "modules": host.modules,
        "missing": host.missing,
        "folder": str(host.folder),
        "conf": str(host.conf),
        "llm_presets": sorted(file.name for file in (host.conf / "llm").glob("*.json")),
        "obstacles": obstacles(host, run=run),
        "enabled": enabled(Path(project)),
    }


def _check_inside(root: Path, paths: Iterable[str]) -> None:
    """Check that paths are in the folder itself, not behind a link, and not in an installed package."""
    for path in paths:
        if {"site-packages", "dist-packages"} & set((root / path).parent.resolve().parts):
            own = typed("give --folder, a folder of your project", "give a folder of your project")
            raise UserError(f"'{root / path}' is in an installed package; {own}")
        inside(root, Path(path).parent)


def _check_ours(root: Path, path: str, content: str | Path | None, note: dict[str, Any]) -> None:
    """Check that a file or link, if it exists, is as `enable` wrote it."""
    if content is None:
        return
    if path not in note["files"]:
        other = typed("--folder", "folder")
        raise UserError(f"'{root / path}' exists and is not ours; move it away or give another {other}")
    if note["files"][path] != text_digest(str(content)):
        raise UserError(f"'{root / path}' was edited by hand; move it away, then run this command again")


def _apply(root: Path, changes: Sequence[Change]) -> None:
    """Make the changes in their order. After a failure the command can be run again: each file is complete or absent,
    and those that are already right are accepted."""
    try:
        for change in changes:
            place = root / change.path
            place.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(change.after, str):
                write_text(place, change.after)
                continue
            place.unlink(missing_ok=True)
            if change.after is not None:
                place.symlink_to(change.after)
            for parent in place.parents:
                if parent == root.parent or any(parent.iterdir()):
                    break
                parent.rmdir()
    except OSError as error:
        raise cannot_write(root, error) from None


def _read(place: Path) -> str | Path | None:
    """The text of a file, the target of a link, None if neither exists."""
    try:
        return place.readlink() if place.is_symlink() else place.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read '{place}' ({getattr(error, 'strerror', None) or error}); move it away") from None


def _note(root: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"files": {}, "prompts": [], "base": None}
    text = _read(root / NOTE)
    try:
        found = json.loads(str(text)) if text is not None else empty
        return {name: found[name] for name in empty} | {"files": {} | found["files"]}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise UserError(f"'{root / NOTE}' is damaged; remove it and run nngpt-ext host enable again") from None


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
