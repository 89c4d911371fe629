"""The one exception that is shown to a user as a line, without a traceback."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what was given: what it was, what is allowed, what to type.

    The command line prints the message on standard error and exits with 2.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` (did you mean 'x'?)`` for the known name nearest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" (did you mean '{matches[0]}'?)" if matches else ""


def unknown(kind: str, word: str, known: Iterable[str]) -> UserError:
    """The error for a name that is not among the known ones; it lists them."""
    names = sorted(known)
    return UserError(f"unknown {kind} '{word}'{nearest(word, names)}; known: {', '.join(names) or 'none'}")
