"""What networks must not do: each attempt is refused or stopped, as root and as an ordinary user."""

from __future__ import annotations

import json
import os
import platform
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.networks.sandbox import Sandbox
from tests.networks import hostile

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or platform.machine() != "x86_64", reason="its system calls are those of Linux on x86_64"
)


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


@pytest.fixture
def victim(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNGPT_EXT_SECRET", "token")
    folder = tmp_path_factory.mktemp("user")
    (folder / "victim").write_text("precious")
    return folder


def check(found: dict[str, Any], names: list[str], folder: Path, listener: socket.socket) -> None:
    """That each attempt failed as it should, and that nothing outside has changed."""
    cases = {**hostile.QUICK, **hostile.SLOW}
    wrong = {
        name: found[name]
        for name in names
        if not (isinstance(found[name], str) and re.search(cases[name][1], found[name]))
    }
    assert wrong == {}
    assert [name for name in names if "REACHED" in str(found[name])] == []
    assert [(one.name, one.read_text()) for one in folder.iterdir()] == [("victim", "precious")]
    assert (folder / "victim").stat().st_mode & 0o777 != 0o777
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert not Path("/tmp/nngpt_ext_new").exists()


def test_attempts_fail_and_networks_are_measured(victim, listener):
    names = [*hostile.QUICK, *hostile.HARMLESS]
    found = hostile.run(names, str(victim), listener.getsockname()[1])
    check(found, [*hostile.QUICK], victim, listener)
    for name in ("is a network", "uses threads", "tries and goes on"):
        assert (found[name]["parameters"], found[name]["macs"], found[name]["forward"]) == (30_730, 30_720, 1)
    assert found["lies about itself"]["parameters"] == 7  # not promised: truthful numbers


@pytest.mark.slow
@pytest.mark.parametrize(
    ("without", "applied"),
    [("namespaces", ("landlock",)), ("landlock", ("namespaces", "mounts"))],
    ids=["landlock only", "mounts only"],
)
def test_attempts_fail_by_either_means(without, applied, victim, listener):
    try:
        found = hostile.run([*hostile.QUICK], str(victim), listener.getsockname()[1], (without,))
    except UserError as error:
        pytest.skip(str(error))
    assert found["applied"] == applied
    check(found, [*hostile.QUICK], victim, listener)


@pytest.mark.slow
@pytest.mark.parametrize("name", hostile.SLOW)
def test_endless_ones_are_stopped(name, victim, listener):
    check(hostile.run([name], str(victim), listener.getsockname()[1]), [name], victim, listener)


@pytest.mark.skipif(os.getuid() != 0, reason="these tests run as an ordinary user already")
@pytest.mark.parametrize(
    "names",
    [[*hostile.QUICK, *hostile.HARMLESS], pytest.param([*hostile.SLOW], marks=pytest.mark.slow)],
    ids=["quick", "endless"],
)
def test_attempts_fail_as_an_ordinary_user(names, listener, monkeypatch):
    monkeypatch.setenv("NNGPT_EXT_SECRET", "token")
    folder = Path("/var/tmp") / f"nngpt_ext_user_{os.getpid()}"
    folder.mkdir()
    try:
        (folder / "victim").write_text("precious")
        for one in (folder, folder / "victim"):
            os.chown(one, 65534, 65534)
        done = hostile.run_as(hostile.ORDINARY, names, folder, listener.getsockname()[1])
        if done.returncode and ("unshare" in done.stderr or "setpriv" in done.stderr or "mount" in done.stderr):
            pytest.skip(f"cannot become an ordinary user here: {done.stderr.strip().splitlines()[-1]}")
        assert done.returncode == 0, done.stderr
        found = json.loads(done.stdout)
        check(found, [name for name in names if name not in hostile.HARMLESS], folder, listener)
        assert found.get("is a network", {"parameters": 30_730})["parameters"] == 30_730
    finally:
        for one in [*folder.iterdir(), folder]:
            one.rmdir() if one.is_dir() else one.unlink()


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (
            "open('/etc/passwd')",
            r"(PermissionError: \[Errno 13\] Permission denied|FileNotFoundError: .*): '/etc/passwd'",
        ),
        ("import os\nos.fork()", r"PermissionError: \[Errno 1\] Operation not permitted"),
        ("raise SystemExit(0)", "SystemExit: 0"),
    ],
    ids=["reads", "forks", "exits"],
)
def test_the_command_says_it_in_one_line(body, why, tmp_path):
    (tmp_path / "net.py").write_text(body)
    command = [sys.executable, "-m", "nngpt_ext", "structure", "net.py", "--shape", "3x32x32", "--classes", "10"]
    env = {**os.environ, "PYTHONPATH": str(hostile.ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"error: 'net.py' has no structure at 3x32x32, 10 classes: {why}\n", done.stderr), done.stderr


def test_without_means_nothing_runs():
    with pytest.raises(UserError) as caught, Sandbox(without=("landlock", "namespaces")):
        pass
    assert str(caught.value) == (
        "networks cannot be run safely here: this machine has neither Landlock (Linux 5.13 or later) nor user "
        "namespaces; give the structure instead, or use networks.run_code: unsafe for LEMUR's own sources"
    )


def test_elsewhere_nothing_runs(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(UserError) as caught:
        Sandbox()
    assert str(caught.value) == (
        "networks are measured in a sandbox, which needs Linux; give the structure instead, or use "
        "networks.run_code: unsafe for LEMUR's own sources"
    )


def test_never_is_never():
    with pytest.raises(
        UserError, match=r"^networks\.run_code is never, so no network is measured; give its structure instead$"
    ):
        Sandbox("never")
