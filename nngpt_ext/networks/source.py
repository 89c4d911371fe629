"""Source code from outside: reading and checking it."""

from __future__ import annotations

import ast
from pathlib import Path

from nngpt_ext.errors import UserError
from nngpt_ext.networks.compact import refuse_depth
from nngpt_ext.quiet import no_warnings

LIMIT = 1_000_000  # characters; the longest source of LEMUR has 178,000


def read_source(file: Path) -> str:
    """The text of a source file.

    Raises:
        UserError: if it cannot be read or is not UTF-8.
    """
    try:
        return file.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"'{file}' is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    except OSError as error:
        raise UserError(f"cannot read '{file}': {error.strerror or error}") from None


def check_source(code: object, name: str = "the network's source") -> str:
    """Return the source if it is Python code of a reasonable length.

    Raises:
        UserError: if it is not text, empty, longer than `LIMIT`, not Python, or too deeply nested.
    """
    if not isinstance(code, str):
        raise UserError(f"{name} must be text, not {type(code).__name__}; read the file with encoding='utf-8'")
    if not code.strip():
        raise UserError(f"{name} is empty; for the model's own prior use Predictor.prior(…)")
    if len(code) > LIMIT:
        raise UserError(f"{name} has {len(code):,} characters; at most {LIMIT:,} are taken")
    try:
        with no_warnings():  # such as those about invalid escapes
            refuse_depth(code)
            ast.parse(code)
    except (RecursionError, MemoryError):
        raise UserError(f"{name} cannot be parsed: too deeply nested") from None
    except (SyntaxError, ValueError) as error:  # ValueError: a null character, or half of a surrogate pair
        why = f"line {error.lineno}: {error.msg}" if isinstance(error, SyntaxError) and error.lineno else error
        raise UserError(f"{name} is not Python ({why})") from None
    return code
