"""The documentation as a site: built strictly, and pages that ask nothing of another server."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.browser import browser
from tests.docs.blocks import ROOT

__all__ = ["browser"]

pytestmark = pytest.mark.slow
OUTSIDE = re.compile(r"""(?:src|href)=["']?(https?:)?//[^"'> ]+""")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("material", reason="mkdocs-material is not installed: pip install 'nngpt-ext[docs]'")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed: pip install 'nngpt-ext[docs]'")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", folder], cwd=ROOT, capture_output=True,
        text=True, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_there_and_loads_nothing_from_outside(site: Path) -> None:
    for page in (ROOT / "docs").glob("*.md"):
        built = site / f"{page.stem}.html"
        assert built.is_file() is (page.name != "LOG.md")
    for built in site.rglob("*.html"):
        text = built.read_text(encoding="utf-8")
        loaded = [found.group() for found in OUTSIDE.finditer(text) if not found.group().startswith("href")]
        loaded += re.findall(r'<link[^>]+href="?https?:[^"> ]+', text)
        assert loaded == [], built.name
    assert "fonts.g" not in "".join(f.read_text(encoding="utf-8") for f in site.glob("*.html"))


def test_links_out_of_the_folder_are_names(site: Path) -> None:
    assert "examples/train_budget/README.md</code> is a second task" in (site / "predictions.html").read_text("utf-8")
    for built in site.glob("*.html"):
        assert 'href="../' not in built.read_text(encoding="utf-8")


def test_the_reference_has_the_docstrings(site: Path) -> None:
    text = (site / "api.html").read_text(encoding="utf-8")
    for name in ("run_task", "Predictor", "PredictionStore", "register_task", "UserError", "build_pairs"):
        assert f">{name}<" in re.sub(r"</?(?:span|code)[^>]*>", "", text) or f".{name}" in text
    assert "Raises" in text


@pytest.mark.parametrize("width", [390, 1440])
@pytest.mark.parametrize("page", ["index", "concepts", "cli", "api", "splits", "gpu", "first_steps"])
def test_a_page_in_a_browser(browser: Any, site: Path, page: str, width: int) -> None:
    view = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    faults: list[str] = []
    view.on("request", lambda request: asked.append(request.url))
    view.on("pageerror", lambda error: faults.append(str(error)))
    view.goto((site / f"{page}.html").as_uri())
    assert view.locator("h1").first.is_visible()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
    assert faults == []
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    if width == 390:  # no command is cut off, and the texts of a picture are legible
        assert view.evaluate("[...document.querySelectorAll('pre > code')].every(e => e.scrollWidth <= e.clientWidth)")
        sizes = "[...document.querySelectorAll('article p > a > img')].map(e => e.getBoundingClientRect().width)"
        assert all(size >= 600 for size in view.evaluate(sizes))
    view.close()
