"""A table: what a report, a study or an answer gives to the faces."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from nngpt_ext.views.wording import NO_NUMBER

# A number, an interval, or the dash for none.
_FIGURES = re.compile(rf"{NO_NUMBER}|[-+]?[\d.,]+(?: to [-+]?[\d.,]+)?")


@dataclass(frozen=True)
class Table:
    """A title, a header and rows with a cell for each column. A table with a single column is shown as a list.

    Attributes:
        caption: a sentence or two below the title.
        marked: indices of the rows to stress.
        bars: one number in [0, 1] for each row, which the HTML faces draw beside it as a bar.
    """

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str = ""
    marked: frozenset[int] = frozenset()
    bars: Sequence[float] = ()

    @property
    def is_list(self) -> bool:
        return len(self.header) == 1

    @property
    def numeric(self) -> list[bool]:
        """For each column whether all its cells are figures: those are aligned right."""
        return [all(_FIGURES.fullmatch(row[i]) for row in self.rows) for i in range(len(self.header))]
