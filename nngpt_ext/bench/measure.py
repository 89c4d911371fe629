"""Time and memory of work that is measured in turn with its peers."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

import psutil
import torch


class Work(NamedTuple):
    """What one measured piece of work did."""

    examples: int
    tokens: int  # that went through the model, padding left out
    seconds: float


class Rate(NamedTuple):
    """Medians over the rounds of a measurement."""

    examples_per_second: float
    tokens_per_second: float
    peak_mb: float  # above what was in use before
    rounds: int


def in_turn(ways: Mapping[str, Callable[[], Work]], rounds: int, tell: Callable[[str], None]) -> dict[str, Rate]:
    """Measure each way `rounds` times, one after the other and again, so that a slow minute meets all of them."""
    found: dict[str, list[tuple[Work, float]]] = {name: [] for name in ways}
    for number in range(rounds):
        for name, way in ways.items():
            tell(f"{name}, round {number + 1} of {rounds}")
            with peak_memory() as peak:
                work = way()
            found[name].append((work, peak["mb"]))
    return {name: _rate(runs) for name, runs in found.items()}


def _rate(runs: list[tuple[Work, float]]) -> Rate:
    return Rate(
        statistics.median(work.examples / work.seconds for work, _ in runs),
        statistics.median(work.tokens / work.seconds for work, _ in runs),
        max(peak for _, peak in runs),
        len(runs),
    )


class Clock:
    """Seconds of a block, the device's work included."""

    def __enter__(self) -> Clock:
        self.began = now()
        return self

    def __exit__(self, *_: Any) -> None:
        self.seconds = now() - self.began


def _give_back() -> None:
    """Have the C library return freed memory, or the next piece of work would use it unseen (glibc only)."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


def now() -> float:
    """A clock's reading when the device has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def peak_memory() -> Iterator[dict[str, float]]:
    """Puts `mb` into the given mapping: the most memory in use inside the block above what was in use before.

    On CUDA what torch allocated; else the resident set, looked at a hundred times a second.
    """
    peak: dict[str, float] = {}
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        yield peak
        peak["mb"] = (torch.cuda.max_memory_allocated() - before) / 2**20
        return
    process = psutil.Process()
    _give_back()
    before = highest = process.memory_info().rss
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.wait(0.01):
            highest = max(highest, process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        done.set()
        thread.join()
        peak["mb"] = (highest - before) / 2**20
