"""A LangGraph node that predicts on which dataset an agent's new network will do best."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nngpt_ext.client import Client
    from nngpt_ext.predict.predictor import Predictor

log = logging.getLogger(__name__)

RUN = "NNGPT_EXT_RUN"  # environment variable: the run, or the server's URL, that `dataset_compare_node` asks
# What the node returns. LangGraph drops fields that a graph's state does not declare, so a state must have these.
FIELDS = (
    "dataset_ranking", "predicted_best_dataset", "probability", "abstain", "dataset_probabilities",
    "dataset_compare_error", "dataset_compare_note",
)  # fmt: skip

_predictors: dict[tuple[str, ...], Predictor | Client] = {}  # by run; by URL, token and adapter
_MAKING = threading.Lock()


def make_dataset_compare_node(predictor: Predictor | Client) -> Callable[[Any], dict[str, Any]]:
    """A node that uses this predictor, or a server's client.

    The node reads `nn_code` from the state (a mapping, or an object such as a pydantic model), and `datasets`,
    `recipe`, `accuracies`, `structure`, `evidence` and `nn_name` where the state has them; with the structure
    `measure`, the network's code runs in a sandbox. It returns

    - `dataset_ranking`: names of datasets, best first;
    - `predicted_best_dataset`: the first of them;
    - `probability`: that it is the best of all; None if the model was not trained on one of the datasets;
    - `abstain`: whether the model abstains from the answer;
    - `dataset_probabilities`: of each dataset, that it is the best of all; None where `probability` is;
    - `dataset_compare_error`: None, or why there is no answer; then the others are None;
    - `dataset_compare_note`: None, or what limits the answer: that the model abstains and why, comparisons that depend
      on the order of the names or contradict each other, and a source of which only the beginning was read.

    Any failure is reported in `dataset_compare_error`, and the graph continues.
    """
    return lambda state: _answer(state, lambda: predictor)


def dataset_compare_node(state: Any) -> dict[str, Any]:
    """The node of `make_dataset_compare_node` for the run, or the server's URL, that `NNGPT_EXT_RUN` names.

    The state's own `dataset_compare_run` takes precedence. The model is loaded once per process.
    """
    return _answer(state, lambda: _predictor(state))


def _answer(state: Any, predictor: Callable[[], Predictor | Client]) -> dict[str, Any]:
    try:
        code = _field(state, "nn_code")
        if code is None:
            raise ValueError("the state has no nn_code")
        ranking = predictor().rank(
            code, _field(state, "datasets"), _field(state, "recipe"), accuracies=_field(state, "accuracies"),
            nn=_field(state, "nn_name"), structure=_field(state, "structure"), evidence=_field(state, "evidence"),
        )  # fmt: skip
    except Exception as error:  # the agent's loop continues without an answer
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        log.warning("dataset_compare: %s", reason)
        return dict.fromkeys(FIELDS) | {"dataset_compare_error": reason}
    notes = [f"abstains: {ranking.reason}."] if ranking.abstain else []
    notes += ranking.limits()
    # For a dataset that the adapter was not trained on there is an order, but no meaningful probability.
    probability, each = (None, None) if ranking.unseen else (ranking.probability, dict(ranking.probabilities))
    answer = (
        list(ranking.datasets), ranking.datasets[0], probability, ranking.abstain, each, None,
        " ".join(notes) or None,
    )  # fmt: skip
    return dict(zip(FIELDS, answer, strict=True))


def _predictor(state: Any) -> Predictor | Client:
    run = _field(state, "dataset_compare_run") or os.environ.get(RUN)
    if not run:
        raise ValueError(f"no run is set: set {RUN} to the folder of a finished run, or to a server's URL")
    with _MAKING:  # branches of a graph run in threads, and a second predictor would load a second model
        from nngpt_ext.channel import ADAPTER, TOKEN, is_url

        # A server's token changes where the process of an agent stays.
        token, adapter = (os.environ.get(one, "") for one in (TOKEN, ADAPTER))
        key = (run, token, adapter) if is_url(run) else (run,)
        if key not in _predictors and is_url(run):
            from nngpt_ext.client import Client

            _predictors[key] = Client(run, token=token, adapter=adapter or None)
        elif key not in _predictors:
            if find_spec("nngpt_ext.predict.predictor") is None:
                raise ValueError(f"only nngpt-ext-client is installed here: {run!r} must be a server's URL, http://…")
            from nngpt_ext.predict.predictor import Predictor

            _predictors[key] = Predictor.from_run(run)
        return _predictors[key]


def _field(state: Any, name: str) -> Any:
    return state.get(name) if isinstance(state, Mapping) else getattr(state, name, None)
