"""`nngpt-ext host enable`, `disable` and `status`: our task in the configuration that NNGPT reads.

`enable` writes to a folder of the user's project that NNGPT is started in; there it finds our prompts and presets by
name. A note in that folder says which files are ours.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError, unknown
from nngpt_ext.host import conversion
from nngpt_ext.host.conversion import llm_preset, prompt_file, to_json
from nngpt_ext.host.installation import CONF, find_host
from nngpt_ext.host.process import obstacles
from nngpt_ext.io import cannot_write, inside, write_text
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.template import load_template

NOTE = ".nngpt_ext.json"  # which files are ours, with their hashes
TASKS = ("dataset_compare",)
# NNGPT opens the file of this preset when it is imported.
BUILT_IN_PRESET = "nngpt_ds_coder_1.3b_instruct.json"
_README = """Start NNGPT in this folder: it reads prompts and LLM presets from ab/gpt/conf and LEMUR from db/ab.nn.db.
This folder was written by nngpt-ext host enable; nngpt-ext host disable removes what was written.
"""
# Written only where they are missing: NNGPT needs them, no matter who wrote them.
_KEPT = ("README.md", str(CONF / "dataset_meta.json"), str(CONF / "llm" / BUILT_IN_PRESET))


@dataclass(frozen=True)
class Change:
    """A file or link that is written or removed.

    `before` and `after` are its text, or where the link leads; None if it does not exist.
    """

    path: str  # relative to the folder
    before: str | None
    after: str | None
    link: bool = False

    def diff(self) -> str:
        """The change as a unified diff."""
        kind = "link to " if self.link else ""
        texts = (self.before, self.after)
        old, new = ([f"{kind}{line}\n" for line in (text or "").splitlines()] for text in texts)
        one, two = ("/dev/null" if text is None else self.path for text in texts)
        return "".join(difflib.unified_diff(old, new, one, two))


def enable(
    task: str, prompts: Sequence[str] = ("code_only",), *, base: str = "deepseek-coder-7b",
    folder: str | Path = "nngpt", dry_run: bool = False,
) -> list[Change]:  # fmt: skip
    """Write NNGPT's configuration for a task; what is there already is left as it is.

    Args:
        task: `dataset_compare`.
        prompts: registered prompts or prompt files; the same JSON is written for training and for measuring.
        base: base model of the LLM preset: one of our names, a hub id or a folder.
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
    wanted = {
        "README.md": _README,
        "tune_dataset_compare.py": _script(chosen.file, names[0]),
        str(CONF / "dataset_meta.json"): conversion.dataset_meta(),
        str(CONF / "llm" / BUILT_IN_PRESET): to_json(llm_preset("deepseek-coder-1.3b").content),
        str(CONF / "llm" / chosen.file): to_json(chosen.content),
    }
    for template in templates:
        for part in ("train", "test"):
            wanted[str(CONF / "prompt" / part / prompt_file(template.name))] = conversion.prompt_json(template)
    if "chat_template_path" in chosen.content:
        wanted[str(CONF / "chat_template" / conversion.CHAT_TEMPLATE_FILE)] = conversion.CHAT_TEMPLATE
    links = {chosen.link[0]: str(chosen.link[1])} if chosen.link is not None else {}
    _check_inside(root, [*wanted, *links])
    changes, ours = [], dict(note["files"])
    for path, text in wanted.items():
        before = _read(root / path)
        if before is not None and before != text:
            if path in _KEPT:
                continue
            _check_ours(root, path, before, note)
        if before != text:
            changes.append(Change(path, before, text))
        if before != text or path not in _KEPT:
            ours[path] = _hash(text)
    for path, target in links.items():
        place = root / path
        if not place.is_symlink() or str(place.readlink()) != target:
            if place.exists() or place.is_symlink():
                raise UserError(f"'{place}' exists and is not a link to '{target}'; move it away")
            changes.append(Change(path, None, target, link=True))
    changes.sort(key=lambda change: change.path)
    if not dry_run:
        new = {"files": ours, "base": base, "links": sorted({*note["links"], *links}), "prompts": names}
        text, before = json.dumps(new, indent=2) + "\n", _read(root / NOTE)
        _apply(root, [*changes, *([Change(NOTE, before, text)] if before != text else [])])
    return changes


def disable(task: str, *, folder: str | Path = "nngpt", dry_run: bool = False) -> list[Change]:
    """Remove what `enable` wrote, unless a file was edited by hand; databases, outputs and the user's files stay."""
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    root = Path(folder)
    note = _note(root)
    _check_inside(root, [*note["files"], *note["links"]])
    changes = []
    for path in note["files"]:
        before = _read(root / path)
        if before is not None:
            _check_ours(root, path, before, note)
            changes.append(Change(path, before, None))
    for path in note["links"]:
        if (root / path).is_symlink():
            changes.append(Change(path, str((root / path).readlink()), None, link=True))
    changes.sort(key=lambda change: change.path)
    text = _read(root / NOTE)
    if not dry_run and text is not None:
        _apply(root, [*changes, Change(NOTE, text, None)])
    return changes


def enabled(folder: Path) -> dict[str, Any] | None:
    """What is enabled in a folder: prompts, base, and files edited by hand since then; None if nothing is."""
    if not (folder / NOTE).is_file():
        return None
    note = _note(folder)
    changed = [p for p, digest in note["files"].items() if (text := _read(folder / p)) is None or _hash(text) != digest]
    return {"folder": str(folder.resolve()), "prompts": note["prompts"], "base": note["base"], "changed": changed}


def host_status(folder: str | Path | None = None, *, project: str | Path = "nngpt", run: bool = True) -> dict[str, Any]:
    """Describe the NNGPT that is installed, in plain values.

    Args:
        folder: where NNGPT is, if not where Python finds it.
        project: the folder that `enable` writes to.
        run: whether to import its tuner, in a process of its own.
    """
    host = find_host(folder)

    return {
        "version": host.version,
        "layout": host.layout,
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
            raise UserError(f"'{root / path}' is in an installed package; give a folder of your project with --folder")
        inside(root, Path(path).parent)


def _check_ours(root: Path, path: str, text: str, note: dict[str, Any]) -> None:
    known = note["files"].get(path)
    if known is None:
        raise UserError(f"'{root / path}' exists and is not ours; move it away or give another --folder")
    if known != _hash(text):
        raise UserError(f"'{root / path}' was edited by hand; move it away, then run this command again")


def _apply(root: Path, changes: Sequence[Change]) -> None:
    """Make the changes in their order. After a failure the command can be run again: each file is complete or absent,
    and what is there already with the right content is accepted."""
    try:
        for change in changes:
            _put(root, change)
    except OSError as error:
        raise cannot_write(root, error) from None


def _put(root: Path, change: Change) -> None:
    place = root / change.path
    if change.after is not None:
        place.parent.mkdir(parents=True, exist_ok=True)
        if change.link:
            place.symlink_to(change.after)
        else:
            write_text(place, change.after)
        return
    place.unlink(missing_ok=True)
    for parent in place.parents:
        if parent == root.parent or any(parent.iterdir()):
            break
        parent.rmdir()


def _read(file: Path) -> str | None:
    """The text of a file, None if it does not exist."""
    try:
        return file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read '{file}': {getattr(error, 'strerror', None) or error}") from None


def _note(root: Path) -> dict[str, Any]:
    empty: dict[str, Any] = {"files": {}, "links": [], "prompts": [], "base": None}
    text = _read(root / NOTE)
    try:
        found = json.loads(text) if text is not None else empty
        return {name: found[name] for name in empty}
    except (ValueError, KeyError, TypeError):
        raise UserError(f"'{root / NOTE}' is damaged; remove it and run nngpt-ext host enable again") from None


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
