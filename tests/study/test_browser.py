"""The page in a real Chromium (Debian's package), at the width of a telephone and of a desktop."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.browser import browser

__all__ = ["browser"]

COMMITTED = Path(__file__).parents[2] / "docs" / "study" / "index.html"
pytestmark = pytest.mark.slow


@pytest.fixture(params=["made here", "committed"])
def file(request, studied) -> Path:
    """The page of the small study, and that of the study whose result is in docs/."""
    found = studied.folder / "index.html" if request.param == "made here" else COMMITTED
    if not found.is_file():
        pytest.skip("no result of the study is committed yet")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1440])
def test_the_page_in_a_browser(browser, file, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    said: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    address = file.as_uri()
    page.goto(address)
    assert said == []
    assert [url for url in asked if not url.startswith("data:")] == [address]
    headings = page.locator("section h2")
    assert headings.count() >= 7
    assert all(headings.nth(i).is_visible() for i in range(headings.count()))
    page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    wide = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert wide[0] <= wide[1] == width
    pictures = page.locator("svg")
    assert pictures.count() >= 8
    for i in range(pictures.count()):
        box = pictures.nth(i).bounding_box()
        assert box is not None
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width
        assert box["height"] > 100
    # No word of a picture is cut off at its edge.
    cut = page.evaluate("""
        [...document.querySelectorAll('svg')].flatMap(svg => {
            const box = svg.getBoundingClientRect();
            return [...svg.querySelectorAll('text')].filter(text => {
                const own = text.getBoundingClientRect();
                return own.left < box.left - 2 || own.right > box.right + 2 || own.top < box.top - 2
                    || own.bottom > box.bottom + 2;
            }).map(text => text.textContent);
        })
    """)
    assert cut == []
    # Text is told from the page in either scheme.
    colours = page.evaluate(
        "[getComputedStyle(document.querySelector('svg text')).fill, getComputedStyle(document.body).backgroundColor]"
    )
    lightness = [sum(int(part) for part in colour.strip("rgb()").split(",")[:3]) for colour in colours]
    assert abs(lightness[0] - lightness[1]) > 200
    page.close()
