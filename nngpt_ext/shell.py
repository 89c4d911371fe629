"""The option, the output and the interruption that all commands share."""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated, Any

import typer

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]


def print_json(content: Any) -> None:
    """Print a result as JSON on standard output; types that JSON lacks, such as paths, become text."""
    typer.echo(json.dumps(content, indent=2, ensure_ascii=False, default=str))


def keep_hangups() -> Callable[[], bool]:
    """From now on SIGHUP does not end the process; the function says whether one came."""
    came: list[int] = []
    signal.signal(signal.SIGHUP, lambda number, _: came.append(number))
    return lambda: bool(came)


INTERRUPTED = 130  # the exit code of Ctrl-C in shells
_AGAIN, _TRIES = 0.5, 10  # seconds between tries to interrupt what goes on, and their number


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Ctrl-C ends the block even if a KeyboardInterrupt is lost on its way; yields whether Ctrl-C was pressed.

    Python prints and drops what is raised in a destructor, in a callback from C code or while an import ends, and
    libraries catch everything in places. Therefore KeyboardInterrupt is raised again until it leaves the block, except
    while it is being handled, so that clean-up ends undisturbed; if it was lost `_TRIES` times, the process ends, as it
    would by SIGKILL, which loses nothing that is finished. Where interrupts are ignored (a background job, nohup)
    nothing changes; on Windows it is raised once.
    """
    pressed, tries = False, 0

    def interrupt(*_: object) -> None:
        nonlocal pressed
        pressed = True
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, _AGAIN, _AGAIN)
        raise KeyboardInterrupt

    def again(*_: object) -> None:
        nonlocal tries
        error = sys.exc_info()[1]
        while error is not None and not isinstance(error, KeyboardInterrupt):
            error = error.__context__
        if error is None:
            tries += 1
            if tries > _TRIES:
                leave()
            raise KeyboardInterrupt

    def leave() -> None:  # the last exit handler: Python itself would end with another code in some cases
        if pressed:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(INTERRUPTED)

    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    atexit.register(leave)
    signal.signal(signal.SIGINT, interrupt)
    if hasattr(signal, "setitimer"):
        signal.signal(signal.SIGALRM, again)
    try:
        yield lambda: pressed
    finally:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if not pressed:
            atexit.unregister(leave)
