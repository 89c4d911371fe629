"""How a client reaches a server: the URL, the token, the seconds, the environment, and connections that end."""

from __future__ import annotations

import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from nngpt_ext import Client, UserError, channel
from nngpt_ext.errors import for_shell
from nngpt_ext.serve import connection
from nngpt_ext.serve.app import make_app
from nngpt_ext.serve.server import configuration
from tests.serve.conftest import Running, deployment, one_thread, run, server

__all__ = ["deployment", "one_thread", "run", "server"]

FAR = "http://server.test:8377"  # no name outside this machine ends in .test
LIKE = "the URL of a server is like http://127.0.0.1:8377"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"
CUT = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n[]"
UNUSABLE = {
    "ALL_PROXY": ("socks5://me:secret@127.0.0.1:9", "ALL_PROXY cannot be used: for a SOCKS proxy type .*httpx.socks.*"),
    "SSL_CERT_FILE": ("/no/such", "SSL_CERT_FILE cannot be used .No such file or directory.; name a file that is.*"),
    "SSLKEYLOGFILE": ("/no/such", "SSLKEYLOGFILE cannot be used .No such file or directory.; name a file that is.*"),
    "http_proxy": ("http://me:secret/x@h:1", "http_proxy cannot be used: a proxy is like http://proxy.test:3128, .*"),
    "HTTP_PROXY": ("foo://secret:1", "HTTP_PROXY cannot be used: a proxy is like http://proxy.test:3128, .*"),
    "NO_PROXY": ("[::1", "NO_PROXY cannot be used: .* NO_PROXY like localhost,::1; correct it, or unset it"),
}


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "socksio", None)  # Python's way to block an import
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy", "ssl_cert_file", "ssl_cert_dir"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def refusal(url: object = FAR, **given: object) -> str:
    with pytest.raises(UserError) as found:
        Client(url, **given).adapters()  # type: ignore[arg-type]
    return str(found.value)


@pytest.mark.parametrize("name", UNUSABLE)
def test_a_variable_that_cannot_be_used_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    value, said = UNUSABLE[name]
    monkeypatch.setenv(name, value)
    assert re.fullmatch(said, refusal())
    assert "secret" not in refusal()


def test_a_file_without_certificates_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", __file__)
    assert refusal("https://127.0.0.1:1").startswith("SSL_CERT_FILE cannot be used (")  # certificates count there too


def test_the_host_of_a_proxy_is_no_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://exa_mple..com:1")
    assert re.fullmatch(
        r"no answer from http://server.test:8377 \(.*; HTTP_PROXY is set, so a proxy may have been asked\); start .*",
        refusal(),
    )


@pytest.mark.parametrize("name", sorted({*UNUSABLE} - {"SSLKEYLOGFILE"}))
def test_loopback_needs_no_variable(name: str, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, UNUSABLE[name][0])
    with Client(server.url) as client:
        assert client.adapters()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_loopback_is_asked_without_a_proxy(host: str, server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with Client(server.url.replace("127.0.0.1", host)) as client:
        assert client.adapters()
    assert "ALL_PROXY is set, so a proxy may have been asked" in refusal()
    assert "PROXY" not in refusal("http://127.0.0.1:1")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://exa_mple..com", "label empty or too long"),
        (f"http://{'a' * 70}.test", "label too long|label empty or too long"),
        ("http://xn--zz/", "Invalid A-label"),
        ("http://", "it has no host"),
        ("http://:8377", "it has no host"),
        ("http://localhost:99999", "a port is from 1 to 65535"),
        ("http://localhost:-1", "a port is from 1 to 65535"),
        ("http://\ud800:1", "Invalid IDNA hostname"),
    ],
)
def test_odd_urls(url: str, why: str) -> None:
    said = refusal(url)
    assert said.startswith(f"{LIKE}, not 'http://"), said
    assert re.search(why, said)


@pytest.mark.parametrize(
    ("url", "sign"),
    [
        ("http://me:secret@localhost:8377", "@"), ("http://me:secret/x@localhost:8377", "@"), ("me:secret@host", "@"),
        ("http://localhost:8377?token=secret", "?"), ("http://localhost:8377/#secret", "#"),
    ],
)  # fmt: skip
def test_what_may_be_secret_in_a_url_is_not_shown(url: str, sign: str) -> None:
    said = f"{LIKE}, without user, password, query or fragment, but this one has a '{sign}'; a token goes in "
    assert refusal(url) == said + "token=…"
    with for_shell():
        assert refusal(url) == said + "NNGPT_EXT_TOKEN"


def test_a_path_is_asked_about(server: Running) -> None:
    for path in ("/v1", "/v1/", "/docs/x"):
        said = f"{server.url}{path} answered with status 404; is the server's URL {server.url}, without a path?"
        assert refusal(server.url + path) == said


@pytest.mark.parametrize("seconds", [None, -1, 0, "60", True, float("nan"), float("inf"), 1e12])
def test_seconds(seconds: object) -> None:
    assert refusal(timeout=seconds).startswith("timeout is a number of seconds above 0, at most 86400, not ")


def test_a_token_of_bytes() -> None:
    assert refusal(token=b"a-secret") == "the token must be a str, not bytes"


@contextmanager
def broken(*answers: bytes | None) -> Iterator[tuple[str, list[int]]]:
    """A server that sends these answers, whatever is asked, and resets the connection in place of a None.

    Its URL, and the number of the connection of each request.
    """
    asked: list[int] = []

    def serve(listening: socket.socket) -> None:
        left, number = list(answers), 0
        while left:
            one, number = listening.accept()[0], number + 1
            with one:
                while left and one.recv(65_536):
                    asked.append(number)
                    answer = left.pop(0)
                    if answer is None:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                        break
                    one.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve, args=(listening,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", asked
        thread.join(5)
        assert not thread.is_alive()


def test_a_connection_that_ends_as_it_is_used_is_replaced() -> None:
    with broken(ANSWER, None, ANSWER) as (url, asked), Client(url) as client:
        assert client.adapters() == client.adapters() == []
    assert asked == [1, 1, 2]


def test_one_that_ends_again_is_lost() -> None:
    with broken(None, None) as (url, asked):
        assert refusal(url).startswith(f"no answer from {url} (")
    assert asked == [1, 2]


def test_an_answer_that_has_begun_is_not_asked_for_again() -> None:
    with broken(CUT) as (url, asked):
        assert refusal(url).startswith(f"no answer from {url} (")
    assert asked == [1]


def test_a_client_leaves_an_idle_connection_first(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = configuration(make_app(server.service)).timeout_keep_alive
    assert channel.KEPT + 2 <= kept <= connection.HEAD - 2
    monkeypatch.setattr(channel, "KEPT", 0.2)
    with broken(ANSWER, ANSWER, ANSWER) as (url, asked), Client(url) as client:
        client.adapters()
        client.adapters()
        time.sleep(0.4)
        client.adapters()
    assert asked == [1, 1, 2]
