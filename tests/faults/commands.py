"""Commands called in this process as the installed script calls them, and what is allowed to come out."""

from __future__ import annotations

import io
import logging
import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from nngpt_ext import UserError, cli
from tests.deadline import deadline

SECONDS = 120  # no command on such small inputs takes so long


class Outcome(NamedTuple):
    """Exit code, both streams, and what a call of Python gave."""

    code: int
    out: str
    err: str
    value: Any = None

    def fault(self) -> str | None:
        """What is wrong with it: neither done nor refused in one line."""
        if self.code == 0 and "Traceback (most recent" not in self.err:
            return None
        if self.code == 2:
            lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
            if len(lines) != 1 or "Traceback (most recent" in self.err:
                return f"exit 2 with {len(lines)} lines of error: {self.err[-300:]}"
            return None if len(lines[0]) > 20 else f"exit 2 with no reason: {lines[0]}"
        frames = re.findall(r'File "[^"]*?((?:nngpt_ext|site-packages)/[^"]+)", line (\d+), in (\S+)', self.err)
        ours = [frame for frame in frames if frame[0].startswith("nngpt_ext")]
        where = f" at {ours[-1][0]}:{ours[-1][1]} {ours[-1][2]}" if ours else ""
        return f"exit {self.code}: {' '.join(self.err.splitlines()[-1:])[:200]}{where}"


@contextmanager
def _streams() -> Iterator[tuple[io.StringIO, io.StringIO]]:
    """Both streams, kept; loggers are as before afterwards."""
    root, ours = logging.getLogger(), logging.getLogger("nngpt_ext")
    before = list(root.handlers), root.level, ours.level
    out, err = io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err):
            logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=err, force=True)
            yield out, err
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])


def call(function: Callable[..., Any], *arguments: Any, seconds: int = SECONDS, **options: Any) -> Outcome:
    """Call Python; a UserError is exit code 2, any other exception a traceback and exit code 1."""
    code, value = 0, None
    with _streams() as (out, err):
        try:
            with deadline(seconds):
                value = function(*arguments, **options)
        except UserError as error:
            code = 2
            err.write(f"error: {error}\n" if "\n" not in str(error) else f"a message of two lines: {error}\n")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 1
        except Exception:
            code = 1
            err.write(traceback.format_exc())
    return Outcome(code, out.getvalue(), err.getvalue(), value)


def ask(*arguments: object, seconds: int = SECONDS) -> Outcome:
    """Call a command, with the words that would be typed after `nngpt-ext`."""
    with mock.patch.object(sys, "argv", ["nngpt-ext", *map(str, arguments)]):
        return call(cli.main, seconds=seconds)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder; what is no file has no content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
