"""Progress of long work: a bar with the remaining time on a terminal or in a notebook, nothing elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar

from nngpt_ext.quiet import without_widgets

_part_of: ContextVar[str] = ContextVar("part_of", default="")


@contextmanager
def part_of(name: str) -> Iterator[None]:
    """The bars of the block begin with a name, for example `fold 0: scoring`."""
    before = _part_of.set(f"{name}: ")
    try:
        yield
    finally:
        _part_of.reset(before)


class Progress:
    """`with Progress("scoring", 100) as p: p.advance(1)`; drawn on standard error, which has no results."""

    def __init__(self, what: str, total: int, unit: str = "") -> None:
        from rich.console import Console

        without_widgets()
        from tqdm.auto import tqdm

        console = Console(stderr=True)
        self._shown = console.is_terminal or console.is_jupyter
        # One line for bars within bars: not every notebook moves the cursor up.
        line = {"position": 0, "leave": False, "disable": not self._shown}
        self._bar = tqdm(total=total, desc=f"{_part_of.get()}{what}", unit=f" {unit}", **line)
        self._open = ExitStack()

    def __enter__(self) -> Progress:
        from tqdm.contrib.logging import logging_redirect_tqdm

        self._open.enter_context(self._bar)
        if self._shown:  # log lines are written above the bar
            self._open.enter_context(logging_redirect_tqdm([logging.getLogger()]))
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def advance(self, steps: int, note: str | None = None) -> None:
        """Count steps; `note` replaces the text at the end of the line."""
        if note is not None:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(steps)
