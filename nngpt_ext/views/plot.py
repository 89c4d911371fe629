"""A table's figures as dots with their intervals below one another: lengths in an SVG, which a template writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# Units of the SVG: its width on a phone, so that text there is as large as the page's.
WIDTH, _LEFT, _RIGHT, _ROW, _TOP = 340.0, 138.0, 12.0, 20.0, 6.0
_STEPS = (0.01, 0.02, 0.05, 0.1, 0.2)
_MOST_TICKS = 6


@dataclass(frozen=True)
class Span:
    """A figure with its interval; `other` is what it is compared with on the same examples."""

    name: str
    value: float
    ci95: tuple[float, float] | None = None
    other: float | None = None


@dataclass(frozen=True)
class Row:
    """A span as places in the picture, from left to right; y is its middle."""

    name: str
    y: float
    value: float
    low: float
    high: float
    other: float | None


class Plot:
    """The picture of spans on one axis, with a row for each; `words` say what it shows to those who do not see it."""

    def __init__(self, spans: Sequence[Span], what: str) -> None:
        numbers = [n for s in spans for n in (s.value, *(s.ci95 or ()), s.other) if n is not None]
        low, high = min(numbers), max(numbers)
        step = next((s for s in _STEPS if (high - low) / s <= _MOST_TICKS - 2), _STEPS[-1])
        first, last = int(low // step), int(-(-high // step))
        first, last = (first, last) if last > first else (first, first + 1)

        def place(value: float) -> float:
            share = (value - first * step) / ((last - first) * step)
            return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)

        self.width, self.axis = WIDTH, _TOP + _ROW * len(spans)  # the latter: how far down it is
        self.height = self.axis + 20
        self.ticks = [(place(i * step), f"{i * step:.2f}") for i in range(first, last + 1)]
        self.rows = []
        self.words = f"{what}: " + "; ".join(
            f"{s.name} {s.value:.3f}" + ("" if s.other is None else f" (prior {s.other:.3f})") for s in spans
        )
        for i, s in enumerate(spans):
            low, high = s.ci95 or (s.value, s.value)
            other = None if s.other is None else place(s.other)
            self.rows.append(Row(s.name, _TOP + _ROW * (i + 0.5), place(s.value), place(low), place(high), other))
