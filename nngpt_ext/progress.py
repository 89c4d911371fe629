"""Progress of long work: a line with the time left on a terminal or in a notebook, nothing elsewhere."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars

log = logging.getLogger(__name__)

OnEpoch = Callable[[Sequence[Mapping[str, Any]]], None]
_on_epoch: ContextVar[OnEpoch | None] = ContextVar("on_epoch", default=None)
_EVERY = 0.25  # seconds between two drawings in a notebook


class Progress:
    """`with Progress("scoring", 100) as p: p.advance(1)`; drawn on standard error, where results never go."""

    def __init__(self, what: str, total: int, unit: str = "") -> None:
        console = Console(stderr=True)
        columns = [
            TextColumn("{task.description}"), BarColumn(20 if console.is_jupyter else 40), MofNCompleteColumn(),
            TextColumn(unit), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        ]  # fmt: skip
        # rich itself draws in a notebook only where ipywidgets is installed, and warns at each step where it is not.
        shown = console.is_terminal and not console.is_jupyter
        self._bars = Bars(*columns, console=console, transient=True, disable=not shown)
        self._line = _NotebookLine() if console.is_jupyter else None
        self._task = self._bars.add_task(what, total=total, note="")

    def __enter__(self) -> Progress:
        self._bars.start()
        self._draw()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()
        if self._line is not None:
            self._line.clear()

    def advance(self, steps: int, note: str | None = None) -> None:
        """Count steps; `note` replaces what stands at the end of the line."""
        fields = {} if note is None else {"note": note}
        self._bars.update(self._task, advance=steps, **fields)  # type: ignore[arg-type]
        self._draw()

    def _draw(self) -> None:
        if self._line is not None and self._line.is_due():
            self._line.show(self._bars.make_tasks_table(self._bars.tasks))


class _NotebookLine:
    """An output of the running cell that is drawn anew; the next one in the same cell takes its place."""

    _free: list[tuple[int, Any]] = []  # noqa: RUF012  number of the cell's execution, and the output's handle

    def __init__(self) -> None:
        self._drawn = 0.0
        self._cell = -1
        self._output: Any = None

    def is_due(self) -> bool:
        return time.monotonic() - self._drawn >= _EVERY

    def show(self, what: Any) -> None:
        from IPython.core.getipython import get_ipython
        from IPython.display import DisplayHandle

        self._drawn = time.monotonic()
        if self._output is not None:
            self._output.update(what)
            return
        shell: Any = get_ipython()  # type: ignore[no-untyped-call]
        self._cell = shell.execution_count
        mine = [entry for entry in self._free if entry[0] == self._cell]
        self._free[:] = mine[1:]
        if mine:
            self._output = mine[0][1]
            self._output.update(what)
        else:
            self._output = DisplayHandle()
            self._output.display(what)

    def clear(self) -> None:
        if self._output is not None:
            self._output.update({"text/plain": ""}, raw=True)
            self._free.append((self._cell, self._output))
            self._output = None


@contextmanager
def calling(on_epoch: OnEpoch | None) -> Iterator[None]:
    """While the block runs, `epoch_ended` calls this function."""
    before = _on_epoch.set(on_epoch)
    try:
        yield
    finally:
        _on_epoch.reset(before)


def epoch_ended(history: Sequence[Mapping[str, Any]]) -> None:
    """Tell whoever runs the task that a tuning epoch is over.

    Args:
        history: an entry for each epoch so far, with `epoch`, `train_loss`, `validation_accuracy`,
            `validation_log_loss` and, where they are known, the pair prior's `validation_prior_accuracy` and
            `validation_prior_log_loss` on the same pairs (losses in nats).
    """
    on_epoch = _on_epoch.get()
    if on_epoch is None:
        return
    try:
        on_epoch(history)
    except Exception:  # a picture that fails is no reason to lose a training
        log.warning("on_epoch failed; training goes on", exc_info=True)
