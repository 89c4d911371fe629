"""The benchmark of linear time: its texts, its verdict, and the committed result. Nothing here is timed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import linear
from tests.deadline import deadline
from tests.docs.blocks import ROOT

RESULT = ROOT / "benchmarks" / "results" / "linear-cpu.json"


@pytest.mark.parametrize("kind", linear.KINDS)
def test_a_text_has_the_size_that_was_asked_for(kind: str) -> None:
    size = 50_000
    assert size * 0.85 < len(linear.KINDS[kind](size)) <= size


def test_the_committed_result_has_every_pass_and_kind_and_all_are_linear(tmp_path: Path) -> None:
    found = json.loads(RESULT.read_text(encoding="utf-8"))
    wanted = {(name, kind) for name in linear.passes(tmp_path) for kind in linear.KINDS}
    assert {(row["pass"], row["kind"]) for row in found["rows"]} == wanted
    assert found["not_linear"] == []
    for row in found["rows"]:
        assert row["linear"]
        assert len(row["seconds"]) == len(row["characters"]) in (3, 5)
        assert row["characters"][2] == linear.LIMITS.get(row["pass"], linear.SIZE)
        assert row["ratio"] is None or row["ratio"] <= found["most_ratio"] == 2.6


def test_every_pass_ends_on_every_kind_of_text(tmp_path: Path) -> None:
    with deadline(300):
        for name, prepare in linear.passes(tmp_path).items():
            for kind, text in linear.KINDS.items():
                took, _ = linear.seconds(prepare(text(4_000)))
                assert took < 60, (name, kind)


@pytest.mark.parametrize(("power", "is_linear"), [(1, True), (2, False)])
def test_the_verdict(power: int, is_linear: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])

    def prepare(text: str) -> Any:
        def work() -> None:
            clock[0] += (len(text) / 100_000) ** power / 5

        return work

    row = linear.measure("a pass", "blanks alone", prepare, 400_000)
    assert row["linear"] is is_linear
    assert row["ratio"] == 2**power
    assert row["seconds"] == [n**power / 5 for n in ([1, 2, 4] if is_linear else [1, 2, 4, 8, 16])]


def test_time_that_jumps_once_is_linear(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "process_time", lambda: clock[0])

    def prepare(text: str) -> Any:
        def work() -> None:
            clock[0] += len(text) / 100_000 * (1 if len(text) < 400_000 else 3)

        return work

    row = linear.measure("a pass", "blanks alone", prepare, 400_000)
    assert (row["linear"], row["ratio"], row["seconds"]) == (True, 2.0, [1, 2, 12, 24, 48])
