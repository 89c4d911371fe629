"""Running the code of networks in a sandbox, to measure their structure."""

from __future__ import annotations

import json
import os
import select
import signal
import site
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from nngpt_ext.declaration import Declarations, Named
from nngpt_ext.errors import UserError, parsing, shown
from nngpt_ext.networks.structure import Shape, Structure, parse_structure

RUN_CODE = Declarations(
    "way to run code",
    [
        Named("sandbox", "in a sandbox on Linux: no files, no network, no other processes"),
        Named("never", "not at all: structure is given, or comes from the table that the package ships"),
        Named("unsafe", "without a sandbox, for LEMUR's own sources"),
    ],
)
MEMORY = 4 << 30  # bytes
CPU = 10  # seconds
WALL = 20  # seconds
_START = 180.0  # seconds: a busy machine loads torch slowly
_SHAPES = 8  # of a child
_PACKAGE = Path(__file__).resolve().parents[2]
_ADVICE = "give the structure instead, or use networks.run_code: unsafe for LEMUR's own sources"


_WAKE = 0.2  # seconds between two looks at whether to stop
_stop: ContextVar[threading.Event | None] = ContextVar("stop", default=None)


class Stopped(UserError):
    """Nobody waits for a measurement any more."""

    def __init__(self) -> None:
        super().__init__("the measurement was stopped")


@contextmanager
def stopped_by(event: threading.Event) -> Iterator[None]:
    """Until the block ends, measurements of this thread end with `Stopped` soon after the event is set."""
    token = _stop.set(event)
    try:
        yield
    finally:
        _stop.reset(token)


def refuse_if_stopped() -> None:
    """Raise `Stopped` if the event of `stopped_by` is set."""
    if (event := _stop.get()) is not None and event.is_set():
        raise Stopped


@contextmanager
def turn_of(lock: threading.Lock) -> Iterator[None]:
    """Hold a lock, for which others may make one wait long."""
    while not lock.acquire(timeout=_WAKE):
        refuse_if_stopped()
    try:
        yield
    finally:
        lock.release()


@dataclass(frozen=True)
class Unmeasured:
    """A network that has no structure at a shape, and why."""

    reason: str


class Sandbox:
    """Measures networks, each in a process of its own that can only compute.

    A parent process loads torch once (seconds) and then gives up files, network and privileges; it forks a child for
    each network, which has 4 GB, 10 s of CPU time and 20 s. Not promised: safety from faults of the kernel and from
    side channels, and truthful numbers, because a network can lie about itself.

        with Sandbox() as sandbox:
            (found,) = sandbox.measure(source, [Shape(3, 32, 32, 10)])

    Args:
        run_code: a name in `RUN_CODE`.
        libraries: folders with more Python packages that networks may import.
        without: `landlock` or `namespaces`, as on a machine that lacks them; for tests.

    Raises:
        UserError: if code may not be run, and if this machine has no sandbox.
    """

    def __init__(
        self, run_code: str = "sandbox", *, libraries: Sequence[str] = (), without: Sequence[str] = ()
    ) -> None:
        if RUN_CODE.check(run_code) == "never":
            raise UserError("networks.run_code is never, so no network is measured; give its structure instead")
        if run_code == "sandbox" and sys.platform != "linux":
            raise UserError(f"networks are measured in a sandbox, which needs Linux; {_ADVICE}")
        if not hasattr(os, "fork"):
            raise UserError("networks cannot be measured on this system, which cannot fork; give the structure instead")
        self._setup = {
            "package": str(_PACKAGE), "libraries": list(libraries), "folders": [*_readable(), *libraries],
            "confined": run_code == "sandbox", "without": list(without), "memory": MEMORY, "cpu": CPU, "wall": WALL,
        }  # fmt: skip
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 (lives as long as the process)
        self._process: subprocess.Popen[bytes] | None = None
        self.applied: tuple[str, ...] = ()  # what keeps the network in, once it has started

    def __enter__(self) -> Sandbox:
        self._start()
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """End the parent process and what is left of its children."""
        process, self._process = self._process, None
        if process is not None:
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
            try:
                process.wait(1.0)
            except subprocess.TimeoutExpired:
                with suppress(OSError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def measure(self, source: str, shapes: Sequence[Shape]) -> list[Structure | Unmeasured]:
        """The structure of a network at each shape.

        Args:
            source: Python code, as `read_source` returns it.
            shapes: what goes in and comes out.

        Raises:
            UserError: if the sandbox cannot be started; a `Stopped` if the event of `stopped_by` was set.
        """
        found: list[Structure | Unmeasured] = []
        while len(found) < len(shapes):
            asked = shapes[len(found) : len(found) + _SHAPES]
            ended, content = self._ask({"source": source, "shapes": [astuple(one) for one in asked]})
            answered = list(_read(content, len(asked)))
            # What was measured before the end stays; the shape at which it ended is not tried again.
            found += answered if len(answered) == len(asked) else [*answered, Unmeasured(_why(ended))]
        return found

    def _start(self) -> None:
        command = [sys.executable, "-I", "-B", str(Path(__file__).with_name("worker.py"))]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, env=_environment(),
            start_new_session=True, cwd="/",
        )  # fmt: skip
        self._send(self._setup)
        message, _ = self._receive(_START)
        if "refused" in message:
            self.close()
            raise UserError(f"networks cannot be run safely here: {message['refused']}; {_ADVICE}")
        self.applied = tuple(message["applied"])

    def _ask(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        if self._process is None:
            self._start()
        self._send(request)
        return self._receive(WALL + 30.0)

    def _send(self, message: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except OSError:
            raise self._failed() from None

    def _receive(self, seconds: float) -> tuple[dict[str, Any], bytes]:
        assert self._process is not None
        assert self._process.stdout is not None
        stream, end = self._process.stdout.fileno(), time.monotonic() + seconds
        content = b""
        while True:
            head, newline, rest = content.partition(b"\n")
            if newline:
                message = json.loads(head)
                if len(rest) >= message["bytes"]:
                    return message, rest
            try:
                refuse_if_stopped()
            except Stopped:
                self.close()  # also ends the child
                raise
            ready, _, _ = select.select([stream], [], [], max(0.0, min(_WAKE, end - time.monotonic())))
            block = os.read(stream, 1 << 16) if ready else b""
            if not block and (ready or time.monotonic() >= end):
                raise self._failed()
            content += block

    def _failed(self) -> UserError:
        """The error for a parent process that ended or does not answer."""
        self.close()
        self._said.seek(0)
        lines = self._said.read().decode(errors="replace").strip().splitlines()
        return UserError(
            f"the sandbox did not start or ended ({shown(lines[-1], 300)[1:-1] if lines else 'no reason'})"
        )


def _readable() -> list[str]:
    """Where the interpreter, its libraries and this package are."""
    paths = sysconfig.get_paths()
    folders = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders += [f"{prefix}/lib" for prefix in (sys.base_prefix, sys.base_exec_prefix)]
    folders += [one for one in site.getsitepackages() if Path(one).is_dir()]
    if site.ENABLE_USER_SITE:
        folders.append(site.getusersitepackages())
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/etc/ld.so.cache", "/dev/urandom"]
    return list(dict.fromkeys([*folders, str(_PACKAGE / "nngpt_ext"), *system, os.devnull]))


def _environment() -> dict[str, str]:
    """The parent's environment: nothing of the user's, whose tokens a network must not see."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    own = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/", "USER": "network", "CUDA_VISIBLE_DEVICES": ""}
    return own | threads


def _read(content: bytes, most: int) -> Iterator[Structure | Unmeasured]:
    """The answers of a child, which may be lies: whatever is no answer is a reason."""
    for line in content.split(b"\n")[:-1][:most]:
        try:
            with parsing("its answer is not JSON"):
                answer = json.loads(line)
            if not isinstance(answer, dict) or len(answer) != 1 or not {"numbers", "failure"} & set(answer):
                raise UserError(f"its answer is {shown(answer)}")
            if "failure" in answer:
                reason = answer["failure"]
                yield Unmeasured(str(UserError(reason if isinstance(reason, str) else "of an unknown kind"))[:400])
            else:
                yield parse_structure(answer["numbers"], "its answer", whole=True)
        except UserError as error:
            yield Unmeasured(str(error))


def _why(ended: dict[str, Any]) -> str:
    """Why a child ended without an answer."""
    if ended["stopped"] == "time":
        return f"it was stopped after {WALL} s"
    if ended["stopped"] == "answer":
        return "it was stopped because its answer is too long"
    if ended["cpu"] >= CPU - 0.5 or ended["status"] == -signal.SIGXCPU:
        return f"it was stopped after {CPU} s of CPU time"
    status = ended["status"]
    if status < 0:
        with suppress(ValueError):
            return f"it crashed ({signal.Signals(-status).name})"
        return f"it crashed (signal {-status})"
    return "it ended without an answer"
