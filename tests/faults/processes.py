"""Functions and commands in processes of their own session, forked from one that has imported the heavy libraries."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["torch", "transformers", "peft", "trl", "bitsandbytes", "pandas", "sqlalchemy"])


class Moment(NamedTuple):
    """When a process kills itself: before or after it changes a name in the watched folder for the nth time."""

    change: int
    after: bool


def start(function: Callable[..., Any], *arguments: Any, log: Path) -> ForkServerProcess:
    """Call a function in a process; what it prints goes to the end of `log`."""
    process = _context.Process(target=_alone, args=(function, arguments, str(log), dict(os.environ)))
    process.start()
    return process


def start_command(words: list[str], watched: Path, log: Path, moment: Moment | None = None) -> ForkServerProcess:
    """Run a command of `nngpt-ext` in a process; if it ends well, `log`.changes has the number of changed names."""
    return start(_command, words, str(watched), Path(f"{log}.changes"), moment, log=log)


def kill(process: ForkServerProcess) -> None:
    """SIGKILL to all of its session, if it still runs."""
    if process.is_alive() and process.pid is not None:
        with suppress(ProcessLookupError):  # it has no session yet
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
    process.join()


def finish(process: ForkServerProcess, log: Path) -> str | None:
    """Wait for its end; what is wrong if that is not exit code 0."""
    process.join(600)
    kill(process)
    return None if process.exitcode == 0 else f"exit {process.exitcode}: {log.read_text(errors='replace')[-2000:]}"


def _alone(function: Callable[..., Any], arguments: tuple[Any, ...], log: str, environment: dict[str, str]) -> None:
    os.setsid()
    os.environ.update(environment)
    with Path(log).open("ab") as stream:
        os.dup2(stream.fileno(), 1)
        os.dup2(stream.fileno(), 2)
    function(*arguments)


def _command(words: list[str], watched: str, changes: Path, moment: Moment | None) -> None:
    seen = 0

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        def change(path: Any, *more: Any, **options: Any) -> Any:
            nonlocal seen
            ours = "dir_fd" in options or str(path).startswith(watched)
            seen += ours
            if ours and moment is not None and seen == moment.change:
                if moment.after:
                    original(path, *more, **options)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(path, *more, **options)

        return change

    for name in ("replace", "rename", "unlink", "remove", "rmdir", "mkdir"):
        setattr(os, name, counted(getattr(os, name)))
    sys.argv = ["nngpt-ext", *words]
    from nngpt_ext import cli

    try:
        cli.main()
    except SystemExit as stop:
        if not stop.code:
            changes.write_text(str(seen))
        raise
