"""The picture of a table: where its dots, lines and ticks stand."""

from __future__ import annotations

import pytest

from nngpt_ext.views.faces import to_page
from nngpt_ext.views.plot import WIDTH, Plot, Span
from nngpt_ext.views.table import Table

SPANS = (Span("mnist", 0.93, (0.92, 0.94), 0.925), Span("svhn", 0.81, (0.78, 0.84), 0.8), Span("one", 0.9))


def test_places() -> None:
    plot = Plot(SPANS, "Per dataset")
    assert [text for _, text in plot.ticks] == ["0.75", "0.80", "0.85", "0.90", "0.95"]
    left, right = plot.ticks[0][0], plot.ticks[-1][0]
    first, second, third = plot.rows
    assert (first.value - left) / (right - left) == pytest.approx((0.93 - 0.75) / 0.2, abs=0.005)
    assert (second.low - left) / (right - left) == pytest.approx((0.78 - 0.75) / 0.2, abs=0.005)
    assert first.low < first.value < first.high
    assert (third.low, third.high, third.other) == (third.value, third.value, None)
    assert 0 < first.y < second.y < third.y < plot.axis < plot.height
    assert right < WIDTH
    assert plot.words == "Per dataset: mnist 0.930 (prior 0.925); svhn 0.810 (prior 0.800); one 0.900"


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_one_figure_without_an_interval(value: float) -> None:
    plot = Plot([Span("all", value)], "x")
    assert len(plot.ticks) >= 2
    assert plot.ticks[0][0] <= plot.rows[0].value <= plot.ticks[-1][0]


def test_from_nothing_to_everything() -> None:
    plot = Plot([Span("a", 0.5, (0.0, 1.0))], "x")
    assert [text for _, text in plot.ticks] == ["0.00", "0.20", "0.40", "0.60", "0.80", "1.00"]


def test_on_a_page() -> None:
    table = Table(
        "Per dataset", ("dataset", "accuracy"), [("<b>", "0.900")], spans=[Span("<b>", 0.9)], spans_are="Dots & lines."
    )
    page = to_page("x", "y", [table, Table("Run", ("what", "value"), [("a", "b")])])
    assert page.count("<svg") == page.count("<circle") == 1
    assert '<text x="0" y="20.0">&lt;b&gt;</text>' in page
    assert "<figcaption>Dots &amp; lines.</figcaption>" in page
