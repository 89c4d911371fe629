"""The LangGraph node: in a real compiled graph, and without one."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypedDict

import pytest
from pydantic import BaseModel

from nngpt_ext import Predictor, RunResult
from nngpt_ext.host.agents import add_to_graph, host_object, make_state
from nngpt_ext.host.installation import Host
from nngpt_ext.host.node import FIELDS, RUN, dataset_compare_node, make_dataset_compare_node
from tests import models_made
from tests.predict.conftest import asking, older, run

__all__ = ["asking", "run"]

CODE = models_made.sources()["AlexNet"]


class State(TypedDict, total=False):
    nn_code: str
    datasets: list[str]
    dataset_ranking: list[str] | None
    predicted_best_dataset: str | None
    probability: float | None
    abstain: bool | None
    dataset_probabilities: dict[str, float] | None
    dataset_compare_error: str | None
    dataset_compare_note: str | None
    rounds: int


@pytest.fixture(autouse=True)
def no_run_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(RUN, raising=False)


def test_it_answers_as_the_predictor_does(run: RunResult) -> None:
    predictor = Predictor.from_run(run.output_dir)
    found = make_dataset_compare_node(predictor)({"nn_code": CODE})
    ranking = predictor.rank(CODE)
    assert found == {
        "dataset_ranking": list(ranking.datasets),
        "predicted_best_dataset": ranking.datasets[0],
        "probability": ranking.probability,
        "abstain": ranking.abstain,
        "dataset_probabilities": ranking.probabilities,
        "dataset_compare_error": None,
        "dataset_compare_note": " ".join(
            [*([f"abstains: {ranking.reason}."] if ranking.abstain else []), *ranking.limits()]
        ),
    }
    assert found["dataset_compare_note"].endswith("Only the first 64 of 635 tokens of the source were read.")


def test_it_says_in_the_state_that_it_abstains(run: RunResult, tmp_path: Path) -> None:
    assert run.adapter is not None
    adapter = older(shutil.copytree(run.adapter, tmp_path / "adapter"))
    calibration = json.loads((adapter / "calibration.json").read_text())
    (adapter / "calibration.json").write_text(json.dumps(calibration | {"threshold": 0.5}))
    node = make_dataset_compare_node(Predictor.from_pretrained(adapter))
    found = node({"nn_code": CODE, "datasets": ["flowers", "mnist"]})
    assert found["dataset_compare_note"].startswith("abstains: never trained on 'flowers'; ")
    assert found["abstain"] is True
    assert found["dataset_probabilities"] is None
    assert found["dataset_compare_error"] is None
    assert sorted(found["dataset_ranking"]) == ["flowers", "mnist"]
    assert found["probability"] is None
    short = {"nn_code": "class Net: pass", "datasets": ["mnist", "svhn"]}
    note = node(short)["dataset_compare_note"]
    assert note.endswith("The source defines no class derived from nn.Module, so it may be no network.")
    assert "abstains" not in note
    requirements = {"nn_code": "torch>=2.0\nnumpy\n", "datasets": ["mnist", "svhn"]}
    assert "is no network" in node(requirements)["dataset_compare_error"]
    assert node(short)["abstain"] is False
    graph = pytest.importorskip("langgraph.graph")
    built = graph.StateGraph(State)
    built.add_node("compare", node)
    built.add_edge(graph.START, "compare")
    state = built.compile().invoke({"nn_code": CODE, "datasets": ["flowers", "mnist"]})
    assert {name: state[name] for name in FIELDS} == found


def test_the_state_may_be_an_object(run: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    class Agent(BaseModel):
        nn_code: str = CODE
        datasets: list[str] = ["mnist", "svhn"]

    monkeypatch.setenv(RUN, str(run.output_dir))
    found = dataset_compare_node(Agent())
    assert sorted(found["dataset_ranking"]) == ["mnist", "svhn"]
    assert dataset_compare_node({"nn_code": CODE, "datasets": ["mnist", "svhn"]}) == found


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        ({}, "the state has no nn_code"),
        ({"nn_code": CODE}, f"no run is set: set {RUN}"),
        ({"nn_code": CODE, "dataset_compare_run": "/no/such/run"}, "no folder '/no/such/run'"),
        ({"nn_code": CODE, "dataset_compare_run": 3}, "TypeError"),
    ],
)
def test_a_failure_is_reported_in_the_state(state: dict[str, Any], reason: str) -> None:
    found = dataset_compare_node(state)
    assert set(found) == set(FIELDS)
    assert reason in found["dataset_compare_error"]
    assert found["dataset_ranking"] is found["predicted_best_dataset"] is found["probability"] is None
    assert found["dataset_compare_note"] is found["abstain"] is found["dataset_probabilities"] is None


def test_in_a_compiled_graph_the_loop_goes_on(run: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = pytest.importorskip("langgraph.graph")
    monkeypatch.setenv(RUN, str(run.output_dir))
    codes = ["def (", CODE]  # the first try of the generator is no Python

    def generate(state: State) -> dict[str, Any]:
        return {"nn_code": codes[state.get("rounds", 0)], "rounds": state.get("rounds", 0) + 1}

    seen: list[str | None] = []

    def again(state: State) -> str:
        seen.append(state["dataset_compare_error"])
        return "generate" if state["dataset_compare_error"] else graph.END

    built = graph.StateGraph(State)
    built.add_node("generate", generate)
    built.add_node("compare", dataset_compare_node)
    built.add_edge(graph.START, "generate")
    built.add_edge("generate", "compare")
    built.add_conditional_edges("compare", again)
    state = built.compile().invoke({"datasets": ["mnist", "svhn", "cifar-10"]})
    assert "is not Python" in str(seen[0])
    assert seen[1] is None
    assert state["predicted_best_dataset"] == state["dataset_ranking"][0]
    assert 1 / 3 <= state["probability"] <= 1
    assert state["rounds"] == 2


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders of which predictors are made from now on; the node has none yet."""
    folders: list[Path] = []
    real = Predictor.__init__

    def noted(self: Predictor, adapter: Path, **options: Any) -> None:
        folders.append(adapter)
        time.sleep(0.2)  # the other branch comes meanwhile
        real(self, adapter, **options)

    monkeypatch.setattr(Predictor, "__init__", noted)
    monkeypatch.setattr("nngpt_ext.host.node._predictors", {})
    return folders


def test_threads_share_one_predictor(run: RunResult, made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(RUN, str(run.output_dir))
    start = threading.Barrier(2)

    def branch(code: str) -> dict[str, Any]:
        start.wait()
        return dataset_compare_node({"nn_code": code, "datasets": ["mnist", "svhn", "cifar-10"]})

    codes = [CODE, models_made.sources()["VGG"]]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(branch, codes))
    assert made == [run.output_dir / "adapter"]
    alone = make_dataset_compare_node(Predictor.from_run(run.output_dir))
    assert found == [alone({"nn_code": code, "datasets": ["mnist", "svhn", "cifar-10"]}) for code in codes]


def test_parallel_branches_of_a_graph(run: RunResult, made: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    graph = pytest.importorskip("langgraph.graph")
    monkeypatch.setenv(RUN, str(run.output_dir))
    codes = {"one": CODE, "other": models_made.sources()["VGG"]}

    class Branches(TypedDict, total=False):
        one: dict[str, Any]
        other: dict[str, Any]

    def branch(name: str) -> Callable[[Any], dict[str, Any]]:
        return lambda state: {name: dataset_compare_node({"nn_code": codes[name], "datasets": ["mnist", "svhn"]})}

    built = graph.StateGraph(Branches)
    for name in codes:
        built.add_node(f"ask {name}", branch(name))
        built.add_edge(graph.START, f"ask {name}")
    state = built.compile().invoke({})
    assert made == [run.output_dir / "adapter"]
    alone = make_dataset_compare_node(Predictor.from_run(run.output_dir))
    for name, code in codes.items():
        assert state[name] == alone({"nn_code": code, "datasets": ["mnist", "svhn"]})


def test_in_a_graph_with_the_hosts_own_manager(imported: Host, run: RunResult) -> None:
    graph = pytest.importorskip("langgraph.graph")
    manager = host_object(imported, "manager")
    codes = [models_made.sources()["AlexNet"], models_made.sources()["ResNet"]]
    seen: list[Any] = []

    # The host's other nodes need its tuner; these do what it says of them and no more.
    def generate(state: Any) -> dict[str, Any]:
        seen.append(state.get("predicted_best_dataset"))
        return {"nn_code": codes[state["current_epoch"]], "next_action": "evaluate"}

    def evaluate(state: Any) -> dict[str, Any]:
        return {"next_action": "finetune"}

    def finetune(state: Any) -> dict[str, Any]:
        return {"current_epoch": state["current_epoch"] + 1, "next_action": "generate"}

    def route(state: Any) -> str:
        return state.get("next_action", "end")

    workflow = graph.StateGraph(make_state(imported))
    for name, node in (("manager", manager), ("generator", generate), ("evaluator", evaluate), ("finetuner", finetune)):
        workflow.add_node(name, node)
    workflow.set_entry_point("manager")
    ways = {"generate": "generator", "evaluate": "evaluator", "finetune": "finetuner", "end": graph.END}
    workflow.add_conditional_edges("manager", route, ways)
    workflow.add_conditional_edges("generator", route, ways)
    for name in ("evaluator", "finetuner"):
        workflow.add_edge(name, "manager")
    predictor = Predictor.from_run(run.output_dir)
    add_to_graph(workflow, make_dataset_compare_node(predictor))
    assert ("evaluator", "manager") not in workflow.edges
    first = {"current_epoch": 0, "llm_tune_epochs": 2, "next_action": "generate", "datasets": ["mnist", "svhn"]}
    state = workflow.compile().invoke(first)
    rankings = [predictor.rank(code, ["mnist", "svhn"]) for code in codes]
    assert seen == [None, rankings[0].datasets[0]]  # the generator saw what the node found in the epoch before
    assert state["dataset_ranking"] == list(rankings[1].datasets)
    assert state["probability"] == pytest.approx(rankings[1].probability)
    assert state["dataset_compare_error"] is None
    assert (state["current_epoch"], state["next_action"]) == (2, "end")


def test_in_the_place_of_the_hosts_predictor(imported: Host, run: RunResult) -> None:
    """As docs/host.md has it: the host's manager routes to `predictor`, which reads the host's own `nn_code`."""
    graph = pytest.importorskip("langgraph.graph")
    predictor = Predictor.from_run(run.output_dir)
    node = make_dataset_compare_node(predictor)

    def predict(state: Any) -> dict[str, Any]:
        return {**node({"nn_code": state.nn_code, "datasets": state.datasets}), "next_action": "finetune"}

    def finetune(state: Any) -> dict[str, Any]:
        return {"current_epoch": state.current_epoch + 1}

    workflow = graph.StateGraph(make_state(imported))
    for name, one in (("manager", host_object(imported, "manager")), ("predictor", predict), ("finetuner", finetune)):
        workflow.add_node(name, one)
    workflow.set_entry_point("manager")
    ways = {"predict": "predictor", "finetune": "finetuner", "end": graph.END}
    workflow.add_conditional_edges("manager", lambda state: state.next_action, ways)
    workflow.add_edge("predictor", "manager")
    workflow.add_edge("finetuner", "manager")
    first = {"nn_code": CODE, "datasets": ["mnist", "svhn"], "next_action": "predict", "current_epoch": 0}
    state = workflow.compile().invoke({**first, "llm_tune_epochs": 1})
    assert state["dataset_ranking"] == list(predictor.rank(CODE, ["mnist", "svhn"]).datasets)
    assert (state["current_epoch"], state["next_action"]) == (1, "end")


def test_the_module_is_light() -> None:
    import subprocess
    import sys

    script = "import sys, nngpt_ext.host.node; sys.exit('torch' in sys.modules or 'langgraph' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2]).returncode == 0


def test_the_state_gives_a_structure(asking: Callable[[str], Path]) -> None:
    predictor = Predictor.from_pretrained(asking("structure"))
    state = {"nn_code": CODE, "datasets": ["mnist", "svhn"]}
    node = make_dataset_compare_node(predictor)
    assert "needs a structure for 'mnist'" in node(state)["dataset_compare_error"]
    found = node(state | {"structure": "measure"})
    assert found["dataset_ranking"] == list(predictor.rank(CODE, ["mnist", "svhn"], structure="measure").datasets)
