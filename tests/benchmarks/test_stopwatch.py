"""Measuring: ways in turn, medians, seconds and memory."""

from __future__ import annotations

import time

import numpy as np
import pytest

from benchmarks.stopwatch import Clock, Rate, Work, in_turn, with_peak_memory


def test_ways_are_measured_in_turn_and_give_medians() -> None:
    seconds = {"ours": iter([1.0, 4.0, 2.0]), "theirs": iter([10.0, 10.0, 40.0])}
    measured: list[str] = []

    def way(name: str) -> Work:
        measured.append(name)
        return Work(20, 1000, next(seconds[name]))

    rates = in_turn({"ours": lambda: way("ours"), "theirs": lambda: way("theirs")}, 3, "examples")
    assert measured == ["ours", "theirs"] * 3
    assert rates["ours"] == Rate(10.0, 500.0, rates["ours"].peak_mb, 3)
    assert rates["theirs"] == Rate(2.0, 100.0, rates["theirs"].peak_mb, 3)


def test_a_clock_reads_the_time_of_its_block() -> None:
    with Clock() as clock:
        time.sleep(0.02)
    assert 0.02 <= clock.seconds < 5


def test_memory_is_what_came_on_top() -> None:
    def way() -> Work:
        held = np.ones(50 * 2**17)  # 50 MB
        time.sleep(0.1)
        return Work(len(held), 0, 0.1)

    _, peak = with_peak_memory(way)
    assert peak == pytest.approx(50, abs=20)
