"""Our node in the graph of the host's agents."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext import Predictor, RunResult
from nngpt_ext.errors import UserError
from nngpt_ext.host.agents import NODE, add_to_graph, host_object, make_state
from nngpt_ext.host.layout import Host, find_host
from nngpt_ext.host.node import FIELDS, make_dataset_compare_node
from tests import models_made
from tests.host.test_layout import made
from tests.predict.conftest import run

__all__ = ["run"]


@pytest.fixture
def imported(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """The host's agents can be imported here, and are forgotten afterwards: `ab.gpt` is one of several hosts'."""
    monkeypatch.syspath_prepend(str(host.folder.parents[1]))
    before = {name for name in sys.modules if name == "ab" or name.startswith("ab.")}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    yield host
    for name in [name for name in sys.modules if name == "ab" or name.startswith("ab.")]:
        del sys.modules[name]


def test_the_state_keeps_what_the_hosts_drops(imported: Host) -> None:
    theirs, ours = host_object(imported, "state", "AgentState"), make_state(imported)
    assert issubclass(ours, theirs)
    assert theirs(dataset_ranking=["mnist"]).get("dataset_ranking") is None
    assert ours(dataset_ranking=["mnist"], nn_code="x")["dataset_ranking"] == ["mnist"]
    assert set(FIELDS) <= set(ours.model_fields)


def test_in_a_graph_with_the_hosts_own_manager(imported: Host, run: RunResult) -> None:
    graph = pytest.importorskip("langgraph.graph")
    manager = host_object(imported, "manager", "manager_node")
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


class Graph:
    """As much of a StateGraph as tells that nothing was changed."""

    def __init__(self, *nodes: str, edges: tuple[tuple[str, str], ...] = ()) -> None:
        self.nodes = dict.fromkeys(nodes)
        self.edges = set(edges)


def test_a_graph_without_these_nodes() -> None:
    with pytest.raises(UserError, match="the graph has no node evaluator; it has manager"):
        add_to_graph(Graph("manager"))
    with pytest.raises(UserError, match=f"has a node '{NODE}' already"):
        add_to_graph(Graph("manager", "evaluator", NODE))


@pytest.mark.parametrize(
    ("edges", "known"), [((), "it has none"), ((("manager", "evaluator"),), "it has manager to evaluator")]
)
def test_a_graph_without_the_edge_stays_as_it_is(edges: tuple[tuple[str, str], ...], known: str) -> None:
    graph = Graph("manager", "evaluator", edges=edges)
    with pytest.raises(UserError, match=f"no edge from evaluator to manager; {known}; add it before"):
        add_to_graph(graph)
    assert (set(graph.nodes), graph.edges) == ({"manager", "evaluator"}, set(edges))


def test_a_host_that_python_would_not_find_is_imported_from_its_folder(tmp_path: Path) -> None:
    state = "from pydantic import BaseModel\nclass AgentState(BaseModel):\n    mine: int = 7\n"
    package = made(tmp_path, "TuneNNGen", agents__state=state, agents____init__="")
    script = f"""
from nngpt_ext.errors import UserError
from nngpt_ext.host.agents import make_state
from nngpt_ext.host.layout import Host, find_host
made = make_state(find_host({str(tmp_path)!r}))
assert made(dataset_ranking=["mnist"]).mine == 7, made
try:
    make_state(Host(__import__("pathlib").Path("/another/ab/gpt"), "flat", None))
except UserError as error:
    print(error)
"""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"imported ab.gpt.agents.state from '{package / 'agents' / 'state.py'}' already and not" in done.stdout


def test_a_host_that_cannot_be_imported_or_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(tmp_path, "TuneNNGen", agents__state="class State: ...", agents__manager="1 / 0", agents____init__="")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name == "ab" or name.startswith("ab.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if "site-packages" not in p)])
    host = find_host(tmp_path)
    with pytest.raises(UserError, match=r"ab\.gpt\.agents\.state has no AgentState"):
        make_state(host)
    with pytest.raises(UserError, match=r"agents\.manager cannot be imported: ZeroDivisionError"):
        host_object(host, "manager", "manager_node")
    for name in [name for name in sys.modules if name == "ab" or name.startswith("ab.")]:
        del sys.modules[name]
