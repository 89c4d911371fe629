"""Commands called in this process as the installed script calls them, and what is allowed to come out."""

from __future__ import annotations

import io
import logging
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from nngpt_ext import UserError, cli
from tests.deadline import deadline


class Outcome(NamedTuple):
    """Exit code, both streams, and what a call of Python gave."""

    code: int
    out: str
    err: str
    value: Any = None

    def fault(self) -> str | None:
        """What is wrong with it: neither done nor refused in one line."""
        errors = [line for line in self.err.split("\n") if line.startswith("error: ")]
        if "Traceback (most recent" not in self.err:
            if self.code == 0 or (self.code == 2 and len(errors) == 1 and 20 < len(errors[0]) < 2000):
                return None
            if errors:
                return (
                    f"exit {self.code}, {'no reason or an endless one' if len(errors) == 1 else 'more than one line'}"
                )
            return f"exit {self.code} without a line of error: {self.err[-200:]}"
        frames = re.findall(r'File "[^"]*?(nngpt_ext/[^"]+)", line (\d+), in (\S+)', self.err)
        return f"exit {self.code}: {self.err.splitlines()[-1][:200]} at {':'.join(frames[-1]) if frames else '?'}"


def call(function: Callable[..., Any], *arguments: Any, **options: Any) -> Outcome:
    """Call Python; a UserError is exit code 2, any other exception a traceback and exit code 1."""
    root, ours = logging.getLogger(), logging.getLogger("nngpt_ext")
    before = list(root.handlers), root.level, ours.level
    code, value, out, err = 0, None, io.StringIO(), io.StringIO()
    try:
        with redirect_stdout(out), redirect_stderr(err), deadline(120):
            logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=err, force=True)
            value = function(*arguments, **options)
    except UserError as error:
        code = 2
        err.write("error: " + "\nerror: ".join(str(error).split("\n")))
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else 1
    except Exception:
        code = 1
        err.write(traceback.format_exc())
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
    return Outcome(code, out.getvalue(), err.getvalue(), value)


def ask(*arguments: object) -> Outcome:
    """Call a command, with the words that would be typed after `nngpt-ext`."""
    with mock.patch.object(sys, "argv", ["nngpt-ext", *map(str, arguments)]):
        return call(cli.main)


def contents(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder; what is no file has no content."""
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}
