"""The one exception that is shown to a user as a line, without a traceback, and what its line says: values, advice."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_LONGEST = 1_600  # characters of a message
_ALIKE = 0.75  # of two names, from 0 to 1, by difflib
_LONGEST_NAME = 500  # characters; for longer ones there is no hint, which would take too long
_in_shell = False
_in_request: ContextVar[bool] = ContextVar("in_request", default=False)
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
    if lines and ("integer string conversion" in lines[0] or "Value is too big" in lines[0]):  # of json, and of pandas
        return "a whole number has too many digits"
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


@contextmanager
def for_shell() -> Iterator[None]:
    """Until the block ends, messages give advice for the command line, in all threads."""
    global _in_shell
    before, _in_shell = _in_shell, True
    try:
        yield
    finally:
        _in_shell = before


@contextmanager
def for_request() -> Iterator[None]:
    """Until the block ends, messages of this thread are for who sent a request: they name its fields."""
    token = _in_request.set(True)
    try:
        yield
    finally:
        _in_request.reset(token)


def typed(shell: str, python: str, request: str | None = None) -> str:
    """What the reader of a message types: on the command line, in Python, or as a field of a request.

    By default the field is an argument of Python, `name={'a': 1}`, as JSON has it: `"name": {"a": 1}`.
    """
    if not _in_request.get():
        return shell if _in_shell else python
    name, equals, value = python.partition("=")
    as_json = f'"{name}": {value}' if equals and name.isidentifier() else python
    return request or re.sub(r"([{ ])(\d+):", r'\1"\2":', as_json.replace("'", '"').replace(" None", " null"))


def setting(key: str, value: str) -> str:
    """How to set a key of a run's configuration, for example `tuning.epochs` to `3`."""
    outer, _, inner = key.rpartition(".")
    quoted = value if re.fullmatch(r"[A-Z]+|True|False|-?[0-9.]+", value) else f'"{value}"'
    python = f'{outer}={{"{inner}": {quoted}}}' if outer else f"{inner}={quoted}"
    return typed(f"--set {key}={value.lower() if value in ('True', 'False') else value}", python)


def elsewhere() -> str:
    """The advice to write to another folder or file."""
    return typed("give another --out", "give another one")


def resuming() -> str:
    """How to continue what was interrupted."""
    return typed("continue with --resume", "continue with resume=True")


def plain(name: str) -> str:
    """A name without case and separators: two names for which this is the same are meant to be the same."""
    return re.sub(r"[\s_-]", "", name.casefold())


def nearest_name(word: str, known: Iterable[str], others: Collection[str] = ()) -> str | None:
    """The known name nearest to `word`, or None.

    Case and separators do not count, and numbers must be the same. What is in `others` is not misspelt, and with them
    neither is a known name with one more word, such as fashion-mnist or cifar-10-c.
    """
    if len(word) > _LONGEST_NAME:
        return None
    names, own = {plain(name): name for name in known}, plain(word)
    if own in names:
        return names[own]
    if own in map(plain, others):
        return None
    numbers = re.findall(r"\d+", own)
    parts = re.split(r"[\s_-]+", word.casefold()) if others else []
    longer = {"".join(some) for i in range(1, len(parts)) for some in (parts[:i], parts[i:])}
    alike = [name for name in names if re.findall(r"\d+", name) == numbers and name not in longer]
    matches = difflib.get_close_matches(own, alike, n=1, cutoff=_ALIKE)
    return names[matches[0]] if matches else None


def did_you_mean(name: str | None) -> str:
    """Return `` (did you mean 'x'?)``, or an empty string for None."""
    return "" if name is None else f" (did you mean '{name}'?)"


def nearest(word: str, known: Iterable[str], others: Collection[str] = ()) -> str:
    """The hint to the known name nearest to `word`; see `nearest_name` and `did_you_mean`."""
    return did_you_mean(nearest_name(word, known, others))


def unknown(kind: str, word: str, known: Iterable[str], more: str = "", others: Collection[str] = ()) -> UserError:
    """The error for a name that is not among the known ones; it lists them.

    Args:
        kind, word, known: what the name is of, the name, and the known ones.
        more: what is allowed beside them.
        others: as in `nearest`.
    """
    names = sorted(known)
    listed = ", ".join(filter(None, [*names, more])) or "none"
    return UserError(f"unknown {kind} {shown(word)}{nearest(word, names, others)}; known: {listed}")
