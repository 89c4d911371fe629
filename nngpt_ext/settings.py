"""Reading and checking configuration, whatever its keys: YAML files, keywords and `--set key=value`."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationError
from pydantic_core import to_jsonable_python

from nngpt_ext.errors import UserError, did_you_mean, nearest, nearest_name, parsing, reason, shown, typed
from nngpt_ext.io import read_text, refuse_twice

PROJECT_FILE = "nngpt.yaml"
_DEEPEST = 50  # dots in a key
_LONGEST_URL = 2_000  # characters; the patterns that hide passwords take quadratic time
_LONGEST_YAML = 200_000  # characters
_LONGEST_NUMBER = 1_000  # characters; a number such as 1:59:59:… takes quadratic time
_MOST_VALUES = 100_000  # with each alias (*) replaced: two aliases on each of n levels stand for 2^n values


class Stage(BaseModel):
    """A group of configuration keys: frozen, and strict about unknown ones."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _file_name(name: str) -> str:
    if "\0" in name or any(len(os.fsencode(part)) > 255 for part in Path(name).parts):
        raise ValueError("no file can have this name")
    return name


FileName = Annotated[str, AfterValidator(_file_name)]


def hide_password(url: str) -> str:
    """A database URL without what may be a password: `postgresql://me:***@host/name?***`.

    Passwords are also hidden in texts that are not URLs, and in URLs that SQLAlchemy would split incorrectly.
    """
    url = str(url)  # what is given for a URL may be anything, such as a path
    if len(url) > _LONGEST_URL:
        return f"{url[:20].partition('://')[0]}://***"
    place, query, _ = url.partition("?")
    place = re.sub(r"(passw\w*[\s=:]+).*", r"\1***", place, flags=re.DOTALL | re.IGNORECASE)
    place = re.sub(r"(^[^/@:]*(?!://)|(?<!/)//(?!/)[^/@:]*):.*@", r"\1:***@", place, flags=re.DOTALL)
    place = re.sub(r"(://[^/@:]*):(?!\*|\d*(?:/|$))[^/]*", r"\1:***", place)  # where the port belongs
    return f"{place}?***" if query else place


C = TypeVar("C", bound=BaseModel)
_MOST_TOLD = 20  # faults: each is compared with all known keys
_KINDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "true or false",
    "dictionary": "a mapping",
    "list": "a list",
    "datetime": "a date, such as 2026-11-30 or 2026-11-30T12:00:00",
}  # as a user calls what pydantic calls so


def build_config(model: type[C], *layers: Mapping[str, Any], what: str = "configuration") -> C:
    """Merge layers (later ones win, key by key) and check them; `what` begins the error.

    Raises:
        UserError: one line with every unknown key (and the nearest known one) and every bad value (and
            what is allowed).
    """
    content: Mapping[str, Any] = {}
    try:
        for layer in layers:
            content = merged(content, layer)
        return model.model_validate(content)
    except ValidationError as error:
        told = faults(error.errors(), known_keys(model))
    except (RecursionError, OSError) as error:  # of a validator that looks for a file
        told = reason(error)
    raise UserError(f"{what}: {told}")


def faults(errors: Sequence[Mapping[str, Any]], known: list[str]) -> str:
    """What pydantic found wrong, in one line, the first of many; `known` are the keys that exist, dotted."""
    told = list(dict.fromkeys(_fault(dict(item), known) for item in errors[:_MOST_TOLD]))
    return "; ".join([*told, *([f"and {len(errors) - _MOST_TOLD:,} more"] if len(errors) > _MOST_TOLD else [])])


def merged(one: Any, other: Any) -> Any:
    """The second value over the first: mappings key by key, anything else as a whole."""
    if not (isinstance(one, Mapping) and isinstance(other, Mapping)):
        return other
    return {**one, **{key: merged(one.get(key), value) for key, value in other.items()}}


def _fault(error: dict[str, Any], known: list[str]) -> str:
    path = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        groups = sorted({key.rpartition(".")[0] for key in known} - {""})
        alike = [key for key in (*known, *groups) if key.count(".") == path.count(".")]
        last = {key.rpartition(".")[2]: key for key in known}  # a key under another group
        found = last.get(nearest_name(path.rpartition(".")[2], last) or "")
        hint = nearest(path, alike) or nearest(path, known) or did_you_mean(found)
        return f"unknown key {shown(path)}{hint or '; known: ' + ', '.join(known)}"
    message, given = error["msg"].removeprefix("Value error, "), error.get("input")
    kind = re.match(r"Input should be a valid (\w+)", message)
    if kind and kind[1] in _KINDS:
        message = f"must be {_KINDS[kind[1]]}"
    message = message.replace("Input should be", "must be")
    if error["type"] == "model_type":
        inner = next((f" with keys such as {key}" for key in known if key.startswith(f"{path}.")), "")
        message = f"must be a mapping{inner}"
    elif isinstance(given, dict) and error["type"] not in ("value_error", "missing"):
        message = "must be a single value, not a mapping of keys"
    if error["type"] == "literal_error":
        message += nearest(str(given), re.findall(r"'([^']*)'", error["ctx"]["expected"]))
    hidden = isinstance(given, (dict, BaseModel)) or shown(given) in message or path.startswith("store")
    return (
        f"{path + ': ' if path else ''}{message[:1].lower()}{message[1:]}"
        f"{'' if hidden else f' (given: {shown(given)})'}"
    )


def defaults(model: type[BaseModel]) -> dict[str, Any]:
    """The keys of a configuration that have a default, nested, with it."""
    found: dict[str, Any] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found[name] = defaults(inner)
        elif not field.is_required():
            found[name] = field.get_default(call_default_factory=True)
    return found


def filled(model: type[BaseModel], content: Mapping[str, Any]) -> dict[str, Any]:
    """A file's configuration with the keys that the version which wrote it did not have: they were the defaults."""
    return merged(to_jsonable_python(defaults(model)), content)


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


class _Loader(yaml.SafeLoader):
    """Leaves dates as text, because folders are named by them and no key takes one; bounds numbers and aliases."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (declared there)
        first: [(tag, form) for tag, form in found if not tag.endswith(":timestamp")]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._sizes: dict[int, int] = {}  # of finished nodes, by id

    def construct_scalar(self, node: yaml.ScalarNode | yaml.MappingNode) -> Any:
        if node.tag.endswith((":int", ":float")) and len(node.value) > _LONGEST_NUMBER:
            raise ValueError(f"a number of {len(node.value):,} characters; at most {_LONGEST_NUMBER:,} are read")
        return super().construct_scalar(node)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        alias = self.check_event(yaml.AliasEvent)
        node = super().compose_node(parent, index)
        if alias and id(node) not in self._sizes:
            raise ValueError("a value contains itself")
        if isinstance(node, yaml.MappingNode) and not alias:
            refuse_twice(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if not alias and node is not None:
            inner = node.value if isinstance(node, yaml.CollectionNode) else ()
            parts = chain.from_iterable(part if isinstance(part, tuple) else (part,) for part in inner)
            self._sizes[id(node)] = size = 1 + sum(self._sizes[id(part)] for part in parts)
            if size > _MOST_VALUES:
                raise ValueError(f"aliases (*) stand for more than {_MOST_VALUES:,} values")
        return node


def parse_yaml(text: str, trouble: str, advice: str = "") -> Any:
    """Parse YAML.

    Raises:
        UserError: if it is not YAML; its line begins with `trouble` and ends with `advice`.
    """
    with parsing(trouble, advice):
        if len(text) > _LONGEST_YAML:
            raise ValueError(f"{len(text):,} characters; at most {_LONGEST_YAML:,} are read")
        try:
            return _Loader(text).get_single_data()
        except yaml.MarkedYAMLError as error:  # its own text quotes the line, which may have a password
            mark = error.problem_mark or error.context_mark
            what = ": ".join(filter(None, (error.context, error.problem)))
            raise ValueError(f"{what}, line {mark.line + 1}" if mark else what) from None


def parse_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Turn `["tuning.epochs=3", …]` into a nested mapping; values are read as YAML, and later settings win.

    Raises:
        UserError: for a setting that is not `key=value`, or a value that is not YAML.
    """
    nested: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip() or key.count(".") > _DEEPEST:
            example = typed("--set tuning.epochs=3", 'settings=["tuning.epochs=3"]')
            raise UserError(f"{shown(hide_password(setting))} is not key=value; for example {example}")
        content = parse_yaml(
            value,
            f"the value of {shown(hide_password(setting) if key.strip() == 'store' else setting)} cannot be read",
            "quote it, for example " + typed("--set 'prompt=\"recipe\"'", "settings=['prompt=\"recipe\"']"),
        )
        for part in reversed(key.strip().split(".")):
            content = {part: content}
        nested = merged(nested, content)
    return nested


def read_project(path: str | Path, task: str, example: str = "") -> dict[str, Any]:
    """A task's configuration from a YAML file.

    The file is a project file (`tasks: {dataset_compare: {…}}`) or has the task's keys at its top level.

    Raises:
        UserError: for an unreadable file, one without keys (the error shows the `example`), and for a project file in
            which the task is not enabled.
    """
    content = parse_yaml(read_text(path, "the configuration"), f"'{path}' is not YAML")
    if not isinstance(content, dict):
        raise UserError(f"'{path}' has no keys; write for example {example or f'tasks: {{{task}: {{}}}}'}")
    if "tasks" not in content:
        return content
    if example:
        names = ", ".join(map(str, content["tasks"] or ())) if isinstance(content["tasks"], (dict, list)) else "none"
        raise UserError(f"'{path}' configures tasks ({names}) and is no {task}; write for example {example}")
    others = sorted(map(str, set(content) - {"tasks"}))
    if others:
        raise UserError(f"'{path}': unknown key {shown(others[0])}{nearest(others[0], ['tasks'])}; known: tasks")
    enabled = content["tasks"] if isinstance(content["tasks"], dict) else {}
    if task not in enabled:
        names = ", ".join(map(str, enabled)) or "none"
        raise UserError(f"task '{task}' is not enabled in '{path}' (enabled: {names}); add it under 'tasks:'")
    found = enabled[task] or {}
    if not isinstance(found, dict):
        raise UserError(f"'{path}': tasks.{task} must be a mapping of keys, not {shown(found)}")
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


def flat(nested: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by their whole keys, such as `tuning.epochs`."""
    found: dict[str, Any] = {}
    for key, value in nested.items():
        found |= flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found
