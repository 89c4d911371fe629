"""The number of threads that torch trains with on a CPU: all of them, or one if other processes use the cores.

Threads that share a core with another process wait for each other: two of them on two busy cores train several
times slower than one. The number changes how long training takes, not its result.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import psutil
import torch
from transformers import TrainerCallback

if TYPE_CHECKING:
    from nngpt_ext.tuning.trainer import AnswerTrainer

log = logging.getLogger(__name__)

_TRIES = 2  # measured steps with each number of threads; the faster one counts
_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def kept_threads() -> Iterator[None]:
    """Restores torch's number of threads when the block ends."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kept_environment() -> Iterator[None]:
    """Keeps accelerate from emptying `os.environ` and filling it again, as it does to compare settings with defaults.

    A thread that reads a variable at that moment (libraries start many, and C has no lock for it) ends the process by a
    segmentation fault in `getenv`, as was seen once in some thousand runs on a busy machine.
    """
    from accelerate.utils import environment

    emptied = environment.clear_environment
    environment.clear_environment = nullcontext
    try:
        yield
    finally:
        environment.clear_environment = emptied


def usable_cores() -> int:
    """The number of cores that this process may use."""
    own = hasattr(psutil.Process, "cpu_affinity")
    return len(psutil.Process().cpu_affinity()) if own else psutil.cpu_count() or 1


def threads_are_free() -> bool:
    """Whether the user has left the number of threads at torch's default, all cores that the process may use."""
    defaults = {usable_cores(), psutil.cpu_count(logical=False)} - {1}
    return not any(os.environ.get(name) for name in _VARIABLES) and torch.get_num_threads() in defaults


class ThreadChoice(TrainerCallback):
    """Times each epoch's first steps with one thread and with all threads, and continues with the faster number.

    Does nothing on CUDA, or where the user has set the number of threads.
    """

    def __init__(self, trainer: AnswerTrainer) -> None:
        self.trainer = trainer
        on_cpu = trainer.args.device.type == "cpu"
        self.all_threads = torch.get_num_threads() if on_cpu and threads_are_free() else 1
        self.starts = {0, *trainer.plan.epoch_ends}
        self.left: list[int] = []  # numbers of threads that are still to be timed in this epoch
        self.speeds: dict[int, float] = {}  # tokens per second, by number of threads
        self.began, self.tokens = 0.0, 0

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.all_threads > 1 and not self.left and state.global_step in self.starts:
            self.left, self.speeds = [1, self.all_threads] * _TRIES, {}
        if self.left:
            torch.set_num_threads(self.left[0])
            self.began, self.tokens = time.perf_counter(), self.trainer.n_tokens

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if not self.left:
            return
        threads = self.left.pop(0)
        speed = (self.trainer.n_tokens - self.tokens) / (time.perf_counter() - self.began)
        self.speeds[threads] = max(speed, self.speeds.get(threads, 0.0))
        # On a busy machine the slow try is not repeated.
        if self.speeds[1] > 2 * self.speeds.get(self.all_threads, speed):
            self.left.clear()
        best = max(self.speeds, key=lambda number: self.speeds[number])
        torch.set_num_threads(best)
        if not self.left:
            shown = ", ".join(f"{number}: {speed:,.0f}" for number, speed in self.speeds.items())
            log.info("computing with %d of %d threads (tokens/s by threads: %s)", best, self.all_threads, shown)
