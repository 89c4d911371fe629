"""Progress: drawn where somebody looks, and nowhere else; what is told after an epoch."""

from __future__ import annotations

import io
import logging
import sys
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from nngpt_ext.progress import Progress, calling, epoch_ended

CELL = """
import time
from nngpt_ext.progress import Progress
with Progress("whole", 2, unit="steps") as outer:
    for name in ("one", "two"):
        with Progress(name, 4) as inner:
            for _ in range(4):
                time.sleep(0.1)
                inner.advance(1, note="<b>fast</b>")
        outer.advance(1)
"""


class Watched(NotebookClient):
    """Keeps what the kernel sends to be shown."""

    def process_message(self, msg: Any, cell: Any, cell_index: int) -> Any:
        if msg["msg_type"] in ("display_data", "update_display_data"):
            drawings.append((msg["msg_type"], msg["content"]["data"]))
        return super().process_message(msg, cell, cell_index)


drawings: list[tuple[str, dict[str, str]]] = []


def test_in_a_notebook_a_line_is_drawn_anew_and_goes() -> None:
    drawings.clear()
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    done = Watched(notebook, timeout=60).execute()
    kinds = [kind for kind, _ in drawings]
    assert kinds.count("display_data") == 2  # `two` takes the place of `one`
    assert kinds.count("update_display_data") >= 5
    html = [data["text/html"] for _, data in drawings if "text/html" in data]
    for name in ("whole", "one", "two"):
        assert any(name in text for text in html)
    assert any("/4" in text and "&lt;b&gt;fast" in text for text in html)
    assert not any("<b>" in text for text in html)
    assert [out.output_type for out in done.cells[0].outputs] == ["display_data"] * 2
    assert [out.data for out in done.cells[0].outputs] == [{"text/plain": ""}] * 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("stream", [Terminal, io.StringIO])
def test_elsewhere_only_a_terminal_is_drawn_on(stream: type[io.StringIO], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    written = stream()
    monkeypatch.setattr(sys, "stderr", written)
    with Progress("scoring", 3, unit="questions") as progress:
        progress.advance(3)
    assert ("scoring" in written.getvalue()) == (stream is Terminal)
    assert bool(written.getvalue()) == (stream is Terminal)


def test_whoever_runs_a_task_is_told_of_each_epoch_while_it_runs() -> None:
    told: list[Any] = []
    with calling(told.append):
        epoch_ended([{"epoch": 1}])
        with calling(None):  # a task that runs another, quietly
            epoch_ended([{"epoch": 7}])
    epoch_ended([{"epoch": 2}])
    assert told == [[{"epoch": 1}]]


def test_a_picture_that_fails_ends_no_training(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="nngpt_ext")

    def fails(_: Any) -> None:
        raise ZeroDivisionError("no axes")

    with calling(fails):
        epoch_ended([{"epoch": 1}])
    assert "on_epoch failed; training goes on" in caplog.text
    assert "no axes" in caplog.text
