"""The HTTP service: the answers of Python, errors as problems, what waits together, and hostile requests."""

from __future__ import annotations

import importlib
import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nngpt_ext import Client, PredictionStore, Predictor, RunResult, UserError
from nngpt_ext.errors import for_request, for_shell
from nngpt_ext.serve.batcher import Batcher
from nngpt_ext.serve.deployment import Deployment
from nngpt_ext.serve.guard import MOST
from tests import models_made
from tests.serve.conftest import Running, served

CODE = models_made.sources()["AlexNet"]
VGG = models_made.sources()["VGG"]
JSON = {"Content-Type": "application/json"}


def post(server: Running, path: str, body: object, **headers: str) -> httpx.Response:
    content = body if isinstance(body, (bytes, str)) else json.dumps(body)
    return httpx.post(server.url + path, content=content, headers=JSON | headers, timeout=60)


def problem(response: httpx.Response, status: int) -> str:
    assert (response.status_code, response.headers["content-type"]) == (status, "application/problem+json")
    assert response.json().keys() == {"type", "title", "status", "detail"}
    assert response.json()["status"] == status
    assert response.json()["detail"].isprintable()
    return str(response.json()["detail"])


def test_the_answers_are_those_of_python(run: RunResult, client: Client) -> None:
    predictor = Predictor.from_run(run.output_dir)
    here, there = predictor.compare(CODE, "svhn", "mnist"), client.compare(CODE, "svhn", "mnist")
    assert there.log_odds == pytest.approx(here.log_odds, abs=1e-9)
    assert replace(there, log_odds=here.log_odds, probability=here.probability) == here
    ours, found = (
        predictor.rank(VGG, ["svhn", "mnist", "cifar-10"], nn="VGG"),
        client.rank(VGG, ["svhn", "mnist", "cifar-10"], nn="VGG"),
    )
    assert found.datasets == ours.datasets
    assert found.scores == pytest.approx(ours.scores, abs=1e-9)
    assert found.comparisons[0].nn == "VGG"
    assert asdict(found).keys() == asdict(ours).keys()


def test_an_explained_answer_is_the_same_answer(run: RunResult, client: Client) -> None:
    predictor = Predictor.from_run(run.output_dir)
    found, told = client.compare_explained(CODE, "mnist", "svhn")
    assert found == client.compare(CODE, "mnist", "svhn")
    assert told.prior is not None
    assert told.prior.log_odds == pytest.approx(predictor.prior("mnist", "svhn").log_odds, abs=1e-9)
    assert told.threshold == predictor.threshold
    basis = predictor.basis(CODE, ["mnist", "svhn"])
    assert basis is not None
    assert (told.basis, told.basis_lines) == (json.loads(json.dumps(asdict(basis))), tuple(basis.lines()))
    ranking, of_all = client.rank_explained(VGG)
    assert ranking == client.rank(VGG)
    assert (of_all.prior, len(of_all.basis_lines)) == (None, 1)


def test_many_networks_as_they_are_ready(client: Client) -> None:
    networks = [{"nn_code": CODE}, {"nn_code": "def ("}, {"nn_code": VGG, "nn": "VGG"}]
    found = {one.number: one for one in client.score(networks, ["mnist", "svhn"])}
    assert sorted(found) == [0, 1, 2]
    assert found[1].error == "the network's source is not Python (line 1: invalid syntax)"
    assert found[0].ranking == client.rank(CODE, ["mnist", "svhn"])
    assert found[2].ranking is not None
    assert found[2].ranking.nn == "VGG"


def test_adapters_say_what_they_need_and_how_they_were_tested(run: RunResult, client: Client) -> None:
    (one,) = client.adapters()
    assert (one["name"], one["prompt"], one["needs"]) == ("demo", "code_only", [])
    assert one["datasets"] == Predictor.from_run(run.output_dir).datasets
    assert one["tested"]["accuracy"]["n"] == one["tested"]["n_test_pairs"]
    assert one["tested"]["split"] == "by_network"


def test_predictions_of_the_store(server: Running, client: Client) -> None:
    client.compare(CODE, "mnist", "svhn", nn="stored here")
    rows = httpx.get(server.url + "/v1/predictions", params={"nn": "stored here", "limit": 5}).json()
    assert [(row["dataset_1"], row["dataset_2"]) for row in rows] == [("mnist", "svhn")]
    store = server.service.deployment.store
    assert store is not None
    assert rows[0]["log_odds"] == pytest.approx(store.query(nn="stored here")["log_odds"][0], abs=1e-9)
    assert "min_confidence" in problem(httpx.get(server.url + "/v1/predictions?min_confidence=2"), 422)
    assert "did you mean 'mnist'" in problem(httpx.get(server.url + "/v1/predictions?dataset=mnits"), 422)


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        ("{bad", 400, "the request is not JSON"),
        ("[" * 100_000, 400, "the request is not JSON (too deeply nested)"),
        (b"\xff", 400, "the request is not UTF-8 (byte 0); save it as UTF-8"),
        ('{"a": ' + "1" * 5_000 + "}", 400, "the request is not JSON (a whole number has too many digits)"),
        ({"nn_code": CODE, "dataset_1": "mnist"}, 422, "dataset_2: field required"),
        ({"nn_code": CODE, "dataset_1": "mnist", "dataset2": "svhn"}, 422, "did you mean 'dataset_2'?"),
        ({"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "mnist"}, 422, "'mnist' is compared with itself"),
        ({"nn_code": CODE, "dataset_1": "MNIST", "dataset_2": "svhn"}, 422, "did you mean 'mnist'?"),
        ({"nn_code": "def (", "dataset_1": "mnist", "dataset_2": "svhn"}, 422, "is not Python"),
        ({"nn_code": "examples/alexnet.py", "dataset_1": "mnist", "dataset_2": "svhn"}, 422, "is a path"),
        ({"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "svhn", "adapter": "dem"}, 422, "did you mean 'demo'?"),
        ({"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "svhn", "structure": "measure"}, 422, "runs no code"),
        ({"nn_code": "\ud800", "dataset_1": "mnist", "dataset_2": "svhn"}, 422, ""),
        ({"nn_code": "#" * 1_000_001, "dataset_1": "mnist", "dataset_2": "svhn"}, 413, "1,000,000 characters"),
        (" " * (MOST + 1), 413, "bytes"),
    ],
)  # fmt: skip
def test_mistakes(server: Running, body: object, status: int, words: str) -> None:
    assert words in problem(post(server, "/v1/compare", body), status)


@pytest.mark.parametrize(
    ("prompt", "given"),
    [
        ("code_only", {"datasets": ["mnist"]}),
        ("code_only", {"datasets": []}),
        ("code_only", {"datasets": ["mnist", ""]}),
        ("code_only", {"datasets": ["mnist", 3]}),
        ("code_only", {"datasets": "mnist"}),
        ("code_only", {"datasets": {"mnist": 1}}),
        ("code_only", {"datasets": 3}),
        ("recipe", {"recipe": [0.1]}),
        ("recipe", {"recipe": "lr"}),
        ("normalized_accuracy", {"accuracies": {"mnist": "high"}}),
        ("normalized_accuracy", {"accuracies": {"mnist": float("nan")}}),
        ("normalized_accuracy", {"accuracies": [0.9]}),
        ("structure", {"structure": 3}),
    ],
)  # fmt: skip
def test_what_a_predictor_refuses_is_refused_in_its_words(
    asking: Callable[[str], Path], prompt: str, given: dict[str, Any]
) -> None:
    deployment = Deployment([str(asking(prompt))])
    with served(deployment) as server, Client(server.url) as client, pytest.raises(UserError) as remote:
        client.rank(CODE, **given)
    with for_request(), pytest.raises(UserError) as local:
        deployment.of(None).rank(CODE, **given)
    assert str(remote.value) == str(local.value)


def test_a_name_that_is_far_too_long(server: Running) -> None:
    pair = {"nn_code": CODE, "dataset_1": "a " * 50_000, "dataset_2": "svhn"}
    words = "the request: dataset_1: a dataset's name has at most 200 characters, not 100,000"
    assert words in problem(post(server, "/v1/compare", pair), 422)
    assert "not 1,000" in problem(post(server, "/v1/rank", {"nn_code": CODE, "datasets": ["mnist"] * 1_000}), 422)


def test_far_too_many_keys_are_refused_at_once(server: Running) -> None:
    many = {f"key {i}": 1 for i in range(20_000)}
    pair = {"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "svhn"}
    assert problem(post(server, "/v1/compare", pair | many), 422) == (
        "the request: has 20,003 keys; known: nn_code, nn, recipe, accuracies, structure, evidence, dataset_1, "
        "dataset_2, adapter, explain"
    )
    some = {f"key {i}": 1 for i in range(30)}
    said = problem(post(server, "/v1/score", {"networks": [{"nn_code": CODE} | some] * 100}), 422)
    assert said.startswith("the request, network 0: unknown key 'key 0'; known: nn_code, nn, recipe, ")
    assert len(said) < 3_000


def test_what_is_counted_does_not_grow_with_what_is_asked(server: Running) -> None:
    before = len(httpx.get(f"{server.url}/metrics").text.splitlines())
    for i in range(20):
        for headers in (JSON, {"Content-Type": "text/plain"}):  # refused by the router, and before it
            assert httpx.post(f"{server.url}/v1/x{i}", content="{}", headers=headers).status_code in (404, 415)
    after = httpx.get(f"{server.url}/metrics").text
    assert "/v1/x" not in after
    assert len(after.splitlines()) < before + 60  # a histogram for each new status, of other paths together


def test_a_condition_that_does_not_exist(server: Running) -> None:
    said = problem(httpx.get(f"{server.url}/v1/predictions?datset=mnist"), 422)
    assert said.startswith("unknown condition 'datset' (did you mean 'dataset'?)")


def test_a_compressed_request(server: Running) -> None:
    said = problem(post(server, "/v1/compare", b"\x1f\x8b", **{"Content-Encoding": "gzip"}), 415)
    assert said == "the body must not be compressed (Content-Encoding gzip); send it as it is"


@pytest.mark.parametrize(
    ("prompt", "given", "words"),
    [
        ("recipe", {"recipe": {"lr": 10**400, "batch": 1}}, "a recipe's lr must be a number, not 1000000"),
        ("recipe", {"recipe": {"lr": ""}}, "the network on 'mnist': a recipe has no lr; its keys are lr, batch, "),
        ("recipe", {"recipe": {"lr": 0.1, "batch": 10**400}}, "a recipe's batch must be a number, not 1000000"),
        ("recipe", {"recipe": {"lr": 0.1, "transform": 10**400}}, "a recipe's transform must be text, not 1000000"),
        ("recipe_structure", {"recipe": {"lr": 0.1, "transform": 1}}, "a recipe's transform must be text, not 1"),
        (
            "recipe_structure", {"recipe": {"lr": 0.1, "transform": "norm_9999"}, "structure": {"layers": 3}},
            "the transform 'norm_9999' gives images of 9,999 pixels; at most 8,192 are measured",
        ),
        ("recipe", {}, "prompt 'recipe' needs a recipe for 'mnist': \"recipe\": {\"lr\": 0.01, \"batch\": 64, "),
        (
            "structure", {},
            "needs a structure for 'mnist': \"structure\": the numbers that nngpt-ext structure --json prints, or ",
        ),
        (
            "normalized_accuracy", {},
            "needs an accuracy for 'mnist': \"accuracies\": {\"mnist\": 0.9, \"svhn\": 0.8}",
        ),
        ("metadata", {"dataset_1": "pets"}, "for a new one give its facts: start the server with --facts pets=IMAGES,"),
    ],
)  # fmt: skip
def test_what_a_prompt_needs_is_said_in_the_requests_words(
    asking: Callable[[str], Path], prompt: str, given: dict[str, Any], words: str
) -> None:
    with for_shell(), served(Deployment([str(asking(prompt))])) as server:  # which is how the command runs it
        for more in ({}, {"explain": True}):
            pair = {"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "svhn"}
            assert words in problem(post(server, "/v1/compare", pair | given | more), 422)


def test_an_empty_request(server: Running) -> None:
    assert problem(post(server, "/v1/compare", b""), 400) == "the request is empty; it must be JSON"


def test_a_source_of_other_letters_than_ascii(server: Running) -> None:
    source = CODE + "# " + "é" * 600_000
    assert Client(server.url).compare(source, "mnist", "svhn").winner in ("mnist", "svhn")


def test_other_places_and_methods(server: Running) -> None:
    said = problem(httpx.get(server.url + "/v1/compares"), 404)
    assert said.startswith("unknown path '/v1/compares' (did you mean '/v1/compare'?); known: /, /healthz, /metrics, ")
    assert "/v1/score" in said
    assert "did you mean '/v1/rank'" in problem(post(server, "/v1/rank/", {"nn_code": CODE}), 404)
    for path, method, allowed in (("/v1/compare", "GET", "POST"), ("/", "DELETE", "GET, HEAD, POST")):
        refused = httpx.request(method, server.url + path)
        assert problem(refused, 405) == f"{path} takes {allowed}, not '{method}'"
        assert refused.headers["Allow"] == allowed
    assert httpx.get(server.url + "/healthz").json()["status"] == "ok"


def test_head_is_get_without_a_body(server: Running) -> None:
    with httpx.Client() as client:  # on one connection: a body would be read as the next answer
        for path in ("/healthz", "/", "/v1/adapters", "/healthz"):
            found = client.head(server.url + path)
            assert (found.status_code, found.content) == (200, b"")
            assert int(found.headers["Content-Length"]) > 0


def test_a_key_that_is_there_twice(server: Running) -> None:
    body = json.dumps({"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "svhn"})
    twice = body[:-1] + ', "dataset_1": "cifar-10"}'
    for padded in (twice, twice + " " * 100_000):  # the long one is parsed in a thread
        words = "the request is not JSON (the key 'dataset_1' stands there 2 times)"
        assert problem(post(server, "/v1/compare", padded), 400) == words
    inside = body[:-1] + ', "recipe": {"lr": 1, "lr": 2}}'
    assert "the key 'lr' stands there 2 times" in problem(post(server, "/v1/compare", inside), 400)


def test_a_page_elsewhere_gets_nothing(server: Running) -> None:
    question = {"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "svhn"}
    assert "evil.test" in problem(post(server, "/v1/compare", question, Host="evil.test"), 421)
    problem(post(server, "/v1/compare", question, Host="[::1"), 421)
    problem(post(server, "/v1/compare", question, Origin="http://["), 403)
    assert "origin" in problem(post(server, "/v1/compare", question, Origin="http://evil.test"), 403)
    assert "application/json" in problem(post(server, "/v1/compare", question, **{"Content-Type": "text/plain"}), 415)
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    problem(httpx.post(server.url, content="nn_code=x", headers=form), 403)
    problem(httpx.post(server.url, content="nn_code=x", headers=form | {"Origin": "null"}), 403)


def test_a_token(deployment: Deployment) -> None:
    with served(deployment, "a-token-of-this-test") as server:
        for value in (b"", b"Bearer another", "Bearer ü".encode()):
            problem(httpx.get(server.url + "/v1/adapters", headers=[(b"Authorization", value)]), 401)
        assert httpx.get(server.url + "/healthz").status_code == 200
        with pytest.raises(UserError, match="the token is missing or wrong"):
            Client(server.url).adapters()
        assert len(Client(server.url, token="a-token-of-this-test").adapters()) == 1
        for scheme, status in (("bearer", 200), ("BEARER ", 200), ("Basic", 401), ("Token", 401)):
            headers = {"Authorization": f"{scheme} a-token-of-this-test"}
            assert httpx.get(server.url + "/v1/adapters", headers=headers).status_code == status


def test_what_waits_is_computed_together_and_once(run: RunResult) -> None:
    """32 clients: rows are shared, and a network that two ask about at once is computed once, without a store."""
    deployment = Deployment([str(run.output_dir)])
    deployment.load()
    name = run.output_dir.name
    with served(deployment) as server, Client(server.url) as client:
        batcher = server.service.batcher
        assert batcher is not None
        go = threading.Event()
        batcher.between(go.wait)  # holds the thread until all have asked
        with ThreadPoolExecutor(32) as pool:
            asked = [pool.submit(client.rank, code) for code in (CODE, VGG) * 16]
            pairs = len(deployment.predictors[name].datasets) * (len(deployment.predictors[name].datasets) - 1) // 2
            while batcher.depth < 32 * pairs:
                time.sleep(0.01)
            go.set()
            found = [one.result() for one in asked]
        assert all(one == found[i % 2] for i, one in enumerate(found))
        text = httpx.get(server.url + "/metrics").text
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        assert float(lines["nngpt_ext_batch_questions_count"]) <= 4
        assert float(lines['nngpt_ext_questions_total{source="computed"}']) == 32 * pairs
        assert float(lines["nngpt_ext_waiting_questions"]) == 0
        assert len(batcher._recent[deployment.predictors[name]]) == 2 * pairs


def test_a_large_request_does_not_keep_others_waiting(run: RunResult) -> None:
    deployment = Deployment([str(run.output_dir)])
    deployment.load()
    ended: list[str] = []
    names = [f"set {i}" for i in range(40)]  # 780 questions about each network

    def ask(name: str, datasets: list[str] | None) -> None:
        with Client(server.url, timeout=600) as client:
            client.rank(f"{CODE}# {name}\n", datasets)
            ended.append(name)

    with served(deployment, deadline=600) as server:
        batcher = server.service.batcher
        assert batcher is not None
        go = threading.Event()
        batcher.between(go.wait)
        with ThreadPoolExecutor(4) as pool:
            for name in ("large 1", "large 2"):
                pool.submit(ask, name, names)
            while batcher.depth < 2 * 780:
                time.sleep(0.01)
            for name in ("small 1", "small 2"):
                pool.submit(ask, name, ["mnist", "svhn"])
            while batcher.depth < 2 * 780 + 2:
                time.sleep(0.01)
            go.set()
    assert set(ended[:2]) == {"small 1", "small 2"}
    assert set(ended) == {"small 1", "small 2", "large 1", "large 2"}


def test_a_task_that_waits_is_done_once() -> None:
    """Twenty signals in a second are one reading of the adapters."""
    batcher, go, done = Batcher(10), threading.Event(), list[int]()

    def task() -> None:
        done.append(1)

    batcher.between(go.wait)
    for _ in range(20):
        batcher.between(task)
    go.set()
    batcher.close()
    assert done == [1]


def test_a_full_queue_and_a_deadline(run: RunResult) -> None:
    deployment = Deployment([str(run.output_dir)])
    deployment.load()
    body = {"nn_code": CODE, "dataset_1": "mnist", "dataset_2": "svhn"}
    with served(deployment, most=1, deadline=8.0) as server:
        assert server.service.batcher is not None
        go = threading.Event()
        server.service.batcher.between(go.wait)
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(post, server, "/v1/compare", body)
            while server.service.batcher.depth < 1:
                time.sleep(0.01)
            refused = post(server, "/v1/compare", body)
            assert "too many questions" in problem(refused, 429)
            assert int(refused.headers["Retry-After"]) >= 1
            assert "no answer within 8 s" in problem(first.result(), 504)
        go.set()
        assert post(server, "/v1/compare", body).status_code == 200


@pytest.mark.slow  # a sandbox loads torch
def test_a_measurement_ends_with_its_deadline(asking: Callable[[str], Path]) -> None:
    code = "import torch.nn as nn\n\nclass Net(nn.Module):\n    def __init__(self, *_):\n        while True: pass\n"
    deployment = Deployment([str(asking("structure"))], measure=True)
    deployment.load()
    (predictor,) = deployment.predictors.values()
    asked = {"nn_code": code, "dataset_1": "mnist", "dataset_2": "svhn", "structure": "measure"}
    with served(deployment, deadline=5.0) as server:
        began = time.monotonic()
        assert "no answer within 5 s" in problem(post(server, "/v1/compare", asked), 504)
        assert time.monotonic() - began < 8
    assert time.monotonic() - began < 15  # also the server has ended
    sandbox = predictor.check._structures._catalogue._sandbox
    assert sandbox is not None
    while sandbox._process is not None and time.monotonic() - began < 20:
        time.sleep(0.1)
    assert sandbox._process is None


def test_a_client_that_goes_leaves_the_others_their_answers(server: Running, client: Client) -> None:
    body = json.dumps({"nn_code": CODE + "# gone\n"}).encode()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(server.url + "/v1/rank", content=body, headers=JSON, timeout=httpx.Timeout(5, read=0.001))
    assert client.rank(CODE + "# gone\n").nn.startswith("source-")


def test_a_reload_loses_no_request(run: RunResult, tmp_path: Path) -> None:
    deployment = Deployment([str(run.output_dir)], store=f"sqlite:///{tmp_path / 's.db'}")
    deployment.load()
    (name,) = deployment.predictors
    before = deployment.predictors[name]
    with served(deployment) as server, Client(server.url) as client, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(client.compare, f"{CODE}# {i}\n", "mnist", "svhn") for i in range(20)]
        server.service.reload()
        assert len({one.result().model for one in asked}) == 1
        assert deployment.predictors[name] is before  # nothing changed
        deployment._make = lambda folder: (_ for _ in ()).throw(UserError("damaged"))  # type: ignore[assignment]
        server.service.reload()
        assert client.compare(CODE, "mnist", "svhn").winner
    assert len(PredictionStore.open(f"sqlite:///{tmp_path / 's.db'}").query()) == 21


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.just(CODE),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
_KEYS = (
    "nn_code", "dataset_1", "dataset_2", "datasets", "recipe", "accuracies", "nn", "structure", "evidence", "adapter",
    "networks",
)  # fmt: skip
_ASKED = st.fixed_dictionaries({}, optional={"nn_code": st.just(CODE) | _VALUES, "dataset_1": st.just("mnist")})
_BODIES = st.tuples(_ASKED, st.dictionaries(st.sampled_from(_KEYS), _VALUES, max_size=6))


@given(path=st.sampled_from(["/v1/compare", "/v1/rank", "/v1/score"]), body=_BODIES.map(lambda two: two[0] | two[1]))
def test_hostile_json_is_never_a_fault(server: Running, path: str, body: dict[str, object]) -> None:
    response = post(server, path, body)
    if response.status_code != 200:
        assert problem(response, 422)


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_hostile_bytes_are_never_a_fault(server: Running, body: bytes) -> None:
    problem(post(server, "/v1/compare", body), 400 if post(server, "/v1/compare", body).status_code == 400 else 422)


def test_the_schema_says_what_errors_lines_and_the_token_are(server: Running, deployment: Deployment) -> None:
    found = httpx.get(f"{server.url}/openapi.json").json()
    for path, operations in found["paths"].items():
        for one in operations.values():
            kinds = {int(status): [*answer["content"]] for status, answer in one["responses"].items()}
            errors = {kind for status, known in kinds.items() if status >= 400 for kind in known}
            assert errors == {"application/problem+json"}
            assert {400, 401, 403, 413, 415, 422, 429, 503, 504} <= kinds.keys()
            assert kinds[200] == {"/v1/score": ["application/x-ndjson"], "/metrics": ["text/plain"]}.get(
                path, ["application/json"]
            )
    assert found["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert "security" not in found  # this server has no token
    with served(deployment, "a-token-of-this-test") as other:
        bearer = {"Authorization": "Bearer a-token-of-this-test"}
        with_token = httpx.get(f"{other.url}/openapi.json", headers=bearer).json()
    assert with_token["security"] == [{"token": []}]
    assert with_token["paths"]["/healthz"]["get"]["security"] == []


@pytest.mark.slow
def test_the_schema_holds(server: Running) -> None:
    """What schemathesis makes of the schema, valid and invalid, is answered, and as the schema says."""
    schemathesis = pytest.importorskip("schemathesis")
    conforms = importlib.import_module("schemathesis.specs.openapi.checks").response_schema_conformance
    checks = [schemathesis.checks.not_a_server_error, conforms]
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) == 7
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(suppress_health_check=list(HealthCheck))
        def holds(case: Any) -> None:
            case.call_and_validate(checks=checks)

        holds()
