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
from typing import cast

from nngpt_ext.quiet import no_warnings

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")
_HIDDEN = "\0"  # a newline inside a string while blank lines are removed; Python source cannot contain it

# Comments and strings of source that parses: exact, and fifty times faster than tokenize. A string that is not closed
# ends where no more of it is found: if it did not match, the next quote would be tried, which takes quadratic time.
_LEXEME = re.compile(
    r"""\#[^\n]*
    | \"{3} [^"\\]* (?: (?: \\. | "(?!"") ) [^"\\]* )* (?: \"{3} )?
    | '{3}  [^'\\]* (?: (?: \\. | '(?!'') ) [^'\\]* )* (?: '{3} )?
    | "     [^"\\\n]* (?: \\. [^"\\\n]* )* "?
    | '     [^'\\\n]* (?: \\. [^'\\\n]* )* '?""",
    re.DOTALL | re.VERBOSE,
)
# From Python 3.12 on, f-strings may contain their own quotes and comments: only tokenize finds their end.
_FORMATTED = re.compile("[fFtT][rR]?['\"]") if sys.version_info >= (3, 12) else re.compile("(?!)")
_COPIES_LINES = (3, 12) <= sys.version_info < (3, 12, 4)  # tokenize copies the line for each token: quadratic
_LONG = 20_000  # characters
_SEMICOLON = re.compile(r"[ \t\f]*(?:\\\n[ \t\f]*)*;[ \t\f]*(?:\\\n[ \t\f]*)*")
# Matches only where a run of blanks and backslashes begins: trying each place within it would be quadratic.
_DANGLING = re.compile(r"(?<![ \t\f])(?<!\\\n)(?:[ \t\f]*\\\n)+(?=\n|\Z)")


Edit = tuple[int, int, str]  # start, end, replacement


def compact_code(source: str) -> str:
    """Remove comments, docstrings, blank lines and trailing blanks from Python source.

    The result is the same program: its syntax tree is that of the input without docstrings (all strings at the
    beginning of a body; `pass` if nothing else is left), so it compiles if and only if the input does. Indentation
    and formatting stay; lines end with a line feed. Source that does not parse keeps its comments and docstrings;
    if it cannot be tokenised either, only its end is stripped.
    """
    text = source.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    try:
        tree = _tree(text)
        known = tree is not None and not _FORMATTED.search(text)
        spans = [m.span() for m in _LEXEME.finditer(text)] if known else _spans(text)
        strings = [span for span in spans if text[span[0]] != "#"]
        edits = [(start, end, text[start:end].replace("\n", _HIDDEN)) for start, end in strings]
        if tree is None:
            return _without_blanks(_edited(text, edits))
        comments = [(start, end, "") for start, end in spans if text[start] == "#"]
        edits = [*_docstrings(text, tree), *edits, *comments]
    except (SyntaxError, tokenize.TokenError, ValueError, RecursionError, MemoryError):
        return _end_stripped(source)
    # A backslash must not join what was before a cut to the line after it.
    result = _without_blanks(_DANGLING.sub("\n", _edited(text, edits)))
    # Some releases of tokenize report wrong columns: if the result does not parse, nothing is removed.
    return result if _tree(result) is not None else _end_stripped(source)


def _tree(text: str) -> ast.Module | None:
    """The syntax tree of a source, or None if it does not parse.

    Parsing takes linear time; compiling is quadratic in the number of similar functions.
    """
    with no_warnings():  # such as those about invalid escapes
        try:
            refuse_depth(text)
            return cast(ast.Module, compile(text, "<source>", "exec", ast.PyCF_ONLY_AST, dont_inherit=True))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def refuse_depth(text: str) -> None:
    """Refuse source that older Pythons cannot parse safely.

    Python 3.10 overflows its stack if a tree is too deep, and up to 3.11 parsing an f-string takes quadratic time.

    Raises:
        RecursionError: if the source is too deeply nested.
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
    """Start and end of each comment and string, by tokenize; an f-string counts as one string."""
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


def _docstrings(text: str, tree: ast.Module) -> Iterator[Edit]:
    """The edits that remove the strings at the beginning of each body."""
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
                # A statement behind a semicolon takes the docstring's place.
                more = None if alone else _SEMICOLON.match(text, end)
                yield start, more.end() if more else end, "pass" if alone else ""
        for name in _BODIES:  # only statements contain statements; walking expressions takes three times as long
            waiting.extend(getattr(node, name, ()))


def _is_string(node: ast.stmt) -> bool:
    value = node.value if isinstance(node, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _edited(text: str, edits: list[Edit]) -> str:
    """Apply the edits, except those inside another, and strip each line's end."""
    pieces: list[str] = []
    done = 0
    for start, end, by in sorted(edits, key=lambda edit: edit[0]):
        if start >= done:
            pieces += (text[done:start], by)
            done = end
    text = "".join(pieces) + text[done:]
    return "\n".join(line.rstrip(" \t\f") for line in text.split("\n"))


def _without_blanks(text: str) -> str:
    """Remove blank lines, except one after a backslash, and restore the newlines in strings."""
    return re.sub(r"(?<!\\)\n{2,}", "\n", text).strip("\n").replace(_HIDDEN, "\n")


def _end_stripped(source: str) -> str:
    """Strip the end, unless a backslash would then end the source: it may only precede a blank line."""
    end = source.rstrip()
    return source if end.endswith("\\") else end
