"""The identity of a base model: hashes of its weights, configuration, tokenizer and chat template.

JSON files are compared by content, without the keys that record who wrote them and where: a base that another version
of transformers saves again is the same base if nothing that matters changed.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from nngpt_ext.errors import UserError
from nngpt_ext.io import file_digest
from nngpt_ext.run_folder import BASE_FILE, SETTINGS, read_adapter_file

WEIGHTS = "weights"
# *.py is the code that trust_remote_code runs.
_CONFIGURATION = ("config.json", SETTINGS, "*.safetensors.index.json", "*.py")
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "tekken.json", "*.model",
)  # fmt: skip
# Loading sets the data type itself (`models.base.compute_dtype`).
_BOOKKEEPING = {
    "config.json": ("transformers_version", "_name_or_path", "_commit_hash", "dtype", "torch_dtype"),
    "tokenizer_config.json": (
        "transformers_version", "name_or_path", "tokenizer_file", "special_tokens_map_file", "backend", "is_local",
        "local_files_only", "chat_template",
    ),
}  # fmt: skip


def base_hash(folder: Path) -> str:
    """sha256 over the sha256 of each weights file, in text order of their names."""
    total = hashlib.sha256()
    names = {file.name for file in folder.glob("*.safetensors")} | _indexed(folder)
    for name in sorted(names):
        total.update(f"{name} {_cached_digest(folder / name) or file_digest(folder / name)}\n".encode())
    return total.hexdigest()


def _indexed(folder: Path) -> set[str]:
    """The weights files that an index names, which may be in subfolders.

    Raises:
        UserError: for a file outside the base's folder.
    """
    names: set[str] = set()
    for index in folder.glob("*.safetensors.index.json"):
        try:
            names |= {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
        except (OSError, ValueError, LookupError, AttributeError, TypeError, RecursionError):
            continue  # transformers refuses it and says why
    for name in names:
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise UserError(f"'{folder}' names weights outside itself: '{name}'; use another base model")
    return {name for name in names if (folder / name).is_file()}


def base_identity(folder: Path) -> dict[str, str]:
    """Hashes of a base model's other files that decide its answers, by kind."""
    return {
        "configuration": _digest(_contents(folder, _CONFIGURATION)),
        "tokenizer": _digest(_contents(folder, _TOKENIZER)),
        "chat_template": _digest(_chat_templates(folder)),
    }


@dataclass(frozen=True)
class Difference:
    """What of two bases is not the same, with both hashes."""

    kind: str
    there: str
    here: str


def differences(trained: tuple[str, Mapping[str, str]], present: tuple[str, Mapping[str, str]]) -> list[Difference]:
    """In what two bases differ; each is the hash of its weights and its identity.

    What one of them does not say, as the notes of older versions do not, is not compared.
    """
    one, other = ({WEIGHTS: sha256, **identity} for sha256, identity in (trained, present))
    return [Difference(kind, one[kind], other[kind]) for kind in one if kind in other and one[kind] != other[kind]]


def told(found: Iterable[Difference]) -> str:
    """Differences in a line."""
    return ", ".join(
        f"{one.kind.replace('_', ' ')} (sha256 {one.there[:12]}… in training, {one.here[:12]}… here)" for one in found
    )


class BaseNote(BaseModel):
    """`nngpt_ext.json` beside an adapter: the base model that it was trained on."""

    base_model: str
    base_sha256: str
    base_identity: dict[str, str] = Field({}, description="as `base_identity` returns it; empty in older adapters")
    load_in_4bit: bool = True
    files: dict[str, str] = Field({}, description="sha256 of the adapter's other files; empty in older adapters")


def read_base_note(folder: Path) -> BaseNote:
    """Read the note beside the adapter in a folder.

    Raises:
        UserError: if it is missing or damaged.
    """
    return read_adapter_file(folder, BASE_FILE, BaseNote)


def _cached_digest(file: Path) -> str | None:
    """The sha256 that is the name of a large file in the hub's cache, because hashing 14 GB takes a minute.

    Only names in that cache are trusted (`models--*/snapshots/<revision>/<file>`, a link to `../../blobs/<sha256>`);
    elsewhere a link may have any name.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    blob, snapshot = file.resolve(), file.parent.resolve()
    repository = snapshot.parent.parent
    cached = (
        repository.parent == Path(HF_HUB_CACHE).resolve()
        and snapshot.parent.name == "snapshots"
        and blob.parent == repository / "blobs"
        and re.fullmatch("[0-9a-f]{64}", blob.name)
    )
    return blob.name if cached else None


def _contents(folder: Path, patterns: tuple[str, ...]) -> dict[str, Any]:
    """The files' contents by name: JSON without bookkeeping, a hash of anything else."""
    found: dict[str, Any] = {}
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        content = _json(file) if file.suffix == ".json" else None
        found[file.name] = file_digest(file) if content is None else _without(content, _BOOKKEEPING.get(file.name, ()))
    return found


def _chat_templates(folder: Path) -> dict[str, Any]:
    """The chat templates by name: separate files take precedence over tokenizer_config.json."""
    content = _json(folder / "tokenizer_config.json")
    template = content.get("chat_template") if isinstance(content, dict) else None
    found: dict[str, Any] = {} if template is None else {"default": template}
    if isinstance(template, list):  # [{"name": …, "template": …}]
        found = {str(one.get("name")): one.get("template") for one in template if isinstance(one, dict)}
    for file in (folder / "chat_template.jinja", *sorted((folder / "additional_chat_templates").glob("*.jinja"))):
        if file.is_file():
            found["default" if file.parent == folder else file.stem] = file.read_bytes().decode(errors="replace")
    return found | _contents(folder, ("chat_template.json",))


def _json(file: Path) -> Any:
    """A JSON file's content, or None."""
    try:
        return json.loads(file.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None


def _without(content: Any, keys: tuple[str, ...]) -> Any:
    """A configuration without some keys, nested ones too; 1.0 becomes 1."""
    if not keys:
        return content
    if isinstance(content, dict):
        return {key: _without(value, keys) for key, value in content.items() if key not in keys}
    return int(content) if isinstance(content, float) and content.is_integer() else content


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
