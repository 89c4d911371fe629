"""What a check found: one line, and the command that mends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

State = Literal["ok", "note", "broken"]
_TYPE = "; type: "  # before the command, in the package's own messages


class Finding(NamedTuple):
    """One thing that was looked at.

    `note` is for what a run can do without: a hub that cannot be reached, an extra that is not installed.
    """

    name: str
    state: State
    what: str
    cure: str | None = None  # what to type

    def line(self) -> str:
        """The finding as one line, without its state."""
        text = f"{self.name}: {self.what}" + (f"; type: {self.cure}" if self.cure else "")
        return " ".join(text.split())


def failed(name: str, error: Exception | str, cure: str | None = None, state: State = "broken") -> Finding:
    """The finding of an error; the package's own messages carry their cure behind `type:`."""
    text = error if isinstance(error, str) else str(error) or type(error).__name__
    what, found, typed = " ".join(text.split()).partition(_TYPE)
    return Finding(name, state, what, typed if found else cure)


def look(name: str, check: Callable[[], Finding], cure: str | None = None) -> Finding:
    """Do a check; whatever it raises is what was found, since a doctor does not faint."""
    try:
        return check()
    except Exception as error:
        return failed(name, error, cure)
