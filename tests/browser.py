"""A real Chromium for tests of pages; where there is none they are skipped."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from typing import Any

import pytest


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install '.[test-all]'")
    # NNGPT_EXT_CHROMIUM: one that is not on the path.
    found = os.environ.get("NNGPT_EXT_CHROMIUM") or shutil.which("chromium")
    if found is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")
    with api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])  # which root needs
        yield opened
        opened.close()
