"""The HTTP service: questions to adapters as JSON, and a page for people."""

from __future__ import annotations

import asyncio
import hmac
import inspect
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from urllib.parse import parse_qs

import anyio
from fastapi import FastAPI, Request, Response
from fastapi import Query as Param
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from pydantic import BaseModel, TypeAdapter
from starlette.exceptions import HTTPException

from nngpt_ext.client import Scored
from nngpt_ext.errors import UserError, unknown
from nngpt_ext.io import parse_mapping
from nngpt_ext.networks.source import LIMIT
from nngpt_ext.predict.answers import Comparison, Ranking, ranking_of
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.predict.question import CheckedQuery, Query
from nngpt_ext.prompts.structures import MEASURE
from nngpt_ext.serve.batcher import Batcher, Busy
from nngpt_ext.serve.deployment import NO_STORE, Deployment
from nngpt_ext.serve.guard import HEALTH, PAGE, Guard, problem
from nngpt_ext.serve.requests import MOST_ROWS, CompareRequest, Network, Problem, RankRequest, ScoreRequest, Served
from nngpt_ext.settings import build_config, faults, known_keys
from nngpt_ext.version import __version__
from nngpt_ext.views.faces import filled

_AT_ONCE = 8  # networks of one /v1/score that are checked or wait
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in {
        400: "Malformed JSON", 401: "No token", 403: "Another origin", 413: "Too large", 415: "Not JSON",
        421: "Another host", 422: "Invalid", 429: "Busy: see Retry-After", 504: "No answer within the deadline",
    }.items()
}  # fmt: skip
_REQUESTS: dict[str, type[BaseModel]] = {
    "/v1/compare": CompareRequest, "/v1/rank": RankRequest, "/v1/score": ScoreRequest
}  # fmt: skip
_PATHS = (*_REQUESTS, "/v1/adapters", "/v1/predictions", PAGE, HEALTH, "/metrics", "/openapi.json")
_FIELDS = ("recipe", "accuracies", "evidence")  # of the page's form: JSON
_comparison, _ranking, _scored = TypeAdapter(Comparison), TypeAdapter(Ranking), TypeAdapter(Scored)


class Metrics:
    """What is counted, in the words of Prometheus."""

    def __init__(self, waiting: Callable[[], int]) -> None:
        self.registry = registry = CollectorRegistry()
        self._seconds = Histogram("nngpt_ext_request_seconds", "Requests", ["path", "status"], registry=registry)
        self._questions = Counter("nngpt_ext_questions", "Answered questions", ["source"], registry=registry)
        sizes = (1, 4, 16, 64, 256, 1024)
        self._batches = Histogram("nngpt_ext_batch_questions", "Together", registry=registry, buckets=sizes)
        Gauge("nngpt_ext_waiting_questions", "Waiting now", registry=registry).set_function(waiting)

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
        self.metrics = Metrics(lambda: self.batcher.depth if self.batcher else 0)
        self.checking = anyio.CapacityLimiter(2)

    @asynccontextmanager
    async def running(self, _: object) -> AsyncIterator[None]:
        """Until the block ends, questions are computed; then those that wait are answered."""
        self.batcher = Batcher(self._most, self.metrics.batch)
        try:
            yield
        finally:
            await asyncio.to_thread(self.batcher.close)

    def reload(self) -> None:
        """Read the adapters again, between two questions."""
        if self.batcher is not None:
            self.batcher.between(self.deployment.reload)

    async def compare(self, given: CompareRequest) -> Comparison:
        """The answer to a request."""
        predictor = self.deployment.of(given.adapter)
        (found,) = await self._within(predictor, given, lambda: [(given.dataset_1, given.dataset_2)])
        return found

    async def rank(self, given: Network, datasets: Sequence[str] | None, adapter: str | None) -> Ranking:
        """The answer about a network."""
        predictor, names = self.deployment.of(adapter), list[str]()

        def pairs() -> list[tuple[str, str]]:
            names.extend(predictor.check_datasets(datasets))
            return list(itertools.combinations(names, 2))

        found = await self._within(predictor, given, pairs)
        return ranking_of(names, tuple(found))

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

    async def _within(
        self, predictor: Predictor, given: Network, pairs: Callable[[], Sequence[tuple[str, str]]]
    ) -> list[Comparison]:
        return await asyncio.wait_for(self._answers(predictor, given, pairs), self.deadline)

    async def _answers(
        self, predictor: Predictor, given: Network, pairs: Callable[[], Sequence[tuple[str, str]]]
    ) -> list[Comparison]:
        assert self.batcher is not None
        self.deployment.check_structure(given.structure)

        def check() -> tuple[list[CheckedQuery], list[Comparison | None]]:
            queries = [predictor.check(Query(given.nn_code, a, b, **given.given())) for a, b in pairs()]
            return queries, predictor.stored(queries)

        queries, found = await anyio.to_thread.run_sync(check, limiter=self.checking)
        missing = [query for query, one in zip(queries, found, strict=True) if one is None]
        self.metrics.stored(len(queries) - len(missing))
        new = iter(await self.batcher.ask(predictor, missing) if missing else ())
        return [next(new) if one is None else one for one in found]


def make_app(service: Service, token: str | None = None, *, loopback: bool = True) -> Guard:
    """The application of a service, behind its guard.

    Args:
        service: answers the questions.
        token: see `Guard`.
        loopback: see `Guard`.
    """
    app = FastAPI(
        title="nngpt_ext", version=__version__, lifespan=service.running, docs_url=None, redoc_url=None,
        description="On which dataset will this neural network do better?", responses=_ERRORS,
    )  # fmt: skip
    deployment = service.deployment

    @app.post("/v1/compare", response_model=Comparison)
    async def compare(given: CompareRequest) -> Response:
        """On which of two datasets a network does better."""
        return _json(_comparison.dump_json(await service.compare(given)))

    @app.post("/v1/rank", response_model=Ranking)
    async def rank(given: RankRequest) -> Response:
        """Rank datasets by how well a network does on them."""
        return _json(_ranking.dump_json(await service.rank(given, given.datasets, given.adapter)))

    @app.post("/v1/score", response_model=Scored)
    async def score(given: ScoreRequest) -> Response:
        """Rank datasets for many networks: a line of JSON for each, as it is ready."""
        deployment.of(given.adapter)
        return StreamingResponse(service.score(given), media_type="application/x-ndjson")

    @app.get("/v1/adapters")
    async def adapters() -> list[Served]:
        """The adapters, what a question to each needs, and how well it was tested."""
        return deployment.served()

    @app.get("/v1/predictions")
    def predictions(
        request: Request, nn: str | None = None, dataset: str | None = None, base_model: str | None = None,
        adapter_hash: str | None = None, prompt: str | None = None,
        min_confidence: Annotated[float | None, Param(ge=0, le=1)] = None, since: datetime | None = None,
        until: datetime | None = None, limit: Annotated[int, Param(ge=1, le=MOST_ROWS)] = 1_000,
    ) -> Response:  # fmt: skip
        """Stored predictions that meet all conditions: the newest, at most `limit`."""
        for name in set(request.query_params) - conditions:
            raise unknown("condition", name, conditions)
        found = deployment.predictions(
            nn=nn, dataset=dataset, base_model=base_model, adapter_hash=adapter_hash, prompt=prompt,
            min_confidence=min_confidence, since=since, until=until, limit=limit,
        )  # fmt: skip
        if found is None:
            raise HTTPException(404, NO_STORE)
        return _json(found.encode())

    conditions = set(inspect.signature(predictions).parameters) - {"request"}

    @app.get(HEALTH)
    async def healthz() -> dict[str, str]:
        """Whether the server answers."""
        return {"status": "ok", "version": __version__}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Counts for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.get(PAGE, include_in_schema=False)
    async def page() -> HTMLResponse:
        return _page(service, {}, token is not None)

    @app.post(PAGE, include_in_schema=False)
    async def answered(request: Request) -> HTMLResponse:
        form = {name: one[0] for name, one in parse_qs((await request.body()).decode(errors="replace")).items()}
        if token is not None and not hmac.compare_digest(form.get("token", "").encode(), token.encode()):
            return _page(service, form, True, error="The token is missing or wrong.", status=401)
        try:
            own = {name: parse_mapping(form[name], name) for name in _FIELDS if form.get(name, "").strip()}
            code, predictor = form.get("nn_code", "").replace("\r\n", "\n"), deployment.of(form.get("adapter"))
            structure = MEASURE if deployment.measure and "structure" in predictor.needs else None
            datasets = form.get("datasets", "").replace(",", " ").split() or None
            given = build_config(Network, own | {"nn_code": code, "structure": structure}, what="the question")
            found = await service.rank(given, datasets, form.get("adapter"))
            rests = partial(predictor.basis, code, datasets, **given.given())
            basis = await anyio.to_thread.run_sync(rests, limiter=service.checking)
        except (UserError, Busy, TimeoutError, asyncio.TimeoutError) as error:
            return _page(service, form, token is not None, error=str(error) or service.late, status=422)
        return _page(service, form, token is not None, found=found, basis=basis.lines() if basis else [])

    @app.exception_handler(UserError)
    async def mistaken(_: Request, error: Exception) -> Response:
        return problem(422, str(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        errors = [{**one, "loc": one["loc"][1:]} for one in error.errors()]
        if any(one["type"] == "json_invalid" for one in errors):
            return problem(400, f"the request is not JSON: {errors[0]['ctx']['error']}")
        if any(one["type"] == "missing" and not one["loc"] for one in errors):
            return problem(400, "the request is empty; it must be JSON")
        if any(one["type"] == "string_too_long" and one["loc"][-1] == "nn_code" for one in errors):
            return problem(413, f"a network's source may have {LIMIT:,} characters")
        model: type[BaseModel] | None = _REQUESTS.get(request.url.path)
        inside = [one for one in errors if one["loc"][:1] == ("networks",) and len(one["loc"]) > 2]
        if inside and len(inside) == len(errors):  # those of the first network that has any are told
            number = inside[0]["loc"][1]
            own = [{**one, "loc": one["loc"][2:]} for one in inside if one["loc"][1] == number]
            return problem(422, f"the request, network {number}: {faults(own, known_keys(Network))}")
        return problem(422, f"the request: {faults(errors, known_keys(model) if model else [])}")

    @app.exception_handler(HTTPException)
    async def failed(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), error.headers)

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> Response:
        return problem(429, str(error), {"Retry-After": str(error.seconds)})

    async def late(_: Request, error: Exception) -> Response:
        return problem(504, service.late)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return problem(500, f"a fault of the server ({type(error).__name__}); its log says more")

    app.add_exception_handler(TimeoutError, late)
    app.add_exception_handler(asyncio.TimeoutError, late)  # another one in Python 3.10
    return Guard(app, token, loopback=loopback, told=service.metrics.request)


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _page(
    service: Service, form: dict[str, str], token: bool, *, found: Ranking | None = None, basis: Sequence[str] = (),
    error: str | None = None, status: int = 200,
) -> HTMLResponse:  # fmt: skip
    served = service.deployment.served()
    needs = [name for name in _FIELDS if any(name in one.needs for one in served)]
    text = filled(
        "views/templates/ask.html.jinja", form=form, served=served, needs=needs, token=token, found=found, basis=basis,
        error=error,
    )  # fmt: skip
    return HTMLResponse(text, status)
