"""The guard: the names of a proxy, and JSON of far too many values."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from nngpt_ext import UserError
from nngpt_ext.serve.deployment import Deployment
from nngpt_ext.serve.server import read_token
from tests import models_made
from tests.serve.conftest import Running, served
from tests.serve.test_app import post, problem

CODE = models_made.sources()["AlexNet"]
TOKEN = "a-token-of-this-test"
PAIR = {"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "svhn"}


@pytest.fixture(scope="module")
def behind(deployment: Deployment) -> Iterator[Running]:
    with served(deployment, TOKEN, names=["NN.example.com"]) as found:
        yield found


@pytest.mark.parametrize("host", ["nn.example.com", "nn.example.com:8443", "localhost", None])
@pytest.mark.parametrize("origin", ["https://nn.example.com", "http://nn.example.com:8443", None])
def test_a_proxy_may_keep_its_host_or_not(behind: Running, host: str | None, origin: str | None) -> None:
    headers = {"Authorization": f"Bearer {TOKEN}", "Host": host or urlsplit(behind.url).netloc}
    headers |= {} if origin is None else {"Origin": origin}
    assert post(behind, "/v1/compare", PAIR, **headers).status_code == 200
    if origin is not None:
        form = headers | {"Content-Type": "application/x-www-form-urlencoded"}
        data = {"nn_code": CODE, "datasets": "mnist svhn", "token": TOKEN}
        assert httpx.post(behind.url, data=data, headers=form).status_code == 200


def test_another_name_is_still_refused(behind: Running) -> None:
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    for host in ("example.com", "evil.nn.example.com", "nn.example.com.evil.test"):
        said = problem(post(behind, "/v1/compare", PAIR, Host=host, **bearer), 421)
        assert said == (
            f"this server is on loopback, not called '{host}'; ask it as localhost or 127.0.0.1; for a proxy's name, "
            "start it with --name"
        )
    for origin in ("https://example.com", "ftp://nn.example.com", "null", "https://nn.example.com.evil.test"):
        problem(post(behind, "/v1/compare", PAIR, Origin=origin, **bearer), 403)
    problem(post(behind, "/v1/compare", PAIR, Host="nn.example.com"), 401)


def test_a_name_needs_a_token_and_is_a_hosts(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        read_token(None, "127.0.0.1", ["nn.example.com"])
    assert str(error.value) == (
        "a server called 'nn.example.com' can be reached from other machines, so it needs a token: openssl rand -hex "
        "24 > token.txt, then --token-file token.txt"
    )
    for name in ("https://nn.example.com", "nn.example.com:443", "", "nn example", "*.example.com/"):
        with pytest.raises(UserError, match=r"--name is the name of a host, such as nn\.example\.com, not '"):
            read_token(None, "127.0.0.1", [name])
    (tmp_path / "token").write_text(TOKEN)
    assert read_token(tmp_path / "token", "127.0.0.1", ["nn.example.com", "localhost"]) == TOKEN


_TEXT = r'"a\\\"[,{\\"'  # brackets and commas of a text, behind escaped quotes


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/v1/score", '{"networks": [' + "[]," * 10_000_000 + "1]}", "a request's JSON may have 500,000 values"),
        ("/v1/compare", '{"recipe": [' + "[]," * 2_600_000 + "1]}", "a request's JSON may have 100,000 values"),
        ("/v1/compare", "[" + '"",' * 2_000_000 + '""]', "a request's JSON may have 100,000 values"),
        ("/v1/compare", "{" + _TEXT + ":[" + "{}," * 100_001 + "1]}", "a request's JSON may have 100,000 values"),
    ],
    ids=["score", "compare", "texts", "after a text with escapes"],
)  # fmt: skip
def test_json_of_far_too_many_values_stops_nobody(server: Running, path: str, body: str, words: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        asked, longest = pool.submit(post, server, path, body.encode()), 0.0
        while not asked.done():
            began = time.monotonic()
            httpx.get(f"{server.url}/healthz", timeout=30)
            longest = max(longest, time.monotonic() - began)
        assert problem(asked.result(), 413) == f"{words}; ask in several requests"
    assert longest < 3  # parsing took 6 s


def test_commas_and_brackets_of_sources_are_no_values(server: Running) -> None:
    source = CODE + "".join(f'# "{i}\\", [{{,,,,,,,,,,,\n' for i in range(20_000))
    assert json.dumps(source).count(",") > 200_000
    assert post(server, "/v1/compare", PAIR | {"nn_code": source}).status_code == 200


def test_utf16_hides_no_values(server: Running) -> None:
    body = ('{"\\"": [' + "1," * 300_000 + "1]}").encode("utf-16")
    assert post(server, "/v1/compare", body).status_code in (400, 413)


def test_many_values_of_one_recipe_and_many_networks(server: Running) -> None:
    recipe = {f"k{i}": i for i in range(20_000)}
    said = problem(post(server, "/v1/score", {"networks": [{"nn_code": CODE}] * 1_000, "recipe": recipe}), 422)
    assert said == "the request: recipe: has more than 10,000 values"
    said = problem(post(server, "/v1/score", {"networks": [[]] * 100_000}), 422)
    assert said.startswith("the request: networks: at most 1,000 networks are scored at once, not 100,000")
