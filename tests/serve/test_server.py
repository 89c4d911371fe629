"""The command `serve` as a process: signals, kills, and mistakes at its start."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from nngpt_ext import Client, PredictionStore, RunResult, UserError
from nngpt_ext.channel import is_loopback
from nngpt_ext.serve.deployment import Deployment
from nngpt_ext.serve.server import listen, read_token
from tests import models_made

CODE = models_made.sources()["AlexNet"]
ROOT = Path(__file__).parents[2]


@contextmanager
def process(*words: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "nngpt_ext", "serve", *map(str, words)]
    running = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


def free_port() -> int:
    with listen("127.0.0.1", 0) as one:
        return int(one.getsockname()[1])


def until_it_answers(url: str) -> None:
    for _ in range(1_200):
        with suppress(httpx.HTTPError):
            httpx.get(f"{url}/healthz", timeout=120)
            return
        time.sleep(0.1)
    raise AssertionError("it did not start")


def test_it_ends_gracefully_after_it_was_killed_under_load(run: RunResult, tmp_path: Path) -> None:
    port, store = free_port(), f"sqlite:///{tmp_path / 's.db'}"
    url, words = f"http://127.0.0.1:{port}", ("--run", f"demo={run.output_dir}", "--port", port, "--store", store)
    answered: dict[str, float] = {}

    def ask(number: int) -> None:
        with Client(url) as client, suppress(UserError):
            for i in range(1_000):
                nn = f"{number}-{i}"
                answered[nn] = client.compare(f"{CODE}# {nn}\n", "mnist", "svhn", nn=nn).log_odds

    with process(*words) as running:
        until_it_answers(url)
        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        while len(answered) < 20:
            time.sleep(0.05)
        running.kill()
        for thread in threads:
            thread.join()
    with process(*words) as running:
        until_it_answers(url)
        rows = PredictionStore.open(store).query()
        stored = dict(zip(rows["nn"], rows["log_odds"], strict=True))
        assert {nn: stored.get(nn) for nn in answered} == pytest.approx(answered, abs=1e-9)
        running.send_signal(signal.SIGHUP)
        assert Client(url).compare(CODE, "mnist", "svhn").winner
        found: list[object] = []
        last = threading.Thread(target=lambda: found.append(Client(url).rank(CODE + "# last\n")))
        last.start()
        time.sleep(0.05)
        running.send_signal(signal.SIGTERM)
        assert running.wait(120) == 0
        last.join()
        said = running.stderr.read() if running.stderr else ""
        assert f"demo answers at {url}; Ctrl-C ends it" in said
        assert "Traceback" not in said
        assert "AlexNet" not in said


def handles(number: int, pid: int) -> bool:
    """Whether a process has a handler of its own for a signal."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    caught = next(line for line in lines if line.startswith("SigCgt:")).split()[1]
    return bool(int(caught, 16) >> (number - 1) & 1)


def test_a_hangup_while_it_loads_ends_nothing(run: RunResult) -> None:
    port = free_port()
    with process("--run", run.output_dir, "--port", port) as running:
        while not handles(signal.SIGHUP, running.pid):
            assert running.poll() is None
            time.sleep(0.01)
        running.send_signal(signal.SIGHUP)
        until_it_answers(f"http://127.0.0.1:{port}")
        running.send_signal(signal.SIGTERM)
        assert running.wait(60) == 0


def test_mistakes_at_the_start(run: RunResult, tmp_path: Path) -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        command = [sys.executable, "-m", "nngpt_ext", "serve", "--run", str(run.output_dir), "--port", str(port)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (2, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"error: cannot listen on 127.0.0.1:{port}: Address already in use")
    with pytest.raises(UserError, match=r"two adapters are called 'run'; name one of them: --run other="):
        Deployment([str(run.output_dir), str(run.output_dir)])
    with pytest.raises(UserError, match="no folder"):
        Deployment([str(tmp_path / "none")])
    with pytest.raises(UserError, match="this server has several adapters, name one as `adapter`: a, b"):
        Deployment([f"a={run.output_dir}", f"b={run.output_dir}"]).of(None)
    with pytest.raises(UserError, match="--token-file"):
        read_token(None, "0.0.0.0")
    (tmp_path / "token").write_text("short\n")
    with pytest.raises(UserError, match="one word of at least 16"):
        read_token(tmp_path / "token", "127.0.0.1")
    (tmp_path / "token").write_text("a-token-that-is-long-enough\n")
    assert read_token(tmp_path / "token", "0.0.0.0") == "a-token-that-is-long-enough"
    with pytest.raises(UserError, match="cannot listen"):
        listen("no.such.host.test", 0)


@pytest.mark.parametrize(
    ("host", "here"), [("localhost", True), ("127.9.9.9", True), ("::1", True), ("0.0.0.0", False), ("a.test", False)]
)
def test_what_loopback_is(host: str, here: bool) -> None:
    assert is_loopback(host) is here


def test_ipv6_where_there_is_one() -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 here")
    with suppress(UserError), listen("::1", 0) as found:
        assert json.dumps(found.getsockname()[1])
