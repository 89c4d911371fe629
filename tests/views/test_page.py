"""A report's page in a real Chromium, at the width of a telephone and of a desktop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.evaluation.description import summary, tables
from nngpt_ext.views.faces import to_page
from tests.browser import browser
from tests.evaluation.conftest import made_report

__all__ = ["browser"]

pytestmark = pytest.mark.slow
BOXES = (
    "[...document.querySelectorAll(%r)].map(e => { const b = e.getBoundingClientRect(); return [b.x, b.y, b.right]; })"
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1300])
def test_a_report(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    report = made_report()
    file = tmp_path / "report.html"
    file.write_text(to_page("Report", summary(report), tables(report)), encoding="utf-8")
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.goto(file.as_uri())
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") == width
    # No table scrolls by itself either, no picture and no word of it is outside the page.
    assert (
        page.evaluate("[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth).length")
        == 0
    )
    assert page.locator("svg").count() == 3
    assert all(left >= 0 and right <= width for left, _, right in page.evaluate(BOXES % "svg, svg text"))
    # The remark stands beside its figures, or on a telephone below them.
    (remark, value) = (
        page.evaluate(BOXES % f".remarked tbody tr:first-child {cell}")[0] for cell in ("td:last-child", "td")
    )
    assert (remark[1] > value[1]) is (width == 390)
    assert (remark[0] < value[0]) is (width == 390)
    page.close()
