"""matplotlib figures as SVG that lives inside a page: its colours and type are the page's, light or dark."""

from __future__ import annotations

import importlib.util
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from xml.etree import ElementTree

from nngpt_ext.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Drawn in these, which no one sees: each becomes a variable of the page's style sheet.
TEXT, SOFT, LINE, PAGE, ABOVE, BELOW = "#010101", "#020202", "#030303", "#040404", "#050505", "#060606"
SERIES = tuple(f"#0{i}0a0a" for i in range(1, 7))
_VARIABLES = {TEXT: "text", SOFT: "soft", LINE: "line", PAGE: "page", ABOVE: "above", BELOW: "below"} | {
    colour: f"series-{i}" for i, colour in enumerate(SERIES, 1)
}
# Told apart without colour as well.
DASHES: tuple[Any, ...] = (
    "-",
    (0, (5, 1.5)),
    (0, (1, 1.2)),
    (0, (5, 1.5, 1, 1.5)),
    (0, (8, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
)
MARKERS = ("o", "s", "^", "D", "v", "P")
WIDTH = 4.2  # inches of 72 units: narrower than a telephone's screen, so that its text can be read there
_LONG = 26  # letters of a legend's entry, of which two do not fit beside each other
_STYLE: dict[Any, Any] = {  # matplotlib types its keys one by one
    "svg.fonttype": "none", "font.size": 8.5, "axes.titlesize": 8.5, "legend.fontsize": 8, "legend.frameon": False,
    "text.color": TEXT, "axes.labelcolor": SOFT, "axes.edgecolor": LINE, "axes.titlecolor": TEXT,
    "xtick.color": LINE, "ytick.color": LINE, "xtick.labelcolor": SOFT, "ytick.labelcolor": SOFT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.color": LINE,
    "grid.linewidth": 0.5, "axes.axisbelow": True, "figure.facecolor": "none", "axes.facecolor": "none",
    "savefig.facecolor": "none", "lines.linewidth": 1.5, "axes.unicode_minus": True,
}  # fmt: skip


class Picture(NamedTuple):
    """A picture: what it is called, what it shows to those who do not see it, and its SVG."""

    title: str
    alt: str
    svg: str


def check_matplotlib() -> None:
    """See that pictures can be drawn.

    Raises:
        UserError: with what to install.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise UserError("the study's pictures need matplotlib; type: pip install 'nngpt-ext[study]'")


@contextmanager
def figure(height: float, columns: int = 1, width: float = WIDTH, **options: Any) -> Iterator[tuple[Figure, Any]]:
    """A figure of `width` by `height` inches and its axes."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        drawn = Figure(figsize=(width, height), layout="constrained")
        yield drawn, drawn.subplots(1, columns, **options)


def legend(drawn: Figure, axes: Any, columns: int = 2) -> None:
    """The legend below the axes, where it covers nothing; an entry a label, in one column where they are long."""
    found: dict[str, Any] = {}
    for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
        found.setdefault(label, handle)
    if found:
        columns = 1 if max(map(len, found)) > _LONG else columns
        drawn.legend(
            list(found.values()),
            list(found),
            loc="outside lower left",
            ncols=columns,
            handlelength=2.6,
            columnspacing=1.2,
        )


def picture(drawn: Figure, key: str, title: str, alt: str) -> Picture:
    """The figure as SVG, the same each time it is drawn.

    Args:
        drawn: the figure.
        key: of letters, digits and dashes, and no other picture's of the page: its ids begin with it.
        title, alt: see `Picture`.
    """
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": key}):
        drawn.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    return Picture(title, alt, _inline(file.getvalue(), key, title, alt))


def _inline(text: str, key: str, title: str, alt: str) -> str:
    root = ElementTree.fromstring(text[text.index("<svg") :])
    for parent in list(root.iter()):
        for child in list(parent):
            if not isinstance(child.tag, str) or child.tag.endswith("}metadata"):
                parent.remove(child)
    for element in root.iter():
        element.tag = _bare(element.tag)
        element.attrib = {_bare(name): _own(_bare(name), value, key) for name, value in element.attrib.items()}
    box = root.get("viewBox", "")
    root.attrib = {"viewBox": box, "role": "img", "aria-labelledby": f"{key}-title {key}-alt"}
    for place, (name, words) in enumerate((("title", title), ("desc", alt))):
        said = ElementTree.Element(name, {"id": f"{key}-{'title' if name == 'title' else 'alt'}"})
        said.text = words
        root.insert(place, said)
    return ElementTree.tostring(root, encoding="unicode")


def _bare(name: str) -> str:
    """A name without its namespace, which HTML does not want."""
    return name.rpartition("}")[2]


def _own(name: str, value: str, key: str) -> str:
    if name == "id":
        return f"{key}-{value}"
    if name == "href":
        return value.replace("#", f"#{key}-", 1)
    value = re.sub(r"url\(#", f"url(#{key}-", value)
    value = re.sub(r"font-family: [^;]*; ?", "", value)  # the page's own; a list of fonts a word was half the page
    return re.sub("|".join(_VARIABLES), lambda found: f"var(--{_VARIABLES[found.group()]})", value)
