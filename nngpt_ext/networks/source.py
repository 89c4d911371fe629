"""Source code from outside: one reader for every entrance."""

from __future__ import annotations

import ast
import re
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TypeGuard

from nngpt_ext.compact import refuse_depth
from nngpt_ext.errors import UserError, reason, shown
from nngpt_ext.io import as_text, read_text
from nngpt_ext.quiet import no_warnings

LIMIT = 1_000_000  # characters; the longest source of LEMUR has 178,000
# Words and signs, for parsing takes seconds for some hundred thousand of them, in which no other thread runs; LEMUR's
# longest source has 39,000.
MOST_TOKENS = 200_000
_TOKEN = re.compile(r"\w+|([^\w\s])\1*")  # a run of one sign, as in a line of ####, counts once


def read_source(given: object, name: str = "the network's source") -> str:
    """The source of a network, given as text, bytes in UTF-8 or a file's path; `name` is what an error calls it.

    A byte order mark is dropped, and so are Markdown fences (``` or ~~~) if they are the first and the last line.

    Raises:
        UserError: if it cannot be read, is missing, empty, longer than `LIMIT` or `MOST_TOKENS`, not Python, too deeply
            nested, or without any statement but texts and values.
    """
    if given is None or (isinstance(given, float) and given != given):  # NaN, in tables
        raise UserError(f"{name} is missing")
    if not isinstance(given, (str, bytes, Path)):
        raise UserError(f"{name} must be text, not {type(given).__name__}")
    code = _without_fences(read_text(given) if isinstance(given, Path) else as_text(given, name))
    if not code.strip():
        raise UserError(f"{name} is empty; give the network's Python code")
    if len(code) > LIMIT:
        raise UserError(f"{name} has {len(code):,} characters; at most {LIMIT:,} are taken")
    if sum(1 for _ in islice(_TOKEN.finditer(code), MOST_TOKENS + 1)) > MOST_TOKENS:
        raise UserError(f"{name} has more than {MOST_TOKENS:,} words and signs; a network's has some thousand")
    if re.fullmatch(r"[^\n#=()]+\.py", code.strip()):  # which may be Python: a / b.py
        raise UserError(f"{name} is a path, {shown(code.strip())}, not Python code; give the content of the file")
    try:
        with no_warnings():  # such as those about invalid escapes
            refuse_depth(code)
            tree = _parsed(code)
    except (RecursionError, MemoryError):
        raise UserError(f"{name} cannot be parsed: too deeply nested") from None
    except Exception as error:  # ValueError: a null character, or half of a surrogate pair
        why = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) and error.lineno else reason(error)
        fenced = any(line.lstrip().startswith(("```", "~~~")) for line in code.splitlines())
        advice = "; it has Markdown fences: give only the lines between ```python and ```" if fenced else ""
        raise UserError(f"{name} is not Python ({why}){advice}") from None
    if not any(isinstance(node, (ast.stmt, ast.Call)) and not isinstance(node, ast.Expr) for node in ast.walk(tree)):
        raise UserError(
            f"{name} is no network: it has only comments, texts or values, as a notebook or requirements.txt has; give "
            "Python code with a class derived from nn.Module"
        )
    return code


@lru_cache(maxsize=1)  # a source is checked for several things, one after another
def _parsed(code: str) -> ast.Module:
    return ast.parse(code)


def defines_module(code: str) -> bool:
    """Whether a source that `read_source` accepts defines a class derived from `nn.Module`, by its base's name."""
    with no_warnings():
        classes = [node for node in ast.walk(_parsed(code)) if isinstance(node, ast.ClassDef)]
    names = (getattr(base, "attr", getattr(base, "id", "")) for one in classes for base in one.bases)
    return any(name.endswith("Module") for name in names)


def _without_fences(text: str) -> str:
    """The lines between Markdown fences, if these are the first and the last line and mark the language as Python."""
    first, _, rest = text.strip().partition("\n")
    body, _, last = rest.rpartition("\n")
    fence = re.fullmatch(r"(`{3,}|~{3,})(py|python|python3)?", first.rstrip(), re.IGNORECASE)
    return f"{body}\n".removeprefix("\ufeff") if fence and last.strip() == fence[1] else text


def is_name(name: object) -> TypeGuard[str]:
    """Whether something can be the name of a network or a dataset: printable text on one line."""
    return isinstance(name, str) and name.isprintable() and bool(name.strip())
