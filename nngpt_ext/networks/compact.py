"""Python source without comments and docstrings: the same program in fewer tokens."""

from __future__ import annotations

import ast
import io
import re
import symtable
import sys
import tokenize
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate, takewhile
from typing import NamedTuple, cast

from nngpt_ext.quiet import no_warnings

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")
_HIDDEN = "\0"  # a newline inside a string while blank lines are dropped; no Python source can hold it

# Comments and strings of source that parses: exact, and fifty times as fast as tokenize.
_LEXEME = re.compile(
    r"""\#[^\n]*
    | \"{3} [^"\\]* (?: (?: \\. | "(?!"") ) [^"\\]* )* \"{3}
    | '{3}  [^'\\]* (?: (?: \\. | '(?!'') ) [^'\\]* )* '{3}
    | "     [^"\\\n]* (?: \\. [^"\\\n]* )* "
    | '     [^'\\\n]* (?: \\. [^'\\\n]* )* '""",
    re.DOTALL | re.VERBOSE,
)
# From Python 3.12 on these may hold their own quotes, and comments: then only tokenize knows their end.
_FORMATTED = re.compile("[fFtT][rR]?['\"]") if sys.version_info >= (3, 12) else re.compile("(?!)")
_COPIES_LINES = (3, 12) <= sys.version_info < (3, 12, 4)  # tokenize does, for each token: quadratic in a long line
_LONG = 20_000  # characters
_SEMICOLON = re.compile(r"(?:[ \t\f]|\\\n)*;(?:[ \t\f]|\\\n)*")
# It looks only where a run of blanks and backslashes begins: from each place within, it would read the rest again.
_DANGLING = re.compile(r"(?<![ \t\f])(?<!\\\n)(?:[ \t\f]*\\\n)+(?=\n|\Z)")


class _Edit(NamedTuple):
    start: int
    end: int
    by: str


def compact_code(source: str) -> str:
    """Take comments, docstrings, blank lines and trailing blanks out of Python source.

    What remains is the same program: it has the syntax tree of the input less its docstrings (all strings
    that open a body; `pass` where nothing else was there), so it compiles whenever the input did. Indentation
    and the form of the code stay; lines end in a line feed. Source that does not parse keeps its comments
    and docstrings; if it cannot even be cut into tokens, only its end is stripped.
    """
    text = source.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    try:
        tree = _tree(text)
        known = tree is not None and not _FORMATTED.search(text)
        spans = [m.span() for m in _LEXEME.finditer(text)] if known else _spans(text)
        strings = [span for span in spans if text[span[0]] != "#"]
        edits = [_Edit(start, end, text[start:end].replace("\n", _HIDDEN)) for start, end in strings]
        if tree is None:
            return _without_blanks(_edited(text, edits))
        comments = [_Edit(start, end, "") for start, end in spans if text[start] == "#"]
        edits = [*_docstrings(text, tree), *edits, *comments]
    except (SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError):
        return _end_stripped(source)
    # A backslash must not reach past what was cut, to the line after it.
    result = _without_blanks(_DANGLING.sub("\n", _edited(text, edits)))
    # Some releases of tokenize gave wrong columns: where the cuts fail, nothing is cut.
    return result if _tree(result) is not None else _end_stripped(source)


def _tree(text: str) -> ast.Module | None:
    """The syntax tree of a source; None where it does not parse.

    Only parsing takes time linear in the source's length: compiling is quadratic in functions that are alike.
    """
    with no_warnings():  # an invalid escape in a network is not our user's concern
        try:
            refuse_depth(text)
            return cast(ast.Module, compile(text, "<source>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def refuse_depth(text: str) -> None:
    """Raise the errors that older Pythons do not, before they parse.

    Python 3.10 overruns its stack where a tree is too deep, and up to 3.11 the time for an f-string grows with the
    square of its length.

    Raises:
        RecursionError: for a source that is too deeply nested.
        ValueError: for a very long f-string.
    """
    if sys.version_info < (3, 12):
        for found in _LEXEME.finditer(text):
            start, end = found.span()
            if end - start > _LONG and "f" in text[max(start - 2, 0) : start].lower():
                raise ValueError(f"an f-string of {end - start:,} characters; at most {_LONG:,} are read")
    if sys.version_info < (3, 11):
        with suppress(SyntaxError, ValueError):
            symtable.symtable(text, "<source>", "exec")  # counts the depth


def _spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each comment and string, by tokenize; an f-string is one, whatever it holds."""
    lengths = [len(line) + 1 for line in text.split("\n")]
    if _COPIES_LINES and max(lengths) > _LONG:
        raise tokenize.TokenError("a line too long for this Python's tokenize")
    starts = [0, *accumulate(lengths)]
    spans, opened = [], []
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        if kind == "ERRORTOKEN" or _HIDDEN in token.string:
            raise tokenize.TokenError(f"not Python: {token.string!r}")
        start, end = (starts[row - 1] + column for row, column in (token.start, token.end))
        if kind.endswith("STRING_START"):
            opened.append(start)
        elif kind.endswith("STRING_END"):
            start = opened.pop()
        if not opened and (kind in ("COMMENT", "STRING") or kind.endswith("STRING_END")):
            spans.append((start, end))
    return spans


def _docstrings(text: str, tree: ast.Module) -> Iterator[_Edit]:
    """The cuts of the strings that open a body."""
    lines = text.split("\n")
    starts = [0, *accumulate(len(line) + 1 for line in lines)]

    def offset(row: int | None, column: int | None) -> int:  # ast counts bytes
        return starts[(row or 0) - 1] + len(lines[(row or 0) - 1].encode()[:column].decode())

    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DOCUMENTED):
            leading = list(takewhile(_is_string, node.body))
            if leading:
                start = offset(leading[0].lineno, leading[0].col_offset)
                end = offset(leading[-1].end_lineno, leading[-1].end_col_offset)
                alone = leading == node.body and not isinstance(node, ast.Module)
                # After a semicolon the next statement takes the docstring's place.
                more = None if alone else _SEMICOLON.match(text, end)
                yield _Edit(start, more.end() if more else end, "pass" if alone else "")
        for name in _BODIES:  # only statements hold statements; walking expressions takes three times as long
            waiting.extend(getattr(node, name, ()))


def _is_string(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _edited(text: str, edits: list[_Edit]) -> str:
    """Make the edits, less those inside another, and strip each line's end."""
    pieces: list[str] = []
    done = 0
    for start, end, by in sorted(edits, key=lambda edit: edit.start):
        if start >= done:
            pieces += (text[done:start], by)
            done = end
    text = "".join(pieces) + text[done:]
    return "\n".join(line.rstrip(" \t\f") for line in text.split("\n"))


def _without_blanks(text: str) -> str:
    """Drop blank lines, but for one after a backslash, and bring the newlines in strings back."""
    return re.sub(r"(?<!\\)\n{2,}", "\n", text).strip("\n").replace(_HIDDEN, "\n")


def _end_stripped(source: str) -> str:
    """A backslash may stand before a blank line, not at the very end."""
    end = source.rstrip()
    return source if end.endswith("\\") else end
