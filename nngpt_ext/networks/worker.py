"""The warmed parent: a process that loads torch, gives up its privileges and forks a child for each network.

`nngpt_ext.networks.sandbox` starts it as a script. It never runs a network's code itself. Each line of its standard
input is a request; it answers with a line of JSON about the child's end, and then the bytes that the child wrote.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

ANSWER = 3  # the child's only descriptor beside the null device
LONGEST = 4_096  # bytes of an answer about one shape
_BLOCK = 1 << 16


def main() -> None:
    """Read the setup, then requests until standard input ends.

    The setup has `package` (the folder that contains it), `folders` (that may be read), `libraries` (those with more
    Python packages), `confined`, `without`, `memory` (bytes), `cpu` and `wall` (seconds).
    """
    setup = json.loads(sys.stdin.buffer.readline())
    sys.path.insert(0, setup["package"])
    from nngpt_ext.networks import confinement

    null = os.open(os.devnull, os.O_RDWR)
    size = None
    with suppress(OSError):
        size = open("/proc/self/statm")  # noqa: PTH123, SIM115 (read once it can no longer be opened)
    applied: list[str] = []
    if setup["confined"]:
        try:
            applied = confinement.isolate(setup["folders"], without=frozenset(setup["without"]))
        except confinement.Unconfinable as error:
            _say({"refused": str(error)})
            return
    tempfile.tempdir = "/"  # libraries look for a folder that can be written to when they are imported
    from nngpt_ext.networks.meta_device import measure, warm_up

    sys.path.extend(setup["libraries"])
    warm_up()
    sys.path.remove(setup["package"])
    mapped = int(size.read().split()[0]) * os.sysconf("SC_PAGESIZE") if size else 0
    gc.collect()
    gc.freeze()
    _say({"applied": applied})
    while line := sys.stdin.buffer.readline():
        request = json.loads(line)

        def child(request: Any = request) -> None:
            if setup["confined"]:
                confinement.enclose(mapped + setup["memory"], setup["cpu"])
            else:
                with suppress(OSError, ValueError):
                    confinement.limit(mapped + setup["memory"], setup["cpu"])
            _answer(measure, request)

        ended, content = _run(child, null, LONGEST * len(request["shapes"]), setup["wall"])
        _say(ended, content)


def _say(message: dict[str, Any], content: bytes = b"") -> None:
    line = json.dumps({**message, "bytes": len(content)}).encode()
    sys.stdout.buffer.write(line + b"\n" + content)
    sys.stdout.buffer.flush()


def _run(child: Callable[[], None], null: int, longest: int, wall: float) -> tuple[dict[str, Any], bytes]:
    """Fork a child; returns how it ended, and what it wrote. Nothing of it is left afterwards."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setpgid(0, 0)
            _die_with_parent()
            for i in (0, 1, 2):
                os.dup2(null, i)
            os.dup2(writing, ANSWER + 1 if writing == ANSWER else ANSWER)
            if writing == ANSWER:
                os.dup2(ANSWER + 1, ANSWER)
            os.closerange(ANSWER + 1, os.sysconf("SC_OPEN_MAX"))
            child()
        finally:
            os._exit(1)
    os.close(writing)
    with suppress(OSError):
        os.setpgid(pid, pid)  # whoever is first
    content, stopped, end = b"", None, time.monotonic() + wall
    while stopped is None:
        ready, _, _ = select.select([reading, 0], [], [], max(0.0, end - time.monotonic()))
        if 0 in ready:  # nobody asks any more
            stopped = "end"
        elif not ready:
            stopped = "time"
        else:
            block = os.read(reading, _BLOCK)
            if not block:
                break
            content += block
            if len(content) > longest:
                stopped, content = "answer", b""
    os.close(reading)
    status, used = _reap(pid, at_once=stopped is not None)
    if stopped == "end":
        raise SystemExit
    return {"status": status, "cpu": used, "stopped": stopped}, content


def _reap(pid: int, at_once: bool) -> tuple[int, float]:
    """The child's exit code (or minus the signal) and its CPU time; it is killed with its group if it goes on."""
    end = time.monotonic() + (0.0 if at_once else 0.5)
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() >= end:
            with suppress(OSError):
                os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            break
        time.sleep(0.001)
    return os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime


def _die_with_parent() -> None:
    if sys.platform == "linux":
        from ctypes import CDLL

        CDLL(None).prctl(1, signal.SIGKILL)


def _answer(measure: Callable[..., dict[str, int | None]], request: dict[str, Any]) -> None:
    """In the child: measure each shape, and write a line about it."""
    for shape in request["shapes"]:
        try:
            line: dict[str, Any] = {"numbers": measure(request["source"], tuple(shape))}
        except BaseException as error:
            line = {"failure": _why(error)}
        left = json.dumps(line).encode() + b"\n"
        while left:
            left = left[os.write(ANSWER, left) :]
    os._exit(0)


def _why(error: BaseException) -> str:
    try:
        text = str(error)
    except BaseException:
        text = ""
    return f"{type(error).__name__}: {' '.join(text[:300].split())}".rstrip(": ")


if __name__ == "__main__":
    main()
