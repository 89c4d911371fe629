"""Progress of long work: a line with the time left on a terminal, nothing elsewhere."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress:
    """`with Progress("scoring", 100) as p: p.advance(1)`; drawn on standard error, where results never go."""

    def __init__(self, what: str, total: int, unit: str = "") -> None:
        console = Console(stderr=True)
        columns = [
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn(unit),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"),
        ]  # fmt: skip
        self._bars = Bars(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._bars.add_task(what, total=total, note="")

    def __enter__(self) -> Progress:
        self._bars.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._bars.stop()

    def advance(self, steps: int, note: str | None = None) -> None:
        """Count steps; `note` replaces what stands at the end of the line."""
        fields = {} if note is None else {"note": note}
        self._bars.update(self._task, advance=steps, **fields)  # type: ignore[arg-type]
