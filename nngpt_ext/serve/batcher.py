"""Answers concurrent questions together, on one thread: those about one network share its source's prefix.

In every other turn the smallest request is answered before older ones, so that nobody waits for a large one to end.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from nngpt_ext.predict.answers import Comparison
from nngpt_ext.predict.predictor import WINDOW, Predictor, Row
from nngpt_ext.predict.question import CheckedQuery

log = logging.getLogger(__name__)

RECENT = 4 * WINDOW  # answers that are remembered, for questions that are asked again while they are computed


class Busy(Exception):
    """More questions wait than are taken; `seconds` is when to ask again."""

    def __init__(self, seconds: int) -> None:
        super().__init__(f"too many questions are waiting; ask again in {seconds} s")
        self.seconds = seconds


@dataclass(eq=False)
class Waiting:
    """Questions of one request about one network."""

    predictor: Predictor
    queries: Sequence[CheckedQuery]
    answers: Future[list[Comparison]] = field(default_factory=Future)
    found: list[Comparison] = field(default_factory=list)  # the first of the answers

    @property
    def left(self) -> int:
        """The number of questions without an answer."""
        return len(self.queries) - len(self.found)

    @property
    def part(self) -> Sequence[CheckedQuery]:
        """The questions that are answered next."""
        return self.queries[len(self.found) :][:WINDOW]


class Batcher:
    """One thread that computes whatever waits.

    Args:
        most: questions that may wait.
        told: called with the number of questions that were answered together.
    """

    def __init__(self, most: int, told: Callable[[int], None] = lambda _: None) -> None:
        self._most, self._told = most, told
        self._waiting: list[Waiting] = []
        self._tasks: list[Callable[[], Any]] = []
        self._changed = threading.Condition()
        self._rate = 300.0  # questions a second, lately
        self._open = True
        self._smallest = False  # whether the last turn began with the smallest request
        self._recent: WeakKeyDictionary[Predictor, dict[str, Row]] = WeakKeyDictionary()
        self._thread = threading.Thread(target=self._work, name="batcher")
        self._thread.start()

    @property
    def depth(self) -> int:
        """The number of waiting questions."""
        return sum(one.left for one in list(self._waiting) if not one.answers.cancelled())

    async def ask(self, predictor: Predictor, queries: Sequence[CheckedQuery]) -> list[Comparison]:
        """The answers to questions about one network, in their order; if it is cancelled, they are not computed.

        Raises:
            Busy: if too many others are waiting.
            UserError: for a question that does not fit into the model's context.
        """
        one = Waiting(predictor, queries)
        with self._changed:
            depth = self.depth
            if depth and depth + len(queries) > self._most:
                raise Busy(1 + int(depth / self._rate))
            self._waiting.append(one)
            self._changed.notify()
        return await asyncio.wrap_future(one.answers)

    def between(self, task: Callable[[], Any]) -> None:
        """Have the thread run a function before the next questions, such as one that loads models; once if it waits."""
        with self._changed:
            if task not in self._tasks:
                self._tasks.append(task)
            self._changed.notify()

    def close(self) -> None:
        """Answer what is waiting, and end the thread."""
        with self._changed:
            self._open = False
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._tasks or not self._open)
                tasks, self._tasks = self._tasks, []
                batch = [] if tasks else self._taken()
            for task in tasks:
                try:
                    task()
                except Exception:
                    log.exception("a task between two questions failed")
            if batch:
                self._answer(batch)
            elif not tasks and not self._open:
                return

    def _taken(self) -> list[Waiting]:
        """The first, all others about its network, and so on, up to about `WINDOW` questions.

        The first is the oldest, or in every other turn the smallest.
        """
        alive = [one for one in self._waiting if not one.answers.cancelled()]
        self._smallest = not self._smallest
        ordered = sorted(alive, key=lambda one: len(one.queries)) if self._smallest else alive
        networks: dict[str, list[Waiting]] = {}
        for one in ordered:
            if one.predictor is ordered[0].predictor:
                networks.setdefault(one.queries[0].source, []).append(one)
        batch, number = list[Waiting](), 0
        for own in networks.values():
            if number < WINDOW:
                batch += own
                number += sum(min(one.left, WINDOW) for one in own)
        chosen = set(map(id, batch))
        self._waiting = [one for one in alive if id(one) not in chosen]
        return batch

    def _answer(self, batch: Sequence[Waiting]) -> None:
        predictor, began = batch[0].predictor, time.perf_counter()
        recent = self._recent.get(predictor, {})
        try:
            parts = [one.part for one in batch]
            answers = iter(predictor.answer([query for part in parts for query in part], recent))
        except BaseException as error:
            if len(batch) == 1:
                if batch[0].answers.set_running_or_notify_cancel():
                    batch[0].answers.set_exception(error)
            else:  # one request's question, such as one that is too long, must not fail the others
                for one in batch:
                    self._answer([one])
            return
        for one, part in zip(batch, parts, strict=True):
            one.found += itertools.islice(answers, len(part))
        with self._changed:
            self._waiting += [one for one in batch if one.left]
        for one in batch:
            if not one.left and one.answers.set_running_or_notify_cancel():
                one.answers.set_result(one.found)
        number = sum(map(len, parts))
        self._recent[predictor] = dict(list(recent.items())[-RECENT:])
        self._rate = 0.8 * self._rate + 0.2 * number / (time.perf_counter() - began)
        self._told(number)
