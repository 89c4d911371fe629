"""The page for people, in a real Chromium without JavaScript."""

from __future__ import annotations

from typing import Any

import pytest

from nngpt_ext import Client
from nngpt_ext.serve.deployment import Deployment
from tests import models_made
from tests.browser import browser
from tests.serve.conftest import Running, served

__all__ = ["browser"]

CODE = models_made.sources()["AlexNet"]
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("width", [390, 1440])
def test_a_source_is_pasted_and_ranked(browser: Any, server: Running, client: Client, width: int) -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": width, "height": 900})
    page = context.new_page()
    requested: list[str] = []
    page.on("request", lambda request: requested.append(request.url))
    page.goto(server.url)
    page.fill("#nn_code", CODE)
    page.fill("#datasets", "mnist, svhn cifar-10")
    page.click("button")
    found = client.rank(CODE, ["mnist", "svhn", "cifar-10"])
    assert found.summary in page.inner_text("#answer")
    names = page.locator("#answer tbody th").all_inner_texts()
    assert names == [f"{i}. {name}" for i, name in enumerate(found.datasets, 1)]
    assert "What the answer rests on" in page.inner_text("#answer")
    assert page.input_value("#nn_code").strip() == CODE.strip()
    assert {url.partition("?")[0] for url in requested if not url.startswith("data:")} == {f"{server.url}/"}
    page.fill("#nn_code", "def (")
    page.click("button")
    assert "is not Python" in page.inner_text("[role=alert]")
    page.fill("#nn_code", "</textarea><script>alert(1)</script>")
    page.click("button")
    assert page.input_value("#nn_code") == "</textarea><script>alert(1)</script>"
    context.close()


def test_the_token_is_a_field(browser: Any, deployment: Deployment) -> None:
    with served(deployment, "a-token-of-this-test") as server:
        page = browser.new_page()
        page.goto(server.url)
        page.fill("#nn_code", CODE)
        for token, words in (("another", "The token is missing or wrong."), ("a-token-of-this-test", "Ranking")):
            page.fill("#token", token)
            page.click("button")
            assert words in page.content()
            assert token not in page.content()
        page.close()
