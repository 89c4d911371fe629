"""Reading and checking configuration, whatever its keys: YAML files, keywords and `--set key=value`."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from nngpt_ext.errors import UserError, nearest

PROJECT_FILE = "nngpt.yaml"


class Stage(BaseModel):
    """A group of configuration keys: frozen, and strict about unknown ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def hide_password(url: str) -> str:
    """A database URL without its password: `postgresql://me:***@host/name`."""
    return re.sub(r"(://[^/@:]*):.*@", r"\1:***@", url)


C = TypeVar("C", bound=BaseModel)


def build_config(model: type[C], *layers: Mapping[str, Any], what: str = "configuration") -> C:
    """Merge layers (later ones win, key by key) and check them; `what` begins the error.

    Raises:
        UserError: one line with every unknown key (and the nearest known one) and every bad value (and
            what is allowed).
    """
    merged: Mapping[str, Any] = {}
    for layer in layers:
        merged = _merged(merged, layer)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        faults = [_fault(dict(item), known_keys(model)) for item in error.errors()]
        raise UserError(f"{what}: {'; '.join(dict.fromkeys(faults))}") from None


def _merged(one: Any, other: Any) -> Any:
    """The second value over the first: mappings key by key, anything else as a whole."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return other
    return {**one, **{key: _merged(one.get(key), value) for key, value in other.items()}}


def _fault(error: dict[str, Any], known: list[str]) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        groups = sorted({key.rpartition(".")[0] for key in known} - {""})
        alike = [key for key in (*known, *groups) if key.count(".") == path.count(".")]
        last = {key.rpartition(".")[2]: f" (did you mean '{key}'?)" for key in known}
        same = difflib.get_close_matches(path.rpartition(".")[2], last, n=1, cutoff=0.7)
        hint = nearest(path, alike) or nearest(path, known) or "".join(last[key] for key in same)
        hint = hint or f"; known: {', '.join(known)}"
        return f"unknown key '{path}'{hint}"
    message, given = error["msg"].removeprefix("Value error, "), error.get("input")
    if error["type"] == "model_type":
        inner = next((f" with keys such as {key}" for key in known if key.startswith(f"{path}.")), "")
        message = f"must be a mapping{inner}"
    shown = isinstance(given, (dict, BaseModel)) or f"'{given}'" in message
    return (
        f"{path + ': ' if path else ''}{message[:1].lower()}{message[1:]}"
        f"{'' if shown else f' (given: {reprlib.repr(given)})'}"
    )


def known_keys(model: type[BaseModel], prefix: str = "") -> list[str]:
    """All keys of a configuration, dotted."""
    keys: list[str] = []
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            keys += known_keys(inner, f"{prefix}{name}.")
        else:
            keys.append(prefix + name)
    return keys


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Turn `["tuning.epochs=3", …]` into a nested mapping; values are read as YAML, and later settings win.

    Raises:
        UserError: for a setting that is not `key=value`, or a value that is not YAML.
    """
    nested: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"'{setting}' is not key=value; for example --set tuning.epochs=3")
        try:
            content = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(
                f"the value of '{setting}' cannot be read; quote it, for example --set 'prompt=\"recipe\"'"
            ) from None
        for part in reversed(key.strip().split(".")):
            content = {part: content}
        nested = _merged(nested, content)
    return nested


def read_project(path: str | Path, task: str) -> dict[str, Any]:
    """A task's configuration from a YAML file.

    The file is a project file (`tasks: {dataset_compare: {…}}`) or has the task's keys at its top level.

    Raises:
        UserError: for an unreadable file, and for a project file in which the task is not enabled.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the configuration '{path}': {getattr(error, 'strerror', None) or error}"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"'{path}' is not YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UserError(f"'{path}' has no keys; see examples/demo.yaml")
    if "tasks" not in content:
        return content
    others = sorted(set(content) - {"tasks"})
    if others:
        raise UserError(f"'{path}': unknown key '{others[0]}'{nearest(others[0], ['tasks'])}; known: tasks")
    enabled = content["tasks"] if isinstance(content["tasks"], dict) else {}
    if task not in enabled:
        names = ", ".join(enabled) or "none"
        raise UserError(f"task '{task}' is not enabled in '{path}' (enabled: {names}); add it under 'tasks:'")
    found = enabled[task] or {}
    if not isinstance(found, dict):
        raise UserError(f"'{path}': tasks.{task} must be a mapping of keys, not {found!r}")
    return found


def find_project(start: Path | None = None) -> Path | None:
    """The nearest `nngpt.yaml` in a folder (by default the current one) and upwards."""
    folder = (start or Path.cwd()).resolve()
    for place in (folder, *folder.parents):
        if (place / PROJECT_FILE).is_file():
            return place / PROJECT_FILE
    return None


def dump_config(config: BaseModel) -> str:
    """The configuration as YAML, every key with its value."""
    return str(yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
