"""Asks the adapters for a server: what waits together is computed together, within a deadline, and counted."""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import anyio
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from pydantic import TypeAdapter

from nngpt_ext.client import ExplainedComparison, ExplainedRanking, Scored
from nngpt_ext.errors import UserError, for_request
from nngpt_ext.networks.sandbox import refuse_if_stopped, stopped_by
from nngpt_ext.predict.answers import Comparison, Explanation, Ranking, ranking_of
from nngpt_ext.predict.explanation import explanation_of, with_structures
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.predict.question import NO_SOURCE, CheckedQuery, Query
from nngpt_ext.serve.batcher import Batcher, Busy
from nngpt_ext.serve.deployment import Deployment
from nngpt_ext.serve.guard import HEALTH, PAGE
from nngpt_ext.serve.patient_store import REST
from nngpt_ext.serve.requests import CompareRequest, Network, ScoreRequest

ASKED = ("/v1/compare", "/v1/rank", "/v1/score")
_PATHS = (*ASKED, "/v1/adapters", "/v1/predictions", PAGE, HEALTH, "/metrics", "/openapi.json")
_AT_ONCE = 8  # networks of one /v1/score that are checked or wait
_scored = TypeAdapter(Scored)


class Metrics:
    """What is counted, in the words of Prometheus."""

    def __init__(self, waiting: Callable[[], int], unwritten: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        self._seconds = Histogram("nngpt_ext_request_seconds", "Requests", ["path", "status"], registry=registry)
        self._questions = Counter("nngpt_ext_questions", "Answered questions", ["source"], registry=registry)
        sizes = (1, 4, 16, 64, 256, 1024)
        self._batches = Histogram("nngpt_ext_batch_questions", "Together", registry=registry, buckets=sizes)
        Gauge("nngpt_ext_waiting_questions", "Waiting now", registry=registry).set_function(waiting)
        Gauge("nngpt_ext_unwritten_answers", "Wait for the store", registry=registry).set_function(unwritten)

    def request(self, path: str, status: int, seconds: float) -> None:
        """A request was answered; paths that do not exist count together."""
        known = path if path in _PATHS else "other"
        self._seconds.labels(known, status).observe(seconds)

    def batch(self, number: int) -> None:
        """Questions were computed together."""
        self._batches.observe(number)
        self._questions.labels("computed").inc(number)

    def stored(self, number: int) -> None:
        """Questions were answered from the store."""
        self._questions.labels("stored").inc(number)


class Service:
    """Asks the adapters of a deployment.

    Args:
        deployment: what answers.
        most: questions that may wait.
        deadline: seconds within which a network's questions are answered.
    """

    def __init__(self, deployment: Deployment, most: int = 4_096, deadline: float = 60.0) -> None:
        self.deployment, self._most, self.deadline = deployment, most, deadline
        self.batcher: Batcher | None = None
        self.metrics = Metrics(
            lambda: self.batcher.depth if self.batcher else 0,
            lambda: self.deployment.store.waiting if self.deployment.store else 0,
        )
        self.checking = anyio.CapacityLimiter(2)

    @asynccontextmanager
    async def running(self, _: object) -> AsyncIterator[None]:
        """Until the block ends, questions are computed; then those that wait are answered."""
        self.batcher = Batcher(self._most, self.metrics.batch)
        flushing = asyncio.create_task(self._flushing())
        try:
            yield
        finally:
            flushing.cancel()
            await asyncio.to_thread(self.batcher.close)
            if self.deployment.store is not None:
                await asyncio.to_thread(self.deployment.store.flush, last=True)

    async def _flushing(self) -> None:
        while self.deployment.store is not None:
            await asyncio.sleep(REST)
            await asyncio.to_thread(self.deployment.store.flush)

    def reload(self) -> None:
        """Read the adapters again, between two questions."""
        if self.batcher is not None:
            self.batcher.between(self.deployment.reload)

    async def compare(self, given: CompareRequest) -> Comparison:
        """The answer to a request."""
        names = [given.dataset_1, given.dataset_2]
        (found,), told = await self._within(given, names, given.adapter, explain=given.explain, pair=True)
        return ExplainedComparison(**vars(found), explanation=told) if told is not None else found

    async def rank(
        self, given: Network, datasets: Sequence[str] | None, adapter: str | None, explain: bool = False
    ) -> Ranking:
        """The answer about a network."""
        found, told = await self._within(given, datasets, adapter, explain=explain)
        ranking = ranking_of(sorted({name for one in found for name in (one.dataset_1, one.dataset_2)}), tuple(found))
        return ExplainedRanking(**vars(ranking), explanation=told) if told is not None else ranking

    async def score(self, given: ScoreRequest) -> AsyncIterator[bytes]:
        """A line for each network, as it is ready."""
        waiting: set[asyncio.Task[Scored]] = set()
        networks = enumerate(given.networks)
        try:
            while True:
                for i, one in itertools.islice(networks, _AT_ONCE - len(waiting)):
                    waiting.add(asyncio.create_task(self._scored(i, one, given)))
                if not waiting:
                    return
                done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield _scored.dump_json(task.result()) + b"\n"
        finally:  # also if the client has gone
            for task in waiting:
                task.cancel()

    async def _scored(self, number: int, one: Network, given: ScoreRequest) -> Scored:
        own = one if one.recipe is not None else one.model_copy(update={"recipe": given.recipe})
        while True:
            try:
                return Scored(number, await self.rank(own, given.datasets, given.adapter))
            except Busy as busy:
                await asyncio.sleep(busy.seconds)
            except (UserError, TimeoutError, asyncio.TimeoutError) as error:
                return Scored(number, error=str(error) or self.late)

    @property
    def late(self) -> str:
        """What is said of a question that took too long."""
        return f"no answer within {self.deadline:g} s; the server is busy, ask again later"

    async def _within(self, *given: Any, **named: Any) -> tuple[list[Comparison], Explanation | None]:
        return await asyncio.wait_for(self._answers(*given, **named), self.deadline)

    async def _answers(
        self, given: Network, datasets: Sequence[str] | None, adapter: str | None, *, explain: bool, pair: bool = False
    ) -> tuple[list[Comparison], Explanation | None]:
        """The answers about one pair or all pairs of datasets, and if wanted what there is to say of them."""
        predictor = self.deployment.asked(adapter, given.structure)
        stop = threading.Event()
        asked = partial(_checked, predictor, given, datasets, explain=explain, pair=pair, stop=stop)
        try:
            queries, without, told = await anyio.to_thread.run_sync(asked, limiter=self.checking)
        finally:
            stop.set()  # nobody waits any more for what is measured
        both = [self._of(predictor, one) for one in (queries, without) if one.queries]
        found, *priors = await asyncio.gather(*both)
        if told is not None and priors:
            told = replace(told, prior=priors[0][0])
        return found, told

    async def _of(self, predictor: Predictor, asked: _Asked) -> list[Comparison]:
        """The answers to questions about one network, computed unless they are stored."""
        assert self.batcher is not None
        missing = [query for query, one in zip(asked.queries, asked.stored, strict=True) if one is None]
        self.metrics.stored(len(asked.queries) - len(missing))
        new = iter(await self.batcher.ask(predictor, missing) if missing else ())
        return [next(new) if one is None else one for one in asked.stored]


class _Asked(NamedTuple):
    queries: list[CheckedQuery]
    stored: list[Comparison | None]


def _checked(
    predictor: Predictor, given: Network, datasets: Sequence[str] | None, *, explain: bool, pair: bool,
    stop: threading.Event,
) -> tuple[_Asked, _Asked, Explanation | None]:  # fmt: skip
    """The questions of a request, those without the source, and what there is to say of the answers.

    Raises:
        UserError: for whatever is wrong with them.
    """
    own, code = given.given(), given.nn_code
    with stopped_by(stop), for_request():
        names = list(datasets or ()) if pair else predictor.check_datasets(datasets)
        queries, without, told = list[CheckedQuery](), list[CheckedQuery](), None
        for a, b in itertools.combinations(names, 2):
            refuse_if_stopped()
            queries.append(predictor.check(Query(code, a, b, **own)))
        if explain:
            own = with_structures(predictor, code, names, own)
            told = explanation_of(predictor, code, names, own)
            if pair:
                query = Query("", names[0], names[1], **own | {"nn": NO_SOURCE})
                without.append(predictor.check(query, source_shown=False))
        return _Asked(queries, predictor.stored(queries)), _Asked(without, predictor.stored(without)), told
