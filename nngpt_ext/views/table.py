"""A table, as reports, studies and answers describe themselves."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nngpt_ext.views.plot import Plot, Span
from nngpt_ext.views.wording import NO_NUMBER

# A number, an interval, or the dash.
_FIGURES = re.compile(rf"{NO_NUMBER}|[-+]?[\d.,]+(?: to [-+]?[\d.,]+)?")


@dataclass(frozen=True)
class Table:
    """A title, a header, and rows with a cell for each column. A table with one column is shown as a list."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str = ""  # a sentence or two below the title
    marked: frozenset[int] = frozenset()  # indices of the highlighted rows
    bars: Sequence[float] = ()  # one number in [0, 1] for each row, drawn as a bar in HTML
    spans: Sequence[Span] = ()  # figures with their intervals, drawn above the table on an HTML page
    spans_are: str = ""  # what they show, in a sentence

    @property
    def is_list(self) -> bool:
        return len(self.header) == 1

    @property
    def plot(self) -> Plot | None:
        """The picture of the spans."""
        return Plot(self.spans, self.title) if self.spans else None

    @property
    def numeric(self) -> list[bool]:
        """Whether all cells of a column are figures, which are right-aligned, for each column."""
        return [all(_FIGURES.fullmatch(row[i]) for row in self.rows) for i in range(len(self.header))]
