"""Reading and checking configuration, whatever its keys: YAML files, keywords and `--set key=value`."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from nngpt_ext.errors import UserError, nearest

PROJECT_FILE = "nngpt.yaml"


class Stage(BaseModel):
    """A group of configuration keys: frozen, and strict about unknown ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def hide_password(url: str) -> str:
    """A database's address as it may be shown: `postgresql://me:***@host/name`."""
    return re.sub(r"(://[^/@:]*):.*@", r"\1:***@", url)


C = TypeVar("C", bound=BaseModel)


def build_config(model: type[C], *layers: Mapping[str, Any], what: str = "configuration") -> C:
    """Merge layers (later ones win, key by key) and check them; `what` begins the error.

    Raises:
        UserError: one line with every unknown key (and the nearest known one) and every bad value (and
            what is allowed).
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        _merge(merged, layer)
    try:
        return model.model_validate(merged)
    except ValidationError as error:
        faults = [_fault(model, dict(item)) for item in error.errors()]
        raise UserError(f"{what}: {'; '.join(dict.fromkeys(faults))}") from None


def _merge(into: dict[str, Any], layer: Mapping[str, Any]) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = _copied(value)


def _copied(value: Any) -> Any:
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, Mapping) else value


def _fault(model: type[BaseModel], error: dict[str, Any]) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        return f"unknown key '{path}'{_nearest_key(path, known_keys(model))}"
    given = error.get("input")
    repeated = isinstance(given, (dict, BaseModel)) or f"'{given}'" in error["msg"]
    shown = "" if repeated else f"given: {reprlib.repr(given)}"
    found = _field(model, error["loc"])
    if error["type"] == "model_type" and isinstance(found, type):
        message = f"must hold keys ({', '.join(found.model_fields)})"
    else:
        message = error["msg"].removeprefix("Value error, ")
    allowed = _allowed(found) if isinstance(found, FieldInfo) else ""
    notes = "; ".join(note for note in (shown, allowed) if note)
    return f"{path + ': ' if path else ''}{message[:1].lower()}{message[1:]}{f' ({notes})' if notes else ''}"


def _field(model: type[BaseModel], path: tuple[int | str, ...]) -> FieldInfo | type[BaseModel] | None:
    """What a path leads to: a key, a group of keys, or nothing."""
    found: FieldInfo | type[BaseModel] | None = model
    for part in path:
        inner = found.model_fields.get(str(part)) if isinstance(found, type) else None
        kind = inner.annotation if inner is not None else None
        found = kind if isinstance(kind, type) and issubclass(kind, BaseModel) else inner
    return found


def _allowed(field: FieldInfo) -> str:
    """The range of a number, such as `allowed: >= 0.0, < 1.0`."""
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    limits = [f"{signs[k]} {getattr(m, k)}" for m in field.metadata for k in signs if hasattr(m, k)]
    return f"allowed: {', '.join(limits)}" if limits else ""


def _nearest_key(path: str, known: list[str]) -> str:
    groups = sorted({key.rpartition(".")[0] for key in known} - {""})
    alike = [key for key in (*known, *groups) if key.count(".") == path.count(".")]
    hint = nearest(path, alike) or nearest(path, known)
    if hint:
        return hint
    last = path.rsplit(".", 1)[-1]
    same = [key for key in known if difflib.SequenceMatcher(None, key.rsplit(".", 1)[-1], last).ratio() > 0.7]
    return f" (did you mean '{same[0]}'?)" if same else f"; known: {', '.join(known)}"


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


def parse_settings(settings: list[str] | tuple[str, ...]) -> dict[str, Any]:
    """Turn `["tuning.epochs=3", …]` into a nested mapping; values are read as YAML.

    Raises:
        UserError: for a setting that is not `key=value`, or a value that is not YAML.
    """
    nested: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise UserError(f"'{setting}' is not key=value; for example --set tuning.epochs=3")
        try:
            parsed = yaml.safe_load(value)
        except yaml.YAMLError:
            raise UserError(
                f"the value of '{setting}' cannot be read; quote it, for example --set 'prompt=\"recipe\"'"
            ) from None
        inner = nested
        *parents, last = key.strip().split(".")
        for parent in parents:
            inner = inner.setdefault(parent, {})
            if not isinstance(inner, dict):
                raise UserError(f"'{setting}' sets a part of something that an earlier --set gave a value")
        _merge(inner, {last: parsed})
    return nested


def read_project(path: str | Path, task: str) -> dict[str, Any]:
    """A task's configuration from a YAML file.

    The file is a project file (`tasks: {dataset_compare: {…}}`) or holds the task's keys at its top level.

    Raises:
        UserError: for an unreadable file, and for a project file in which the task is not enabled.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"cannot read the configuration '{path}': {getattr(error, 'strerror', None) or error}"
        ) from None
    except yaml.YAMLError as error:
        raise UserError(f"'{path}' is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise UserError(f"'{path}' holds no keys; see examples/demo.yaml")
    if "tasks" not in content:
        return content
    enabled = content["tasks"]
    others = sorted(set(content) - {"tasks"})
    if others:
        raise UserError(f"'{path}': unknown key '{others[0]}'{nearest(others[0], ['tasks'])}; known: tasks")
    if not isinstance(enabled, dict) or task not in enabled:
        names = ", ".join(enabled) if isinstance(enabled, dict) and enabled else "none"
        raise UserError(f"task '{task}' is not enabled in '{path}' (enabled: {names}); add it under 'tasks:'")
    found = enabled[task] or {}
    if not isinstance(found, dict):
        raise UserError(f"'{path}': tasks.{task} must hold keys, not {found!r}")
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
