"""The one exception that is shown to a user as a line, without a traceback, and how values are quoted in it."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

_LONGEST = 1_600  # characters of a message
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


class UserError(ValueError):
    """A mistake in what was given: what it was, what is allowed, what to type.

    The message is one line of limited length, whatever it quotes. The command line prints it on standard error and
    exits with 2.
    """

    def __init__(self, message: str) -> None:
        line = " ".join(part.strip() for part in message.splitlines() if part.strip())
        if not line.isprintable():
            line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
        super().__init__(line if len(line) <= _LONGEST else f"{line[: _LONGEST - 200]} … {line[-200:]}")


def shown(value: object, most: int = 100) -> str:
    """A value as a message quotes it: shortened in the middle to about `most` characters."""
    try:
        text = f"'{value}'" if isinstance(value, (str, Path)) else _SHORT.repr(value)
    except Exception:  # of its own __repr__, or an integer with more digits than Python prints
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= most + 2 else f"{text[: 2 * most // 3]}…{text[-most // 3 :]}"


def reason(error: BaseException) -> str:
    """Why a parser or a library failed, in a few words."""
    if isinstance(error, (RecursionError, MemoryError)):
        return "too deeply nested"
    if isinstance(error, (LookupError, TypeError, AttributeError)):  # Python's words would help only a programmer
        return "a value has the wrong type"
    lines = str(getattr(error, "strerror", None) or error).splitlines()
    return shown(lines[0] if lines else type(error).__name__, 250)[1:-1]


@contextmanager
def parsing(trouble: str, advice: str = "") -> Iterator[None]:
    """Turn every failure in the block into a `UserError`: parsers of foreign text raise more than they document."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        raise UserError(f"{trouble} ({reason(error)}){advice and f'; {advice}'}") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name nearest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def unknown(kind: str, word: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the known ones; it lists them."""
    names = sorted(known)
    return UserError(f"unknown {kind} {shown(word)}{nearest(word, names)}; known: {', '.join(names) or 'none'}")
