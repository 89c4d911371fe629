"""The HTTP service: questions to adapters as JSON, and a page for people."""

from __future__ import annotations

import asyncio
import hmac
import inspect
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi import Query as Param
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, TypeAdapter
from starlette.exceptions import HTTPException

from nngpt_ext.client import ExplainedComparison, ExplainedRanking, Scored
from nngpt_ext.errors import UserError, reason, unknown
from nngpt_ext.io import parse_mapping
from nngpt_ext.networks.source import LIMIT
from nngpt_ext.predict.answers import Comparison, Ranking
from nngpt_ext.predict.database import StoreFault
from nngpt_ext.prompts.structures import MEASURE
from nngpt_ext.serve.batcher import Busy
from nngpt_ext.serve.deployment import NO_STORE
from nngpt_ext.serve.guard import HEALTH, PAGE, Guard, problem
from nngpt_ext.serve.patient_store import REST
from nngpt_ext.serve.requests import MOST_ROWS, CompareRequest, Network, Problem, RankRequest, ScoreRequest, Served
from nngpt_ext.serve.service import ASKED, Service
from nngpt_ext.settings import build_config, faults, known_keys
from nngpt_ext.version import __version__
from nngpt_ext.views.faces import filled

_PROBLEM, _LINES = "application/problem+json", "application/x-ndjson"
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": words}
    for status, words in {
        400: "Malformed JSON", 401: "No token", 403: "Another origin", 404: "There is no such place, or no store",
        405: "Another method", 408: "It did not arrive in time", 413: "Too large", 415: "Not JSON", 421: "Another host",
        422: "Invalid", 429: "Busy: see Retry-After", 500: "A fault of the server",
        503: "Too many connections, or no store for now: see Retry-After", 504: "No answer within the deadline",
    }.items()
}  # fmt: skip
_REQUESTS: dict[str, type[BaseModel]] = dict(zip(ASKED, (CompareRequest, RankRequest, ScoreRequest), strict=True))
_FIELDS = ("recipe", "accuracies", "evidence")  # of the page's form: JSON
_OPEN = (HEALTH, PAGE)  # without a token
_answers: dict[type, TypeAdapter[Any]] = {
    one: TypeAdapter(one) for one in (Comparison, Ranking, ExplainedComparison, ExplainedRanking)
}


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

    @app.post("/v1/compare", response_model=ExplainedComparison)
    async def compare(given: CompareRequest) -> Response:
        """On which of two datasets a network does better."""
        return _answer(await service.compare(given))

    @app.post("/v1/rank", response_model=ExplainedRanking)
    async def rank(given: RankRequest) -> Response:
        """Rank datasets by how well a network does on them."""
        return _answer(await service.rank(given, given.datasets, given.adapter, given.explain))

    @app.post("/v1/score", response_model=Scored)
    async def score(given: ScoreRequest) -> Response:
        """Rank datasets for many networks: a line of JSON for each, as it is ready."""
        deployment.of(given.adapter)
        return StreamingResponse(service.score(given), media_type=_LINES)

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
            found = await service.rank(given, datasets, form.get("adapter"), explain=True)
        except (UserError, Busy, TimeoutError, asyncio.TimeoutError) as error:
            return _page(service, form, token is not None, error=str(error) or service.late, status=422)
        return _page(service, form, token is not None, found=found)

    @app.exception_handler(StoreFault)
    async def without_store(_: Request, error: StoreFault) -> Response:
        again = f"{REST:.0f}"
        detail = f"the server's store cannot be used now ({error.why}); ask again in {again} s"
        return problem(503, detail, {"Retry-After": again})

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
        if error.status_code == 400 and error.__cause__ is not None:  # FastAPI does not say what its parser said
            return problem(400, f"the request cannot be read as JSON: {reason(error.__cause__)}")
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
    app.openapi = lambda: _described(app, token)  # type: ignore[method-assign]
    return Guard(app, token, loopback=loopback, told=service.metrics.request)


def _described(app: FastAPI, token: str | None) -> dict[str, Any]:
    """The schema of OpenAPI, with what FastAPI does not know of the answers: their media types, and the token."""
    if app.openapi_schema is None:
        found = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path, operations in found["paths"].items():
            for one in operations.values():
                for status, response in one["responses"].items():
                    kind = _PROBLEM if int(status) >= 400 else _LINES if path == ASKED[-1] else None
                    if kind is not None:
                        (response["content"],) = ({kind: schema} for schema in response["content"].values())
                if token is not None and path in _OPEN:
                    one["security"] = []
        bearer = {"type": "http", "scheme": "bearer", "description": "the content of the server's --token-file"}
        found["components"]["securitySchemes"] = {"token": bearer}
        if token is not None:
            found["security"] = [{"token": []}]
        app.openapi_schema = found
    return app.openapi_schema


def _answer(found: Comparison | Ranking) -> Response:
    return _json(_answers[type(found)].dump_json(found))


def _json(content: bytes) -> Response:
    return Response(content, media_type="application/json")


def _page(
    service: Service, form: dict[str, str], token: bool, *, found: Ranking | None = None, error: str | None = None,
    status: int = 200,
) -> HTMLResponse:  # fmt: skip
    served = service.deployment.served()
    needs = [name for name in _FIELDS if any(name in one.needs for one in served)]
    told = found.explanation if isinstance(found, ExplainedRanking) else None
    text = filled(
        "views/templates/ask.html.jinja", form=form, served=served, needs=needs, token=token, found=found, error=error,
        basis=told.basis_lines if told else (), warnings=told.warnings if told else (),
    )  # fmt: skip
    return HTMLResponse(text, status)
