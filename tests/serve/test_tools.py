"""The tools for agents, asked by the SDK's own client: in memory, by standard input and by HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from nngpt_ext import Predictor, RunResult
from nngpt_ext.serve.deployment import Deployment
from nngpt_ext.serve.server import address, listen
from nngpt_ext.serve.tools import http_app, make_tools
from tests import models_made
from tests.serve.test_app import problem

mcp = pytest.importorskip("mcp")
CODE = models_made.sources()["AlexNet"]
ASKED = {"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "svhn"}


async def asked(server: Any, tool: str, given: dict[str, Any]) -> Any:
    async with mcp.Client(server) as client:
        return await client.call_tool(tool, given)


def answer(result: Any) -> Any:
    assert not result.is_error, result.content
    return result.structured_content


def test_tools_answer_as_the_predictor_and_say_when_that_is_worth_something(
    run: RunResult, deployment: Deployment
) -> None:
    tools, predictor = make_tools(deployment), Predictor.from_run(run.output_dir)
    found = answer(asyncio.run(asked(tools, "compare", ASKED)))
    assert found["log_odds"] == pytest.approx(predictor.compare(CODE, "mnist", "svhn").log_odds, abs=1e-9)
    assert {"abstain", "reason", "confidence", "unseen"} <= found.keys()
    ranked = answer(asyncio.run(asked(tools, "rank", {"nn_code": CODE})))
    assert tuple(ranked["datasets"]) == predictor.rank(CODE).datasets
    assert "comparisons" not in ranked
    without = answer(asyncio.run(asked(tools, "prior", {"dataset_1": "mnist", "dataset_2": "svhn"})))
    assert without["nn"] == "no source"
    stored = answer(asyncio.run(asked(tools, "predictions", {"dataset": "mnist", "limit": 3})))["result"]
    assert 1 <= len(stored) <= 3

    async def listed() -> Any:
        async with mcp.Client(tools) as client:
            return (await client.list_tools()).tools

    known = {one.name: one.description for one in asyncio.run(listed())}
    assert sorted(known) == ["compare", "predictions", "prior", "rank"]
    assert all("abstain" in known[name] for name in ("compare", "rank", "predictions"))


def test_a_mistake_reaches_the_agent_as_the_user_would_see_it(deployment: Deployment) -> None:
    result = asyncio.run(asked(make_tools(deployment), "compare", ASKED | {"dataset_2": "MNIST"}))
    assert result.is_error
    assert "did you mean 'mnist'?" in result.content[0].text
    result = asyncio.run(asked(make_tools(deployment), "compare", ASKED | {"nn_code": "def ("}))
    assert "is not Python" in result.content[0].text


@pytest.mark.parametrize(
    ("tool", "given", "words"),
    [
        ("compare", {"nn_code": CODE}, "compare: dataset_1: field required; dataset_2: field required"),
        ("compare", ASKED | {"dataset_1": 3}, "a dataset's name must be printable text on one line, not 3"),
        ("compare", ASKED | {"recipe": [1]}, "the recipe for 'mnist' must be a mapping with"),
        ("compare", ASKED | {"datset": "x"}, "unknown argument of compare 'datset'; known: accuracies, adapter, "),
        ("rank", {"nn_code": CODE, "dataset": ["mnist"]}, "unknown argument of rank 'dataset' (did you mean "),
        ("predictions", {"limit": 0}, "predictions: limit: must be greater than or equal to 1 (given: 0)"),
        ("predictions", {"since": "x" * 9_000}, "predictions: since: must be a date, such as 2026-11-30"),
        ("comparison", ASKED, "unknown tool 'comparison'"),
    ],
)  # fmt: skip
def test_arguments_that_are_wrong_are_one_line(
    deployment: Deployment, tool: str, given: dict[str, Any], words: str
) -> None:
    result = asyncio.run(asked(make_tools(deployment), tool, given))
    assert result.is_error
    said = result.content[0].text
    assert words in said
    assert said.isprintable()
    assert len(said) < 1_700


@pytest.mark.parametrize("tool", ["compare", "rank", "prior"])
@pytest.mark.parametrize("structure", [None, "measure"])
def test_no_code_runs_unless_the_user_said_so(
    asking: Callable[[str], Path], tmp_path: Path, tool: str, structure: str | None
) -> None:
    trace = tmp_path / "trace"
    code = f"open({str(trace)!r}, 'w').close()\n{CODE}"
    given: dict[str, Any] = {"structure": structure} if structure else {}
    given |= {} if tool == "prior" else {"nn_code": code}
    given |= {} if tool == "rank" else {"dataset_1": "mnist", "dataset_2": "svhn"}
    tools = make_tools(Deployment([str(asking("structure"))]))
    result = asyncio.run(asked(tools, tool, given))
    assert result.is_error
    words = "this server runs no code, so it" if structure else "prompt 'structure' needs a structure for '"
    assert words in result.content[0].text
    assert not trace.exists()
    assert "and no code is run." in str(tools.instructions)


def test_structures_are_measured_if_the_user_said_so(asking: Callable[[str], Path]) -> None:
    tools = make_tools(Deployment([str(asking("structure"))], measure=True))
    assert answer(asyncio.run(asked(tools, "compare", ASKED | {"structure": "measure"})))["winner"] in ("mnist", "svhn")
    assert "its code is run, in a sandbox, only to measure its structure." in str(tools.instructions)


def test_the_schemas_say_that_there_are_no_other_arguments(deployment: Deployment) -> None:
    tools = asyncio.run(make_tools(deployment).list_tools())
    assert [one.input_schema["additionalProperties"] for one in tools] == [False] * 4


def test_by_standard_input(run: RunResult, tmp_path: Path) -> None:
    from mcp.client.stdio import StdioServerParameters, stdio_client

    words = ["-m", "nngpt_ext", "-q", "mcp", "--run", str(run.output_dir)]
    own = StdioServerParameters(command=sys.executable, args=words, env=dict(os.environ), cwd=Path(__file__).parents[2])
    found = answer(asyncio.run(asked(stdio_client(own), "compare", ASKED)))
    assert found["winner"] in ("mnist", "svhn")


def test_by_http_with_a_token(deployment: Deployment) -> None:
    from httpx2 import AsyncClient
    from mcp.client.streamable_http import streamable_http_client

    with listen("127.0.0.1", 0) as listening:
        app = http_app(make_tools(deployment), "a-token-of-this-test")
        server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        while not server.started:
            time.sleep(0.01)

        async def by(token: str) -> Any:
            async with AsyncClient(headers={"Authorization": f"Bearer {token}"}) as http:
                url = f"{address(listening)}/mcp"
                return await asked(streamable_http_client(url, http_client=http), "compare", ASKED)

        try:
            assert json.dumps(answer(asyncio.run(by("a-token-of-this-test"))))
            bearer = {"Authorization": "Bearer a-token-of-this-test", "Accept": "text/event-stream"}
            for method in ("GET", "DELETE"):  # a stream that never has an event would be waited for
                refused = httpx.request(method, f"{address(listening)}/mcp", headers=bearer, timeout=5)
                assert "this server offers no stream of events" in problem(refused, 405)
                assert refused.headers["Allow"] == "POST"
            said = problem(httpx.post(f"{address(listening)}/mcp/", json={}, headers=bearer), 404)
            assert said == "unknown path '/mcp/' (did you mean '/mcp'?); known: /mcp"
            with pytest.raises(BaseException, match=r"401|Unauthorized|unhandled"):
                asyncio.run(by("another"))
        finally:
            server.should_exit = True
            thread.join()


def test_ctrl_c_ends_it(run: RunResult) -> None:
    words = [sys.executable, "-m", "nngpt_ext", "mcp", "--run", str(run.output_dir)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}
        running.stdin.write(json.dumps(message).encode() + b"\n")
        running.stdin.flush()
        assert b"nngpt_ext" in running.stdout.readline()  # it waits for the next message
        running.send_signal(signal.SIGINT)
        assert running.wait(20) == 130
        assert b"Traceback" not in (running.stderr.read() if running.stderr else b"")
