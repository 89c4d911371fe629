"""Figures by matplotlib in one style, whose colours are legible on light and on dark pages."""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nngpt_ext.errors import UserError
from nngpt_ext.extras import install_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Each has a contrast of at least 3.7 both on white and on the dark page's #15181b.
INK = "#7d7d7d"
SERIES = ("#3b82d6", "#d0661f", "#2a9265", "#9463dd", "#d14a86", "#9c7c14", "#0f8fa3")
WIDTH = 4.2  # inches of 72 units: narrow enough that the text is legible on a phone
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none", "font.sans-serif": ["DejaVu Sans"], "font.size": 8.5, "axes.titlesize": 8.5,
    "legend.fontsize": 8, "legend.frameon": False, "text.color": INK, "axes.labelcolor": INK, "axes.edgecolor": INK,
    "xtick.color": INK, "ytick.color": INK, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.color": INK, "grid.alpha": 0.3, "grid.linewidth": 0.5, "axes.axisbelow": True, "savefig.transparent": True,
}  # fmt: skip


def check_installed(what: str, extra: str, *libraries: str) -> None:
    """Check that `libraries` are installed, which `extra` of this package installs; `what` begins the error."""
    missing = [name for name in libraries if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"{what} need {' and '.join(missing)}; type: {install_extra(extra)}")


@contextmanager
def figure(height: float, columns: int = 1, width: float = WIDTH, **options: Any) -> Iterator[tuple[Figure, Any]]:
    """A figure of `width` by `height` inches and its axes, in our style; `options` are those of `Figure.subplots`."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn, drawn.subplots(1, columns, **options)


def as_svg(drawn: Figure, key: str) -> str:
    """The figure as SVG, the same each time. `key` makes its ids unique among the figures of a page."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": key}):
        drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return file.getvalue()[file.getvalue().index("<svg") :]  # without the XML prolog, which HTML does not have
