"""Our node in the graph of the host's agents (LangGraph)."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
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
        "dataset_compare_note": (str | None, None),
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
        UserError: when the graph lacks one of the two nodes or the edge between them, or has ours already; the graph
            is as it was then.
    """
    missing = [name for name in (after, before) if name not in workflow.nodes]
    if missing:
        raise UserError(f"the graph has no node {', '.join(missing)}; it has {', '.join(sorted(workflow.nodes))}")
    if NODE in workflow.nodes:
        raise UserError(f"the graph has a node '{NODE}' already")
    if (after, before) not in workflow.edges:
        known = ", ".join(f"{one} to {two}" for one, two in sorted(workflow.edges))
        raise UserError(f"the graph has no edge from {after} to {before}; it has {known or 'none'}; add it before")
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
        _let_import(host)
        module = import_module(host.module(role))
    except Exception as error:
        raise UserError(f"NNGPT's {host.module(role)} cannot be imported: {type(error).__name__}: {error}") from None
    place, folder = Path(str(module.__file__)).resolve(), host.folder.resolve()
    if folder not in place.parents:
        raise UserError(f"this process has imported {host.module(role)} from '{place}' already and not from '{folder}'")
    if not hasattr(module, name):
        raise UserError(f"NNGPT's {host.module(role)} has no {name}; tested with nn-gpt 1.0.6 and its head")
    return getattr(module, name)


def _let_import(host: Host) -> None:
    """Have Python find this host, where it would find another or none: `ab` is a package of several distributions."""
    folder = host.folder.resolve()
    if "ab" in sys.modules:
        if "ab.gpt" not in sys.modules:
            ab, first = sys.modules["ab"], str(folder.parent)
            ab.__path__ = [first, *(place for place in ab.__path__ if place != first)]
        return
    try:
        found = find_host().folder
    except UserError:
        found = None
    if found != folder:
        sys.path.insert(0, str(folder.parents[1]))
