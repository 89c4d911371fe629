"""Python source without comments and docstrings: the same program in fewer tokens."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from typing import NamedTuple

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")
# Stands for a newline inside a string while blank lines are dropped; Python source cannot hold it.
_HIDDEN = "\0"

Place = tuple[int, int]  # line from 1, column from 0 in characters


class _Docstring(NamedTuple):
    end: Place
    alone: bool  # nothing else is in the body, which needs a `pass` then


def compact_code(source: str) -> str:
    """Take comments, docstrings, blank lines and trailing blanks out of Python source.

    What remains is the same program: it has the syntax tree of the input less its docstrings (all strings
    that open a body; `pass` where nothing else was there), so it compiles whenever the input did. Indentation
    and the form of the code stay; lines end in a line feed. Source that does not parse keeps its comments and
    docstrings; if it cannot even be cut into tokens, only its end is stripped.
    """
    text = source.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    lines = text.split("\n")
    tree = _parsed(text)
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, tokenize.TokenError):
        return _end_stripped(source)
    if tree is None:
        strange = _HIDDEN in text or any(token.type == tokenize.ERRORTOKEN for token in tokens)
        return _end_stripped(source) if strange else _without_blanks(_edited(lines, tokens, {}, comments=True))
    result = _edited(lines, tokens, _docstrings(tree, lines), comments=False)
    # A backslash must not join a line to the one after the comment or docstring that was cut.
    result = re.sub(r"(?:[ \t\f]*\\\n)+(?=\n|\Z)", "\n", _without_trailing(result))
    result = _without_blanks(result)
    # Python's tokenizer has had wrong columns in some releases: where the cuts fail, nothing is cut.
    return result if _parsed(result) is not None else _end_stripped(source)


def _parsed(text: str) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a network's "\d" is not our user's concern
        try:
            return ast.parse(text)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _docstrings(tree: ast.Module, lines: list[str]) -> dict[Place, _Docstring]:
    """Where each body's leading strings stand, by their start."""
    found = {}
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DOCUMENTED):
            strings = 0
            while strings < len(node.body) and _is_string(node.body[strings]):
                strings += 1
            if strings:
                first, last = node.body[0], node.body[strings - 1]
                alone = strings == len(node.body) and not isinstance(node, ast.Module)
                end = _place(lines, last.end_lineno or 0, last.end_col_offset or 0)
                found[_place(lines, first.lineno, first.col_offset)] = _Docstring(end, alone)
        for name in _BODIES:  # only statements hold statements; walking expressions too takes three times as long
            waiting.extend(getattr(node, name, ()))
    return found


def _is_string(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _place(lines: list[str], row: int, offset: int) -> Place:
    """A place of ast, which counts bytes, as tokenize gives it."""
    return row, len(lines[row - 1].encode()[:offset].decode())


def _edited(
    lines: list[str], tokens: list[tokenize.TokenInfo], docstrings: dict[Place, _Docstring], comments: bool
) -> str:
    """The text less docstrings and, unless they are kept, comments; newlines inside strings are hidden."""
    pieces: list[str] = []
    done: Place = (1, 0)  # what comes before is in `pieces`, or cut
    docstring: _Docstring | None = None
    opened: list[Place] = []
    for token in tokens:
        if docstring is not None:  # inside one, or at what follows it
            if token.start < docstring.end:
                continue
            if token.string == ";" and not docstring.alone:
                docstring = _Docstring(token.end, False)
                continue
            # After a ';' the next statement takes the docstring's place.
            done = token.start if pieces[-1] != "pass" and docstring.end > done else docstring.end
            docstring = None
        kind = tokenize.tok_name[token.type]
    return "".join(pieces)
