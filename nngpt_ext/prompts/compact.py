"""Python source without comments and docstrings: the same program in fewer tokens."""

from __future__ import annotations

import ast
import io
import tokenize

_DOCUMENTED = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")
_SILENT = {tokenize.NL, tokenize.COMMENT}


def compact_code(source: str) -> str:
    """Take comments, docstrings, blank lines and trailing blanks out of Python source.

    What remains is the same program: it has the syntax tree of the input less its docstrings, and it
    compiles whenever the input did. Source that is not Python is returned as it is but for blank space
    at its ends.
    """
    text = source.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    try:
        tree = ast.parse(text)
        tokens = list(tokenize.generate_tokens(io.StringIO(text).readline))
    except (SyntaxError, ValueError, RecursionError, tokenize.TokenError):
        return source.strip()
    result = _without(text.split("\n"), tokens, _docstrings(tree))
    # Rare ways to write code (a backslash before a docstring, say) may defeat the cuts: then nothing is cut.
    return result if _compiles(result) else source.strip()


def _docstrings(tree: ast.Module) -> dict[tuple[int, int], bool]:
    """Line and column (in UTF-8 bytes) of each docstring, and whether a body holds nothing else."""
    found = {}
    waiting: list[ast.AST] = [tree]
    while waiting:
        node = waiting.pop()
        if isinstance(node, _DOCUMENTED) and ast.get_docstring(node, clean=False) is not None:
            first = node.body[0]
            found[first.lineno, first.col_offset] = len(node.body) == 1 and not isinstance(node, ast.Module)
        for name in _BODIES:  # only statements hold statements; walking expressions too takes three times as long
            waiting.extend(getattr(node, name, ()))
    return found


def _without(lines: list[str], tokens: list[tokenize.TokenInfo], docstrings: dict[tuple[int, int], bool]) -> str:
    """The lines less comments, docstrings and what is blank then; strings of several lines stay whole."""
    held: set[int] = set()  # lines whose end lies within a string or after a backslash
    cuts: list[tuple[int, int, int, int, str]] = []
    opened: list[int] = []
    for i, token in enumerate(tokens):
        (row, column), (last_row, last_column) = token.start, token.end
        if token.type == tokenize.COMMENT:
            cuts.append((row, column, last_row, last_column, ""))
        elif token.type == tokenize.STRING:
            place = row, len(lines[row - 1][:column].encode())  # ast counts bytes, tokenize characters
            if place in docstrings:
                end = i  # literals side by side are one docstring, and a ';' may follow it
                while tokens[end + 1].type == tokenize.STRING or tokens[end + 1].type in _SILENT:
                    end += 1
                if tokens[end + 1].string == ";" and not docstrings[place]:
                    end += 1
                cuts.append((row, column, *tokens[end].end, "pass" if docstrings[place] else ""))
            else:
                held.update(range(row, last_row))
        elif tokenize.tok_name[token.type].endswith("STRING_START"):  # from Python 3.12 on
            opened.append(row)
        elif tokenize.tok_name[token.type].endswith("STRING_END") and opened:
            held.update(range(opened.pop(), last_row))
    kept = list(lines)
    for row, column, last_row, last_column, by in reversed(cuts):
        rest = kept[last_row - 1][last_column:]
        kept[row - 1] = kept[row - 1][:column] + by + (rest.lstrip(" \t") if column == _indent(kept[row - 1]) else rest)
        kept[row:last_row] = [""] * (last_row - row)
    out = [
        line if number in held else line.rstrip(" \t\f")
        for number, line in enumerate(kept, 1)
        if line.strip() or number in held or number - 1 in held
    ]
    return "\n".join(out).strip("\n")


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" \t"))


def _compiles(result: str) -> bool:
    """Unlike parsing, compiling sees a `from __future__` that no longer stands first."""
    try:
        compile(result, "<compact>", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError):
        return False
    return True
