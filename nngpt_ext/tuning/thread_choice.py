"""Which number of threads torch trains with on a CPU: all of them, or one if other processes use the cores.

Threads that share a core with another process wait for each other: two of them on two busy cores train several
times slower than one. The number changes how long training takes, not its result.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import torch
from transformers import TrainerCallback

from nngpt_ext.tuning.threads import threads_are_free

if TYPE_CHECKING:
    from nngpt_ext.tuning.trainer import AnswerTrainer

log = logging.getLogger(__name__)

_TRIES = 2  # measured steps with each number of threads; the faster one counts


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
