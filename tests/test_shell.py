"""Ctrl-C in real processes: wherever it is lost, the command ends with exit code 130."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

# What a command may do while Ctrl-C is pressed; each would go on without end.
LOST = {
    "a destructor": """
        class Held:
            def __del__(self):
                ready(0.2)
        while True:
            Held()
    """,
    "a library that catches everything": """
        while True:
            try:
                ready(0.2)
            except BaseException:
                pass
    """,
    "a callback from C code": """
        import weakref
        class Held: pass
        def gone(_):
            ready(0.2)
        while True:
            held = Held()
            reference = weakref.ref(held, gone)
            del held
    """,
    "another error": """
        try:
            while True:
                ready(0.2)
        except KeyboardInterrupt:
            raise ImportError("initialization failed")
    """,
    "the end of the work": """
        try:
            ready(30)
        except KeyboardInterrupt:
            pass
    """,
    "clean-up that takes longer": """
        try:
            ready(30)
        finally:
            time.sleep(1.5)
            print("clean", flush=True)
    """,
}
ENDLESS = ("a destructor", "a callback from C code", "a library that catches everything")
SCRIPT = """
import sys, time
import nngpt_ext.cli as cli
import nngpt_ext.tasks.inspection as inspection

def ready(seconds):
    print("ready", flush=True)
    time.sleep(seconds)

def work(*_, **__):
{work}

inspection.summarize_pairs = work
sys.argv = ["nngpt-ext", "pairs"]
cli.main()
"""


def started(script: str, **options: object) -> subprocess.Popen[str]:
    """Python with the interrupts of a terminal, which a background job would ignore."""

    def as_in_a_terminal() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    return subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=as_in_a_terminal, cwd=Path(__file__).parents[1], **options,
    )  # fmt: skip


@pytest.mark.parametrize("kind", LOST)
def test_an_interrupt_that_is_lost_comes_again(kind: str) -> None:
    process = started(SCRIPT.format(work=textwrap.indent(textwrap.dedent(LOST[kind]), "    ")))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert ("clean\n" in out) == ("clean-up" in kind)
    if kind not in ENDLESS:
        assert err.splitlines()[-1] == "interrupted; continue a run with --resume"
        assert "Traceback" not in err


IMPORTING = """
import sys, time
class Slow:
    def find_spec(self, name, *_):
        if name == "{name}":
            print("ready", flush=True)
            time.sleep(60)
sys.meta_path.insert(0, Slow())
from nngpt_ext.__main__ import main
sys.argv = ["nngpt-ext", "--version"]
main()
"""


@pytest.mark.parametrize("name", ["nngpt_ext.cli", "typer", "nngpt_ext.data.splits"])
def test_an_interrupt_during_the_imports(name: str) -> None:
    process = started(IMPORTING.format(name=name))
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=30) == ("", "")
    assert process.returncode == 130


@pytest.mark.skipif(os.name == "nt", reason="has no such signals")
def test_nothing_changes_for_others() -> None:
    """Interrupts stay ignored where they were, and a process that calls `main` has its handlers back."""
    script = (
        "import signal, sys\nfrom nngpt_ext import cli\n"
        "signal.signal(signal.SIGINT, signal.{handler})\nsys.argv = ['nngpt-ext', '--version']\n"
        "try:\n    cli.main()\nexcept SystemExit as stop:\n"
        "    print(stop.code, signal.getsignal(signal.SIGINT) is signal.{handler}, "
        "signal.getitimer(signal.ITIMER_REAL))"
    )
    for handler in ("SIG_IGN", "default_int_handler"):
        done = subprocess.run(
            [sys.executable, "-c", script.format(handler=handler)], capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines()[1] == "0 True (0.0, 0.0)"
