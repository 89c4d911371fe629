"""The host's LLM presets: finding and reading one, and what of it decides what our rows may be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError, nearest
from nngpt_ext.host.layout import Host
from nngpt_ext.host.prompts import CHAT_TEMPLATE
from nngpt_ext.host.root import CONF
from nngpt_ext.models.presets import PRESETS

# The later head cuts every row at so many tokens, its answer first of all.
CUT = 4096
# Where transformers' configurations state a context, in the order in which the host looks.
_CONTEXT = ("n_positions", "max_position_embeddings", "seq_length")


def find_preset(name: str, host: Host | None, project: Path) -> Path:
    """The file of an LLM preset: a path, or a name in the project's folder or among the host's own.

    Raises:
        UserError: when there is none.
    """
    if Path(name).is_file():
        return Path(name)
    places = [project / CONF / "llm", *([host.conf / "llm"] if host is not None else [])]
    for place in places:
        if (place / name).is_file():
            return place / name
    known = sorted({file.name for place in places for file in place.glob("*.json")})
    raise UserError(f"no LLM preset '{name}'{nearest(name, known)}; known: {', '.join(known) or 'none'}")


def read_preset(file: Path) -> dict[str, Any]:
    """Read an LLM preset.

    Raises:
        UserError: when it is not JSON, names no base model, or states a context that is no number of tokens.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the LLM preset '{file}': {error}") from None
    if not isinstance(content, dict) or not isinstance(content.get("base_model_name"), str):
        raise UserError(f"the LLM preset '{file}' has no base_model_name")
    context = content.get("default_context_length")
    if context is not None and (type(context) is not int or context < 1):
        raise UserError(f"the LLM preset '{file}' has the default_context_length {context!r}, which is no whole number")
    return content


def base_of(name: str, file: Path, trust_remote_code: bool) -> str:
    """Our name of the base model that a preset's file names, or its hub id or folder.

    Raises:
        UserError: for one that comes with code, which the host would run, and that nobody said to trust.
    """
    known = {preset.location: ours for ours, preset in PRESETS.items()}
    place = Path(name) if Path(name).is_absolute() else file.parents[min(4, len(file.parents) - 1)] / name
    if place.is_dir():
        # An auto_map may name code of a hub: `org/repo--module.Class`.
        if (list(place.glob("*.py")) or _mapped_code(place)) and not trust_remote_code:
            raise UserError(
                f"'{place}' holds or names code, which the host would run; add --trust-remote-code if you trust it"
            )
        return known.get(str(place.resolve()), str(place.resolve()))
    if name not in known and not trust_remote_code:
        raise UserError(
            f"the host runs code that comes with '{name}' without asking; add --trust-remote-code if you trust it "
            f"(not needed for {', '.join(sorted(k for k in known if '/' in k and not Path(k).is_dir()))})"
        )
    return known.get(name, name)


def _mapped_code(folder: Path) -> bool:
    """Whether a configuration of a model or tokenizer there has an `auto_map`; one that cannot be read may."""
    for file in folder.glob("*config.json"):
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return True
        if isinstance(content, dict) and content.get("auto_map"):
            return True
    return False


def row_limit(content: dict[str, Any], folder: Path) -> int:
    """A row, its answer included, must have fewer tokens than this.

    The host leaves out rows that are not shorter than the preset's `default_context_length` (or else the base's own
    context), and its later head cuts them at 4,096 before it looks.

    Args:
        content: the preset.
        folder: of the base model.
    """
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    stated = [content.get("default_context_length"), *(config.get(name) for name in _CONTEXT)]
    return min([CUT, *(int(length) for length in stated if length)])


def chat_template(content: dict[str, Any], file: Path, host: Host, tokenizer: Any) -> str | None:
    """The text of the chat template that a preset names, ours where neither it nor the tokenizer has one.

    Returns:
        None where the tokenizer's own is used.

    Raises:
        UserError: when the preset names a file that is nowhere.
    """
    named = content.get("chat_template_path")
    if not named:
        return None if tokenizer.chat_template else CHAT_TEMPLATE
    places = [conf / "chat_template" / str(named) for conf in (file.resolve().parent.parent, host.conf)]
    for place in places:  # each is the path itself where that is absolute
        if place.is_file():
            return place.read_text(encoding="utf-8")
    raise UserError(
        f"the LLM preset '{file}' names the chat template '{named}', which is not there: "
        f"{', '.join(dict.fromkeys(str(place) for place in places))}"
    )
