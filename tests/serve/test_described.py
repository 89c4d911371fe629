"""The service's description: its examples are asked and answered."""

from __future__ import annotations

import json
from typing import Any

import httpx
import jsonschema
import pytest

from nngpt_ext.predict.store import COLUMNS
from nngpt_ext.serve.requests import CompareRequest, Prediction, RankRequest, ScoreRequest
from tests.serve.conftest import Running
from tests.serve.test_app import post

REQUESTS = {"/v1/compare": CompareRequest, "/v1/rank": RankRequest, "/v1/score": ScoreRequest}


@pytest.fixture(scope="module")
def schema(server: Running) -> Any:
    return httpx.get(f"{server.url}/openapi.json").json()


def named(schema: Any, part: Any) -> Any:
    """A part of the schema, which may be a reference to another."""
    return schema["components"]["schemas"][part["$ref"].rpartition("/")[2]] if "$ref" in part else part


def examples(schema: Any, path: str) -> list[Any]:
    """Those of a request, and one that is made of its fields' examples."""
    (content,) = schema["paths"][path]["post"]["requestBody"]["content"].values()
    request = named(schema, content["schema"])
    (whole,) = request["examples"]
    of_fields = {name: one["examples"][0] for name, one in request["properties"].items() if "examples" in one}
    return [whole, whole | of_fields]


def answer(schema: Any, path: str) -> Any:
    (operation,) = schema["paths"][path].values()
    (content,) = operation["responses"]["200"]["content"].values()
    return content


@pytest.mark.parametrize("path", REQUESTS)
def test_each_requests_example_is_answered_as_described(schema: Any, server: Running, path: str) -> None:
    for example in examples(schema, path):
        found = post(server, path, example)
        assert found.status_code == 200
        lines = [json.loads(line) for line in found.text.splitlines()]
        for one in lines:
            assert one.get("error") is None
            described = answer(schema, path)["example"]
            assert one.keys() | {"explanation"} == described.keys() | {"explanation"}
            if path == "/v1/score":
                assert one["ranking"].keys() == described["ranking"].keys()


def test_the_examples_source_is_a_network(schema: Any, server: Running) -> None:
    found = post(server, "/v1/compare", examples(schema, "/v1/compare")[0]).json()
    assert found["is_module"]


@pytest.mark.parametrize("path", [*REQUESTS, "/v1/predictions", "/v1/adapters", "/healthz"])
def test_each_answers_example_is_of_its_schema(schema: Any, path: str) -> None:
    content = answer(schema, path)
    assert content["schema"] != {}
    jsonschema.validate(content["example"], content["schema"] | {"components": schema["components"]})


def test_predictions_are_as_described(schema: Any, server: Running) -> None:
    assert tuple(Prediction.model_fields) == COLUMNS
    post(server, "/v1/compare", examples(schema, "/v1/compare")[0])
    rows = httpx.get(f"{server.url}/v1/predictions").json()
    assert rows
    content = answer(schema, "/v1/predictions")
    jsonschema.validate(rows, content["schema"] | {"components": schema["components"]})
    assert content["example"][0].keys() == rows[0].keys()
