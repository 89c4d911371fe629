"""The state and the graph of NNGPT's agents (LangGraph) with our node."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.host.installation import ROLES, Host, find_host, installed_host
from nngpt_ext.host.node import dataset_compare_node

NODE = "dataset_compare"
# What the node reads and returns.
_FIELDS: dict[str, Any] = {
    "datasets": list[str],
    "recipe": dict[str, Any],
    "accuracies": dict[str, float],
    "structure": str | dict[str, Any],
    "evidence": dict[str, dict[int, float]],
    "nn_name": str,
    "dataset_compare_run": str,
    "dataset_ranking": list[str],
    "predicted_best_dataset": str,
    "probability": float,
    "abstain": bool,
    "dataset_probabilities": dict[str, float],
    "dataset_compare_error": str,
    "dataset_compare_note": str,
}


def make_state(host: Host | None = None) -> type[Any]:
    """A subclass of NNGPT's `AgentState` that declares what our node reads and returns.

    LangGraph drops fields that a state does not declare, so build the graph with `StateGraph(make_state())`.
    """
    from pydantic import create_model

    state = host_object(host, "state")
    new: dict[str, Any] = {n: (kind | None, None) for n, kind in _FIELDS.items() if n not in state.model_fields}
    return create_model("DatasetCompareState", __base__=state, **new)


def add_to_graph(
    workflow: Any, node: Callable[[Any], dict[str, Any]] = dataset_compare_node, *, after: str = "evaluator",
    before: str = "manager",
) -> Any:  # fmt: skip
    """Add our node to a LangGraph `StateGraph` between two nodes, in place of the edge between them.

    NNGPT's manager has no action for our node, so the node is on the way back to it: after the evaluator the state has
    the network's source.

    Args:
        workflow: the graph, not yet compiled; it is returned.
        node: as `make_dataset_compare_node` makes it; by default the one that uses the run in NNGPT_EXT_RUN.
        after, before: the nodes between which it runs.

    Raises:
        UserError: if the graph lacks a node or the edge, or has our node already; it is not changed then.
    """
    missing = [name for name in (after, before) if name not in workflow.nodes]
    if missing:
        raise UserError(f"the graph has no node {', '.join(missing)}; it has {', '.join(sorted(workflow.nodes))}")
    if NODE in workflow.nodes:
        raise UserError(f"the graph already has a node '{NODE}'")
    if (after, before) not in workflow.edges:
        known = ", ".join(f"{one} to {two}" for one, two in sorted(workflow.edges))
        raise UserError(
            f"the graph has no edge from {after} to {before}; it has {known or 'none'}; add that edge first"
        )
    workflow.add_node(NODE, node)
    workflow.edges.discard((after, before))
    workflow.add_edge(after, NODE)
    workflow.add_edge(NODE, before)
    return workflow


def host_object(host: Host | None, role: str) -> Any:
    """Import what defines a role into this process; only from NNGPT's agents, whose modules import nothing heavy."""
    host = host or find_host()
    module_name = host.module(role)
    try:
        if "ab" in sys.modules:
            if "ab.gpt" not in sys.modules:  # `ab` is shared by several distributions: look into this NNGPT first
                ab, first = sys.modules["ab"], str(host.folder.parent)
                ab.__path__ = [first, *(place for place in ab.__path__ if place != first)]
        elif installed_host() != host:
            sys.path.insert(0, str(host.folder.parents[1]))
        module = import_module(module_name)
    except Exception as error:
        raise UserError(f"NNGPT's {module_name} cannot be imported: {type(error).__name__}: {error}") from None
    place = Path(str(module.__file__)).resolve()
    if not place.is_relative_to(host.folder):
        raise UserError(f"this process has already imported {module_name} from '{place}', not from '{host.folder}'")
    return getattr(module, ROLES[role].defines)
