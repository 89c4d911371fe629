"""Our fields in the state of the host's agents, and our node's place in their graph; test_node runs it there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host.agents import NODE, add_to_graph, host_object, make_state
from nngpt_ext.host.installation import Host, find_host
from nngpt_ext.host.node import FIELDS
from tests.host.test_installation import made


def test_the_state_keeps_what_the_hosts_drops(imported: Host) -> None:
    theirs, ours = host_object(imported, "state"), make_state(imported)
    assert issubclass(ours, theirs)
    assert theirs(dataset_ranking=["mnist"]).get("dataset_ranking") is None
    assert ours(dataset_ranking=["mnist"], nn_code="x")["dataset_ranking"] == ["mnist"]
    assert set(FIELDS) <= set(ours.model_fields)


class Graph:
    """As much of a StateGraph as tells that nothing was changed."""

    def __init__(self, *nodes: str, edges: tuple[tuple[str, str], ...] = ()) -> None:
        self.nodes = dict.fromkeys(nodes)
        self.edges = set(edges)


def test_a_graph_without_these_nodes() -> None:
    with pytest.raises(UserError, match="the graph has no node evaluator; it has manager"):
        add_to_graph(Graph("manager"))
    with pytest.raises(UserError, match=f"already has a node '{NODE}'"):
        add_to_graph(Graph("manager", "evaluator", NODE))


@pytest.mark.parametrize(
    ("edges", "known"), [((), "it has none"), ((("manager", "evaluator"),), "it has manager to evaluator")]
)
def test_a_graph_without_the_edge_stays_as_it_is(edges: tuple[tuple[str, str], ...], known: str) -> None:
    graph = Graph("manager", "evaluator", edges=edges)
    with pytest.raises(UserError, match=f"no edge from evaluator to manager; {known}; add that edge first"):
        add_to_graph(graph)
    assert (set(graph.nodes), graph.edges) == ({"manager", "evaluator"}, set(edges))


def test_a_host_that_python_would_not_find_is_imported_from_its_folder(tmp_path: Path) -> None:
    state = "from pydantic import BaseModel\nclass AgentState(BaseModel):\n    mine: int = 7\n"
    package = made(tmp_path, "TuneNNGen", agents__state=state, agents____init__="")
    (package / "__init__.py").touch()
    (tmp_path / "ab" / "__init__.py").write_text("__path__ = __import__('pkgutil').extend_path(__path__, __name__)")
    another = made(tmp_path / "another", "TuneNNGen", agents__state=state)
    script = f"""
from nngpt_ext.errors import UserError
from nngpt_ext.host.agents import make_state
from nngpt_ext.host.installation import Host, find_host
made = make_state(find_host({tmp_path.name!r}))  # as it may be given: relatively
assert made(dataset_ranking=["mnist"]).mine == 7, made
try:
    make_state(find_host({str(another)!r}))
except UserError as error:
    print(error)
"""
    env = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"already imported ab.gpt.agents.state from '{package / 'agents' / 'state.py'}', not" in done.stdout


def test_a_host_that_cannot_be_imported_or_has_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made(
        tmp_path,
        "TuneNNGen",
        agents__state="class AgentState: ...",
        agents__manager="1 / 0\ndef manager_node(): ...",
        agents____init__="",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name == "ab" or name.startswith("ab.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if "site-packages" not in p)])
    host = find_host(tmp_path)
    with pytest.raises(UserError, match=r"agents\.manager cannot be imported: ZeroDivisionError"):
        host_object(host, "manager")
    for name in [name for name in sys.modules if name == "ab" or name.startswith("ab.")]:
        del sys.modules[name]
