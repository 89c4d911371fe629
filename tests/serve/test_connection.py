"""Who sends no whole request keeps nobody out, and answers that are not the application's are problems too."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import pandas as pd
import pytest

from nngpt_ext import RunResult
from nngpt_ext.serve import connection
from nngpt_ext.serve.deployment import Deployment
from tests.serve.conftest import Running, served
from tests.serve.test_app import problem

HALF = b"POST /v1/compare HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def opened(server: Running, sent: bytes = b"") -> Iterator[socket.socket]:
    place = httpx.URL(server.url)
    with socket.create_connection((place.host, place.port or 0), timeout=20) as one:
        one.sendall(sent)
        yield one


def said(one: socket.socket) -> httpx.Response:
    """What the server says until it closes the connection."""
    content = b""
    while block := one.recv(65_536):
        content += block
    head, _, body = content.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    return httpx.Response(int(first.split()[1]), headers=[tuple(x.split(": ", 1)) for x in lines], content=body)


def test_connections_without_a_request_keep_nobody_out(deployment: Deployment) -> None:
    with served(deployment, connections=8) as server, ExitStack() as stack:
        half = [stack.enter_context(opened(server, HALF if i % 2 else b"")) for i in range(30)]
        assert httpx.get(f"{server.url}/healthz", timeout=5).json()["status"] == "ok"
        for one in half[:8]:  # which gave their places to others
            with suppress(ConnectionResetError):
                content = one.recv(65_536)
                assert content == b"" or b" 408 " in content


def test_a_head_and_a_body_have_their_time(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD", 0.5)
    monkeypatch.setattr(connection, "BODY", 1.0)
    with served(deployment) as server:
        with opened(server) as silent, opened(server, HALF) as half:
            assert silent.recv(1) == b""
            assert problem(said(half), 408) == "the request's head did not arrive within 0.5 s"
        with opened(server, HALF + b"Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{") as one:
            began = time.monotonic()
            assert one.recv(1) == b""
            assert 0.5 < time.monotonic() - began < 10
        with opened(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n") as again:  # kept alive, then a half
            assert again.recv(65_536).startswith(b"HTTP/1.1 200")
            again.sendall(HALF)
            problem(said(again), 408)
        with httpx.Client() as client:  # a whole one has all its time
            assert client.get(f"{server.url}/healthz").is_success
            time.sleep(0.3)
            assert client.get(f"{server.url}/healthz").is_success


def test_who_does_not_read_is_left_in_time(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """And who reads late is not."""
    monkeypatch.setattr(connection, "UNREAD", 4.0)
    ask, number = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n", 600
    with served(deployment) as server, opened(server, ask * number) as deaf:
        with opened(server, ask * number) as slow:
            time.sleep(0.5)
            got = 0
            while got < number:
                content = slow.recv(1_000_000)
                assert content
                got += content.count(b"HTTP/1.1 200")
        time.sleep(5)
        content = b""
        with suppress(ConnectionResetError):
            while block := deaf.recv(1_000_000):
                content += block
        assert content.count(b"HTTP/1.1 200") < number


def test_a_connection_is_not_idle_while_its_answer_is_read(
    run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "HEAD", 0.3)
    deployment = Deployment([str(run.output_dir)], store=f"sqlite:///{tmp_path / 's.db'}")
    assert deployment.store is not None
    deployment.store.add_run(run.output_dir)
    rows = pd.concat([deployment.store.query(limit=1)] * 8_000)
    deployment.store.add(rows.assign(nn=[f"network {i}" for i in range(8_000)]))
    ask = b"GET /v1/predictions?limit=8000 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served(deployment) as server, opened(server, ask) as slow:
        content = b""
        while not content.endswith(b"]"):
            time.sleep(0.02)
            block = slow.recv(65_536)
            assert block, f"cut after {len(content):,} bytes"
            content += block
    assert len(json.loads(content.partition(b"\r\n\r\n")[2])) == 8_000


def test_a_full_server_says_so(deployment: Deployment) -> None:
    with served(deployment, connections=1) as server:
        assert server.service.batcher is not None
        go = threading.Event()
        server.service.batcher.between(go.wait)
        question = json.dumps({"nn_code": "class Net: pass", "dataset_1": "mnist", "dataset_2": "svhn"}).encode()
        head = HALF + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(question)
        with opened(server, head + question) as first:
            while not server.service.batcher.depth:
                time.sleep(0.01)
            refused = httpx.get(f"{server.url}/healthz")
            assert problem(refused, 503) == "too many connections; ask again in 1 s"
            assert refused.headers["Retry-After"] == "1"
            go.set()
            assert first.recv(65_536).startswith(b"HTTP/1.1 200")


def test_an_answer_is_sent_at_once(server: Running) -> None:
    """A body that waits until its head is acknowledged takes 40 ms."""
    with httpx.Client() as client:
        seconds = []
        for _ in range(20):
            began = time.perf_counter()
            assert client.get(f"{server.url}/healthz").is_success
            seconds.append(time.perf_counter() - began)
    assert sorted(seconds)[5] < 0.03


def test_what_is_not_http(server: Running) -> None:
    with opened(server, b"hello\r\n\r\n") as one:
        assert problem(said(one), 400) == "the request is not HTTP"
