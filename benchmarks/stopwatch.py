"""Time and memory of ways to do the same work, measured in turn."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import itertools
import statistics
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import psutil
import torch
from rich.console import Console


@dataclass(frozen=True)
class Work:
    """What one measured piece of work did."""

    examples: int
    tokens: int  # that went through the model, without padding
    seconds: float
    log_odds: np.ndarray = field(default_factory=lambda: np.empty(0))  # of the questions, if it scored any


@dataclass(frozen=True)
class Rate:
    """Medians over the rounds of a measurement."""

    examples_per_second: float
    tokens_per_second: float
    peak_mb: float  # above what was in use before
    rounds: int


class Clock:
    """Seconds of a block, including the work of the device."""

    def __enter__(self) -> Clock:
        self.began = now()
        return self

    def __exit__(self, *_: Any) -> None:
        self.seconds = now() - self.began


def now() -> float:
    """The time at which the device has finished what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def in_turn(ways: Mapping[str, Callable[[], Work]], rounds: int, title: str) -> dict[str, Rate]:
    """Measure all ways `rounds` times, one after the other, so that a slow minute affects each of them.

    The terminal shows `title` and what is being measured.
    """
    runs: dict[str, list[tuple[Work, float]]] = {name: [] for name in ways}
    with Console(stderr=True).status(title) as status:
        for number, (name, way) in itertools.product(range(rounds), ways.items()):
            status.update(f"{title}: {name}, round {number + 1} of {rounds}")
            runs[name].append(with_peak_memory(way))
    return {
        name: Rate(
            statistics.median(work.examples / work.seconds for work, _ in done),
            statistics.median(work.tokens / work.seconds for work, _ in done),
            max(peak for _, peak in done),
            rounds,
        )
        for name, done in runs.items()
    }


def with_peak_memory(way: Callable[[], Work]) -> tuple[Work, float]:
    """Do the work.

    Returns:
        The work, and the most memory in use during it above what was in use before, in MB: on CUDA what torch
        allocated, on the CPU the resident set, sampled a hundred times a second.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work = way()
        return work, (torch.cuda.max_memory_allocated() - before) / 2**20
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        # Only glibc: the C library would use memory again that was freed before, and it would not be seen.
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    process = psutil.Process()
    before = process.memory_info().rss
    samples, done = [before], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            samples.append(process.memory_info().rss)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        work = way()
    finally:
        done.set()
        thread.join()
    return work, (max(samples) - before) / 2**20
