"""Our node in the graph of the host's agents (LangGraph)."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.host.layout import Host, find_host
from nngpt_ext.host.node import dataset_compare_node

NODE = "dataset_compare"


def make_state(host: Host | None = None) -> type[Any]:
    """A subclass of the host's `AgentState` that declares what our node reads and returns.

    LangGraph drops what a state does not declare, so a graph is built over this one:
    `StateGraph(make_state())`.

    Raises:
        UserError: when there is no host, or its state is no pydantic model that takes new fields.
    """
    from pydantic import BaseModel, create_model

    state = host_object(host, "state", "AgentState")
    if not (isinstance(state, type) and issubclass(state, BaseModel)):
        raise UserError(f"NNGPT's AgentState is a {type(state).__name__} and no pydantic model; our fields need one")
    fields: dict[str, Any] = {
        "datasets": (list[str] | None, None),
        "recipe": (dict[str, Any] | None, None),
        "accuracies": (dict[str, float] | None, None),
        "nn_name": (str | None, None),
        "dataset_compare_run": (str | None, None),
        "dataset_ranking": (list[str] | None, None),
        "predicted_best_dataset": (str | None, None),
        "probability": (float | None, None),
        "dataset_compare_error": (str | None, None),
    }
    new = {name: field for name, field in fields.items() if name not in state.model_fields}
    return create_model("DatasetCompareState", __base__=state, **new)


def add_to_graph(
    workflow: Any, node: Callable[[Any], dict[str, Any]] = dataset_compare_node, *, after: str = "evaluator",
    before: str = "manager",
) -> Any:  # fmt: skip
    """Add our node to a LangGraph `StateGraph` between two nodes, in place of the edge between them.

    The host's manager knows no action of ours, so the node stands on the way back to it: after the evaluator the
    state has the network's source.

    Args:
        workflow: the graph, not yet compiled.
        node: as `make_dataset_compare_node` makes it; by default the one that asks the run in NNGPT_EXT_RUN.
        after: the node after which it runs.
        before: the node that runs next.

    Returns:
        The graph.

    Raises:
        UserError: when the graph lacks one of the two nodes, or has ours already.
    """
    missing = [name for name in (after, before) if name not in workflow.nodes]
    if missing:
        raise UserError(f"the graph has no node {', '.join(missing)}; it has {', '.join(sorted(workflow.nodes))}")
    if NODE in workflow.nodes:
        raise UserError(f"the graph has a node '{NODE}' already")
    workflow.add_node(NODE, node)
    workflow.edges.discard((after, before))
    workflow.add_edge(after, NODE)
    workflow.add_edge(NODE, before)
    return workflow


def host_object(host: Host | None, role: str, name: str) -> Any:
    """Import something of the host's, here and now; only for modules of its agents, which load nothing heavy.

    Raises:
        UserError: when it cannot be imported, or is not there.
    """
    host = host or find_host()
    try:
        module = import_module(host.module(role))
    except Exception as error:
        raise UserError(f"NNGPT's {host.module(role)} cannot be imported: {type(error).__name__}: {error}") from None
    if not hasattr(module, name):
        raise UserError(f"NNGPT's {host.module(role)} has no {name}; tested with nn-gpt 1.0.6 and its head")
    return getattr(module, name)
