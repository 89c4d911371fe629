"""Progress: drawn where somebody looks, and nowhere else."""

from __future__ import annotations

import io
import sys

import nbformat
import pytest
from nbclient import NotebookClient

from nngpt_ext.progress import Progress, part_of

CELL = """
import logging
from nngpt_ext.progress import Progress
logging.basicConfig(format="%(message)s", force=True)
with Progress("whole", 2, unit="steps") as outer:
    for name in ("one", "two"):
        with Progress(name, 4) as inner:
            inner.advance(4, note="fast")
        logging.warning("%s is over", name)
        outer.advance(1)
"""


def test_in_a_notebook_a_bar_is_drawn_and_goes() -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(CELL)])
    outputs = NotebookClient(notebook, timeout=60).execute().cells[0].outputs
    drawn = "".join(out.text for out in outputs)
    assert {out.name for out in outputs} == {"stderr"}
    assert all(f"{name}:" in drawn for name in ("whole", "one", "two"))
    assert "Warning" not in drawn  # of tqdm, that ipywidgets are not installed
    # What a screen shows at the end.
    lines = [line.rstrip("\r").rpartition("\r")[2].strip() for line in drawn.split("\n")]
    assert [line for line in lines if line] == ["one is over", "two is over"]


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
    with part_of("fold 1"), Progress("scoring", 3, unit="questions") as progress:
        progress.advance(3)
    assert ("fold 1: scoring" in written.getvalue()) == (stream is Terminal)
    assert bool(written.getvalue()) == (stream is Terminal)
