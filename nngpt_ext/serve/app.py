"""The HTTP service: questions to adapters as JSON, and a page for people."""

from __future__ import annotations

import asyncio
import hmac
import inspect
from collections.abc import Callable, Collection, Coroutine
from datetime import datetime
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import FastAPI, Request, Response
from fastapi import Query as Param
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, PlainTextResponse, StreamingResponse
from fastapi.routing import APIRoute
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, TypeAdapter
from starlette.exceptions import HTTPException
from starlette.routing import Route

from nngpt_ext.client import ExplainedComparison, ExplainedRanking, Scored
from nngpt_ext.errors import UserError, shown, unknown
from nngpt_ext.io import parse_json, parse_mapping
from nngpt_ext.networks.source import LIMIT
from nngpt_ext.predict.answers import Comparison, Ranking
from nngpt_ext.predict.database import StoreFault
from nngpt_ext.prompts.structures import MEASURE
from nngpt_ext.serve.batcher import Busy
from nngpt_ext.serve.deployment import NO_STORE
from nngpt_ext.serve.described import ERRORS, LINES, described
from nngpt_ext.serve.guard import HEALTH, PAGE, Guard, problem
from nngpt_ext.serve.patient_store import REST
from nngpt_ext.serve.requests import (
    MOST_ROWS,
    TOO_LONG,
    CompareRequest,
    Network,
    Prediction,
    RankRequest,
    ScoreRequest,
    Served,
)  # fmt: skip
from nngpt_ext.serve.service import ASKED, Service
from nngpt_ext.settings import build_config, faults, known_keys
from nngpt_ext.version import __version__
from nngpt_ext.views.faces import filled

_REQUESTS: dict[str, type[BaseModel]] = dict(zip(ASKED, (CompareRequest, RankRequest, ScoreRequest), strict=True))
_FIELDS = ("recipe", "accuracies", "evidence")  # of the page's form: JSON
_SMALL = 1 << 16  # bytes of JSON that are parsed at once, which takes less than another thread's start
_MOST_FIELDS = 20  # of a form
_LONGEST_FIELD = 100_000  # characters of a field that is not the source
_answers: dict[type, TypeAdapter[Any]] = {
    one: TypeAdapter(one) for one in (Comparison, Ranking, ExplainedComparison, ExplainedRanking)
}


class _Request(Request):
    """A request whose body is read as the package reads JSON: a key that is there twice is refused."""

    async def json(self) -> Any:
        """See `starlette.requests.Request`."""
        body = await self.body()
        try:
            if len(body) < _SMALL:
                return parse_json(body, "the request")
            return await asyncio.to_thread(parse_json, body, "the request")
        except UserError as error:
            raise HTTPException(400, str(error)) from None


class _Route(APIRoute):
    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handled(request: Request) -> Response:
            return await handle(_Request(request.scope, request.receive))

        return handled


def make_app(
    service: Service, token: str | None = None, *, loopback: bool = True, names: Collection[str] = ()
) -> Guard:
    """The application of a service, behind its guard.

    Args:
        service: answers the questions.
        token, loopback, names: see `Guard`.
    """
    app = FastAPI(
        title="nngpt_ext", version=__version__, lifespan=service.running, docs_url=None, redoc_url=None,
        description="On which dataset will this neural network do better?", responses=ERRORS, redirect_slashes=False,
    )  # fmt: skip
    app.router.route_class = _Route
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
        return StreamingResponse(service.score(given), media_type=LINES)

    @app.get("/v1/adapters")
    async def adapters() -> list[Served]:
        """The adapters, what a question to each needs, and how well it was tested."""
        return deployment.served()

    @app.get("/v1/predictions", response_model=list[Prediction])
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
        form: dict[str, str] = {}
        try:
            form = await asyncio.to_thread(_form, await request.body())
            pasted = form.pop("token", "").strip()
            _check_lengths(form)  # before any answer repeats them
            if token is not None and not hmac.compare_digest(pasted.encode(), token.encode()):
                return _page(service, form, True, error="The token is missing or wrong.", status=401)
            own: dict[str, Any] = {
                name: parse_mapping(form[name], name) for name in _FIELDS if form.get(name, "").strip()
            }
            name, datasets = form.get("adapter"), form.get("datasets", "").replace(",", " ").split() or None
            measured = deployment.measure and "structure" in deployment.of(name).needs
            own |= {"nn_code": form.get("nn_code", ""), "structure": MEASURE if measured else None}
            given = build_config(RankRequest, own | {"datasets": datasets, "adapter": name}, what="the question")
            found = await service.rank(given, given.datasets, name, explain=True)
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
        if any(one["type"] == "missing" and not one["loc"] for one in errors):
            return problem(400, "the request is empty; it must be JSON")
        if any(one["type"] == "string_too_long" and one["loc"][-1] == "nn_code" for one in errors):
            return problem(413, TOO_LONG)
        model: type[BaseModel] | None = _REQUESTS.get(request.url.path)
        inside = [one for one in errors if one["loc"][:1] == ("networks",) and len(one["loc"]) > 2]
        if inside and len(inside) == len(errors):  # those of the first network that has any are told
            number = inside[0]["loc"][1]
            own = [{**one, "loc": one["loc"][2:]} for one in inside if one["loc"][1] == number]
            return problem(422, f"the request, network {number}: {faults(own, known_keys(Network))}")
        return problem(422, f"the request: {faults(errors, known_keys(model) if model else [])}")

    @app.exception_handler(HTTPException)
    async def failed(request: Request, error: HTTPException) -> Response:
        path, headers = request.url.path, error.headers
        if error.status_code == 404 and path not in places:
            return problem(404, str(unknown("path", path, places)))
        if error.status_code == 405:
            allowed = ", ".join(sorted(places[path]))
            return problem(405, f"{path} takes {allowed}, not {shown(request.method)}", {"allow": allowed})
        return problem(error.status_code, str(error.detail), headers)

    @app.exception_handler(Busy)
    async def busy(_: Request, error: Busy) -> Response:
        return problem(429, str(error), {"Retry-After": str(error.seconds)})

    async def late(_: Request, error: Exception) -> Response:
        return problem(504, service.late)

    @app.exception_handler(Exception)
    async def broken(request: Request, error: Exception) -> Response:
        return problem(500, f"a fault of the server ({type(error).__name__}); its log says more")

    places: dict[str, set[str]] = {}  # and their methods; the guard takes HEAD wherever there is GET
    for one in app.routes:
        if isinstance(one, Route):
            methods = {*(one.methods or ())}
            places.setdefault(one.path, set()).update(methods, {"HEAD"} if "GET" in methods else ())
    app.add_exception_handler(TimeoutError, late)
    app.add_exception_handler(asyncio.TimeoutError, late)  # another one in Python 3.10
    app.openapi = lambda: described(app, token)  # type: ignore[method-assign]
    return Guard(app, token, loopback=loopback, names=names, told=service.metrics.request)


def _form(body: bytes) -> dict[str, str]:
    """The fields of a form.

    Raises:
        UserError: if there are too many.
    """
    try:
        found = parse_qs(body.decode(errors="replace"), max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise UserError(f"a form may have {_MOST_FIELDS} fields") from None
    return {name: one[0].replace("\r\n", "\n") for name, one in found.items()}


def _check_lengths(form: dict[str, str]) -> None:
    """Refuse fields that are too long; they are dropped, so that the answer does not repeat them.

    Raises:
        UserError: for the first.
    """
    long = [name for name, one in form.items() if len(one) > (LIMIT if name == "nn_code" else _LONGEST_FIELD)]
    for name in long:
        del form[name]
    if long:
        raise UserError(TOO_LONG if "nn_code" in long else f"{long[0]} may have {_LONGEST_FIELD:,} characters")


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
