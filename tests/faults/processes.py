"""Functions and commands in processes of their own session, which die at a chosen moment.

They are forked from one process that has imported the heavy libraries and nothing of the package, so that a start takes
tenths of a second.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

LIBRARIES = ["torch", "transformers", "peft", "trl", "bitsandbytes", "pandas", "sqlalchemy", "sklearn.ensemble"]
SECONDS = 600
_CHANGES = ("replace", "rename", "unlink", "remove", "rmdir", "mkdir")
_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(LIBRARIES)


class Moment(NamedTuple):
    """When a process kills itself: before or after it changes names in the watched folder for the nth time."""

    change: int
    after: bool


def start(function: Callable[..., Any], *arguments: Any, log: Path) -> ForkServerProcess:
    """Call a function in a process; what it prints goes to the end of `log`."""
    process = _context.Process(target=_alone, args=(function, arguments, str(log), dict(os.environ)))
    process.start()
    return process


def start_command(arguments: list[str], watched: Path, log: Path, moment: Moment | None = None) -> ForkServerProcess:
    """Run a command of `nngpt-ext` in a process."""
    return start(_command, arguments, str(watched), str(log), moment, log=log)


def kill(process: ForkServerProcess) -> None:
    """SIGKILL to all of its session, if it still runs."""
    if process.is_alive() and process.pid is not None:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:  # it has no session yet
            process.kill()
    process.join()


def finish(process: ForkServerProcess, log: Path) -> None:
    """Wait for its end, which must be exit code 0."""
    process.join(SECONDS)
    alive = process.is_alive()
    kill(process)
    assert not alive, f"still running after {SECONDS} s"
    assert process.exitcode == 0, f"exit {process.exitcode}: {log.read_text(errors='replace')[-3000:]}"


def changes(log: Path) -> int:
    """How often the last command that logged here and came to its end changed names in the watched folder."""
    return int(Path(f"{log}.changes").read_text())


def _alone(function: Callable[..., Any], arguments: tuple[Any, ...], log: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    with Path(log).open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    function(*arguments)


def _command(arguments: list[str], watched: str, log: str, moment: Moment | None) -> None:
    seen = [0]

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def change(path: Any, *more: Any, **options: Any) -> Any:
            ours = "dir_fd" in options or str(path).startswith(watched)
            seen[0] += ours
            if ours and moment is not None and seen[0] == moment.change:
                if moment.after:
                    original(path, *more, **options)
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(60)
            return original(path, *more, **options)

        return change

    for name in _CHANGES:
        setattr(os, name, counted(getattr(os, name)))
    sys.argv = ["nngpt-ext", *arguments]
    from nngpt_ext import cli

    try:
        cli.main()
    except SystemExit as stop:
        if not stop.code:
            Path(f"{log}.changes").write_text(str(seen[0]))
        raise
