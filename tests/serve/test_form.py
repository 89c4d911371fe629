"""The page's form, as a browser sends it: the limits of JSON, and nothing long is sent back."""

from __future__ import annotations

import html
import re
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlencode

import httpx
import pytest

from nngpt_ext.serve.deployment import Deployment
from tests import models_made
from tests.serve.conftest import Running, served

CODE = models_made.sources()["AlexNet"]
TOKEN = "a-token-of-this-test"


def send(server: Running, form: dict[str, str] | bytes) -> httpx.Response:
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Origin": server.url}
    return httpx.post(server.url, content=form if isinstance(form, bytes) else urlencode(form), headers=headers)


def refusal(response: httpx.Response, status: int = 422) -> str:
    assert response.status_code == status
    found = re.search(r'role="alert">(.*?)</p>', response.text)
    assert found is not None
    return html.unescape(found[1])


def test_the_answer(server: Running) -> None:
    found = send(server, {"nn_code": CODE.replace("\n", "\r\n"), "datasets": "mnist, svhn"})
    assert found.status_code == 200
    assert "What the answer rests on" in found.text


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("nn_code", "x" * 1_000_001, "a network's source may have 1,000,000 characters"),
        ("datasets", "a " * 3_000, "the question: datasets: at most 64 datasets are ranked at once, not 3,000"),
        ("datasets", "mnist " + "a" * 201, "the question: datasets: a dataset's name has at most 200 characters, not "),
        ("datasets", "mnist", "a ranking needs two datasets or more, not mnist"),
        ("datasets", "a" * 100_001, "datasets may have 100,000 characters"),
        ("recipe", "[" * 100_001, "recipe may have 100,000 characters"),
        ("recipe", '{"lr": 1, "lr": 2}', "recipe is not JSON (the key 'lr' stands there 2 times)"),
        ("adapter", "dem", "unknown adapter 'dem' (did you mean 'demo'?); known: demo"),
    ],
)  # fmt: skip
def test_limits(server: Running, field: str, value: str, words: str) -> None:
    found = send(server, {"nn_code": CODE} | {field: value})
    assert refusal(found).startswith(words)
    assert len(found.text) < 60_000


def test_far_too_many_fields_stop_nobody(server: Running) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(send, server, b"a=1&" * 2_000_000)
        longest = 0.0
        while not asked.done():
            began = time.monotonic()
            httpx.get(f"{server.url}/healthz", timeout=30)
            longest = max(longest, time.monotonic() - began)
        assert refusal(asked.result()) == "a form may have 20 fields"
    assert longest < 1.5  # it took 4 s


def test_a_pasted_token_is_stripped_and_a_wrong_ones_source_is_not_repeated_at_length(deployment: Deployment) -> None:
    with served(deployment, TOKEN) as server:
        form = {"nn_code": CODE, "datasets": "mnist svhn"}
        assert send(server, form | {"token": f" {TOKEN}\r\n"}).status_code == 200
        assert refusal(send(server, form | {"token": "another"}), 401) == "The token is missing or wrong."
        long = send(server, {"nn_code": "x" * 2_000_000, "token": "another"})
        assert refusal(long) == "a network's source may have 1,000,000 characters"
        assert len(long.text) < 20_000
