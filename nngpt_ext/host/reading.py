"""Reading the host's code without running it: parameters, defaults, calls and what a module imports."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.host.layout import Host


@functools.lru_cache(maxsize=64)
def tree_of(file: Path) -> ast.Module:
    """The syntax tree of a file.

    Raises:
        UserError: when it cannot be read as Python.
    """
    try:
        return ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError) as error:
        raise UserError(f"cannot read the host's '{file}': {error}") from None


def prompt_entries(file: Path) -> list[dict[str, Any]]:
    """The prompts of a file of the host's conf.

    Raises:
        UserError: when it is not JSON, or not of mappings by name.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the host's prompts in '{file}': {error}") from None
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise UserError(f"the host's prompts in '{file}' are not mappings by name; it was edited by hand")
    return list(content.values())


def function(host: Host, role: str, name: str) -> ast.FunctionDef:
    """A function, or a class's method as `Class.method`, of the module that plays a role.

    Raises:
        UserError: when the host has changed and it is not there.
    """
    body: list[ast.stmt] = tree_of(host.file(role)).body
    *outer, last = name.split(".")
    for part in outer:
        body = next((n.body for n in body if isinstance(n, ast.ClassDef) and n.name == part), [])
    found = next((n for n in body if isinstance(n, ast.FunctionDef) and n.name == last), None)
    if found is None:
        raise UserError(f"NNGPT's {host.file(role)} has no {name}; {_tested()}")
    return found


def parameters(host: Host, role: str, name: str) -> dict[str, ast.expr | None]:
    """The parameters of a function in their order, each with its default's expression."""
    arguments = function(host, role, name).args
    names = [a.arg for a in (*arguments.posonlyargs, *arguments.args)]
    defaults: list[ast.expr | None] = [None] * (len(names) - len(arguments.defaults))
    found = dict(zip(names, [*defaults, *arguments.defaults], strict=True))
    return found | {a.arg: d for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)}


def check_parameters(host: Host, role: str, name: str, needed: Mapping[str, object] | tuple[str, ...]) -> None:
    """See that a function still takes what we give it.

    Raises:
        UserError: naming the parameters that it has not.
    """
    missing = [p for p in needed if p not in parameters(host, role, name)]
    if missing:
        raise UserError(f"NNGPT's {name} in '{host.file(role)}' takes no {', '.join(missing)}; {_tested()}")


def constant(host: Host, role: str, expression: ast.expr | None) -> object:
    """The value of a literal, or of a module's constant that a default names; None where it is neither."""
    if isinstance(expression, ast.Constant):
        return expression.value
    if isinstance(expression, ast.Name):
        for node in tree_of(host.file(role)).body:
            if isinstance(node, ast.Assign) and any(
                isinstance(t, ast.Name) and t.id == expression.id for t in node.targets
            ):
                return constant(host, role, node.value)
    return None


def calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    """The calls of `name(…)` or `anything.name(…)` in a tree."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = node.func
            if (isinstance(called, ast.Attribute) and called.attr == name) or (
                isinstance(called, ast.Name) and called.id == name
            ):
                yield node


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """The expression given for a keyword in a call."""
    return next((k.value for k in call.keywords if k.arg == name), None)


def lacking(host: Host, role: str) -> list[str]:
    """Top-level packages that a module needs at its import, itself or through `ab.…`, and that are not there."""
    return lacking_of(host.module(role), host.folder.parent)


def lacking_of(module: str, *places: Path) -> list[str]:
    """The same for a module under `ab`, looked for in these folders `ab` and in those that Python would import."""
    data = importlib.util.find_spec("ab")
    known = [Path(p) for p in (data.submodule_search_locations or [])] if data is not None else []
    return _lacking(module, [*places, *known])


def _lacking(start: str, places: list[Path]) -> list[str]:
    waiting, seen, missing = [start], set[str](), set[str]()
    while waiting:
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        file = _file_of(module, places)
        if file is None:
            continue
        for name in _needed(tree_of(file)):
            if name.split(".")[0] == "ab":
                waiting += [name, *(".".join(name.split(".")[:n]) for n in range(2, name.count(".") + 1))]
            elif name.split(".")[0] not in seen:
                seen.add(name.split(".")[0])
                if not _there(name.split(".")[0]):
                    missing.add(name.split(".")[0])
    return sorted(missing)


def _there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _file_of(module: str, places: list[Path]) -> Path | None:
    parts = module.split(".")[1:]
    for place in places:
        base = place.joinpath(*parts)
        for file in (base.with_suffix(".py"), base / "__init__.py"):
            if parts and file.is_file():
                return file
    return None


def _needed(tree: ast.Module) -> Iterator[str]:
    """Modules that the import statements at a module's top level name; those within `try` may fail."""
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names if node.module.startswith("ab."))


def _tested() -> str:
    return "tested with nn-gpt 1.0.6 and its head of August 2026"
