"""What a Python file defines, read without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from importlib.util import decode_source
from pathlib import Path

from nngpt_ext.compact import refuse_depth
from nngpt_ext.io import is_file
from nngpt_ext.quiet import no_warnings

Function = ast.FunctionDef | ast.AsyncFunctionDef
Class = ast.ClassDef
Definition = Function | Class


def module_file(folder: Path, module: str) -> Path:
    """The file that Python imports for a module below a folder: a package goes before a file of the same name."""
    place = folder.joinpath(*module.split("."))
    own = place / "__init__.py"
    return own if is_file(own) else place.with_suffix(".py")


def is_readable(file: Path) -> bool:
    """Whether Python could parse a file; also if there is none."""
    return _tree(file) is not None


def _tree(file: Path) -> ast.Module | None:
    """The syntax tree of a module, an empty one if there is no such file; None if it is not readable as Python."""
    try:
        if not is_file(file):
            return ast.Module([], [])
        text = decode_source(file.read_bytes())  # by a byte order mark or a coding comment, as Python does
        with no_warnings():
            refuse_depth(text)
            return ast.parse(text)
    except (OSError, ValueError, LookupError, SyntaxError, RecursionError, MemoryError):
        return None


def defined(file: Path, name: str) -> Definition | None:
    """What a name stands for in a module when it is imported: the last of its definitions."""
    tree = _tree(file)
    named = [node for node in _definitions(tree) if node.name == name] if tree is not None else []
    return named[-1] if named else None


def arguments(file: Path, name: str) -> ast.arguments:
    """The arguments of a function that a module defines.

    Raises:
        LookupError: if it defines no such function.
    """
    found = defined(file, name)
    if not isinstance(found, Function):
        raise LookupError(f"'{file}' defines no function {name}")
    return found.args


def _definitions(tree: ast.Module) -> Iterator[Definition]:
    """The functions and classes of a module, also those in blocks such as `if` and `try`, in order.

    Those of an `except` come first: they stand in where the others cannot be defined.
    """
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, Definition):
            yield node
            continue
        inner = [n for n in ast.iter_child_nodes(node) if isinstance(n, (ast.stmt, ast.excepthandler, ast.match_case))]
        inner.sort(key=lambda one: not isinstance(one, ast.excepthandler))
        waiting += inner[::-1]
