"""The adapters as tools for agents (Model Context Protocol), by the official SDK."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import asdict
from datetime import datetime
from functools import wraps
from typing import Annotated, Any, TypeVar

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from pydantic import Field, ValidationError
from starlette.types import Receive, Scope, Send

from nngpt_ext.errors import UserError, for_request, unknown
from nngpt_ext.predict.answers import Comparison
from nngpt_ext.serve.deployment import NO_STORE, Deployment
from nngpt_ext.serve.guard import Guard, problem
from nngpt_ext.serve.requests import Accuracies, Dataset, Datasets, Evidence, Recipe, Structure
from nngpt_ext.settings import faults
from nngpt_ext.version import __version__

_WORTH = """\
An answer is worth something only if `abstain` is false. If it is true, treat the question as open; `reason` says why:
the confidence is below the level at which the adapter was right on validation, or the adapter was not trained on one of
the datasets (`unseen`): then the probability means nothing. Most dataset pairs have a usual winner, whatever the
network is: compare with `prior`, the answer without the source. Where the two agree, the source added nothing.
Accuracies are normalised by the best of any network on the dataset. Nothing is trained"""
_ASKED = """
Give the whole Python source as `nn_code`. These adapters answer; name one as `adapter` if there are several, and give
what it needs beside source and datasets (a recipe is {"lr", "batch", "momentum", "dropout", "transform"}):
"""
_PLACE = "/mcp"
F = TypeVar("F", bound=Callable[..., Any])


def _told(function: F) -> F:
    """Give the agent the line that a user would see."""

    @wraps(function)
    def called(*given: Any, **named: Any) -> Any:
        try:
            with for_request():
                return function(*given, **named)
        except UserError as error:
            raise ToolError(str(error)) from None

    return called  # type: ignore[return-value]


class _Server(MCPServer[Any]):
    """The SDK's, whose agents get one line about arguments that are wrong, and learn of those that do not exist."""

    async def list_tools(self) -> list[Any]:
        """The tools; the schema of each says that it takes no other arguments."""
        tools = await super().list_tools()
        closed = {"additionalProperties": False}
        return [one.model_copy(update={"input_schema": one.input_schema | closed}) for one in tools]

    async def call_tool(self, name: str, arguments: dict[str, Any], context: Any = None) -> Any:
        """See `MCPServer.call_tool`."""
        known = {one.name: one.input_schema["properties"] for one in await self.list_tools()}
        try:
            if name not in known:
                raise unknown("tool", name, known)
            for one in arguments:
                if one not in known[name]:
                    raise unknown(f"argument of {name}", one, known[name])
        except UserError as error:
            raise ToolError(str(error)) from None
        try:
            return await super().call_tool(name, arguments, context)
        except ToolError as error:
            if isinstance(error.__cause__, ValidationError):
                line = UserError(f"{name}: {faults(error.__cause__.errors(), [])}")
                raise ToolError(str(line)) from None
            raise


def make_tools(deployment: Deployment) -> MCPServer[Any]:
    """A server with the tools `compare`, `rank`, `prior` and `predictions`; models load with the first question."""
    known = "\n".join(
        f"- {one.name}: datasets {', '.join(one.datasets)}; needs {', '.join(one.needs) or 'nothing more'}; "
        f"{'it always abstains' if one.threshold is None else f'it answers from confidence {one.threshold:.3f}'}; "
        f"tested: {json.dumps(one.tested) if one.tested else 'unknown'}"
        for one in deployment.served()
    )
    code = "its code is run, in a sandbox, only to measure its structure" if deployment.measure else "no code is run"
    worth = f"{_WORTH} and {code}."
    server: MCPServer[Any] = _Server("nngpt_ext", version=__version__, instructions=f"{worth}{_ASKED}{known}")

    @server.tool(description=f"On which of two datasets a neural network will reach the higher accuracy.\n{worth}")
    @_told
    def compare(
        nn_code: str, dataset_1: Dataset, dataset_2: Dataset, recipe: Recipe = None,
        accuracies: Accuracies = None, structure: Structure = None, evidence: Evidence = None,
        adapter: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        given: dict[str, Any] = {"accuracies": accuracies, "structure": structure, "evidence": evidence}
        return _answer(
            deployment.asked(adapter, structure).compare(nn_code, dataset_1, dataset_2, recipe=recipe, **given)
        )

    @server.tool(description=f"Rank datasets by how well a neural network will do on them, best first.\n{worth}")
    @_told
    def rank(
        nn_code: str, datasets: Datasets = None, recipe: Recipe = None,
        accuracies: Accuracies = None, structure: Structure = None, evidence: Evidence = None,
        adapter: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        given: dict[str, Any] = {"accuracies": accuracies, "structure": structure, "evidence": evidence}
        found = deployment.asked(adapter, structure).rank(nn_code, datasets, recipe, **given)
        shown = {name: value for name, value in asdict(found).items() if name != "comparisons"}
        return shown | {"summary": found.summary, "reason": found.reason, "limits": found.limits()}

    @server.tool(
        description="What the model expects of any network on two datasets: `compare` without a source. It is no "
        "answer about a network; if `abstain` is true (the adapter was not trained on one of the datasets, `unseen`, "
        "or is not sure), it says nothing."
    )
    @_told
    def prior(
        dataset_1: Dataset, dataset_2: Dataset, recipe: Recipe = None,
        accuracies: Accuracies = None, structure: Structure = None, evidence: Evidence = None,
        adapter: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        given: dict[str, Any] = {"accuracies": accuracies, "structure": structure, "evidence": evidence}
        return _answer(deployment.asked(adapter, structure).prior(dataset_1, dataset_2, recipe=recipe, **given))

    @server.tool(
        description="Answers that were given before and are stored, the newest first: cheaper than asking again. "
        "`probability_1` is that of dataset_1, `calibrated_1` the one to use; skip rows with `abstain`."
    )
    @_told
    def predictions(
        nn: str | None = None, dataset: str | None = None,
        min_confidence: Annotated[float | None, Field(ge=0, le=1)] = None, since: datetime | None = None,
        limit: Annotated[int, Field(ge=1, le=1_000)] = 100,
    ) -> list[dict[str, Any]]:  # fmt: skip
        found = deployment.predictions(nn=nn, dataset=dataset, min_confidence=min_confidence, since=since, limit=limit)
        if found is None:
            raise UserError(NO_STORE)
        return json.loads(found)  # type: ignore[no-any-return]

    return server


def http_app(
    tools: MCPServer[Any], token: str | None = None, *, loopback: bool = True, names: Collection[str] = ()
) -> Guard:
    """The tools by streamable HTTP at `/mcp`, behind the guard, which also checks hosts and origins."""
    app = tools.streamable_http_app(
        streamable_http_path=_PLACE,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        stateless_http=True,
    )

    async def posted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] != _PLACE:
            await problem(404, str(unknown("path", scope["path"], [_PLACE])))(scope, receive, send)
        elif scope["type"] == "http" and scope["method"] != "POST":
            # The SDK would open a stream of events that never has any.
            said = f"messages are sent to {_PLACE} by POST; this server offers no stream of events and has no sessions"
            await problem(405, said, {"allow": "POST"})(scope, receive, send)
        else:
            await app(scope, receive, send)

    return Guard(posted, token, loopback=loopback, names=names)


def _answer(found: Comparison) -> dict[str, Any]:
    return asdict(found) | {"confidence": found.confidence, "reason": found.reason, "limits": found.limits()}
