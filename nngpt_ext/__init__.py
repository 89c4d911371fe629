"""On which dataset will this neural network do better? A task for NNGPT-style AutoML frameworks.

Public names load on first use: importing the package loads neither torch nor transformers nor pandas.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from nngpt_ext.version import __version__

if TYPE_CHECKING:
    from nngpt_ext.client import Client
    from nngpt_ext.config import TaskConfig
    from nngpt_ext.errors import UserError
    from nngpt_ext.predict.answers import Comparison, Ranking
    from nngpt_ext.predict.predictor import Predictor
    from nngpt_ext.predict.question import Query
    from nngpt_ext.predict.store import PredictionStore
    from nngpt_ext.prompts.template import Template
    from nngpt_ext.registry import register_finetuner, register_prompt, register_task
    from nngpt_ext.tasks.protocol import RunResult, Task
    from nngpt_ext.tasks.run import run_task
    from nngpt_ext.views.curves import LiveCurves

__all__ = [
    "Client", "Comparison", "LiveCurves", "PredictionStore", "Predictor", "Query", "Ranking", "RunResult", "Task",
    "TaskConfig", "Template", "UserError", "__version__", "register_finetuner", "register_prompt", "register_task",
    "run_task",
]  # fmt: skip

if find_spec("nngpt_ext.registry") is None:  # only nngpt-ext-client is installed
    __all__[:] = ["Client", "Comparison", "Ranking", "UserError", "__version__"]

_HOMES = {
    "Client": "nngpt_ext.client",
    "Comparison": "nngpt_ext.predict.answers",
    "LiveCurves": "nngpt_ext.views.curves",
    "PredictionStore": "nngpt_ext.predict.store",
    "Predictor": "nngpt_ext.predict.predictor",
    "Query": "nngpt_ext.predict.question",
    "Ranking": "nngpt_ext.predict.answers",
    "RunResult": "nngpt_ext.tasks.protocol",
    "Task": "nngpt_ext.tasks.protocol",
    "TaskConfig": "nngpt_ext.config",
    "Template": "nngpt_ext.prompts.template",
    "UserError": "nngpt_ext.errors",
    "register_finetuner": "nngpt_ext.registry",
    "register_prompt": "nngpt_ext.registry",
    "register_task": "nngpt_ext.registry",
    "run_task": "nngpt_ext.tasks.run",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nngpt_ext' has no attribute '{name}'")
    try:
        home = import_module(_HOMES[name])
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith(f"{__name__}."):
            raise
        from nngpt_ext.extras import pip

        remove = pip("uninstall nngpt-ext-client")
        # An ImportError: `from nngpt_ext import …` would replace the words of others by its own.
        raise ImportError(
            f"only nngpt-ext-client is installed here, which has no {name}: ask a server with Client, or type {remove} "
            "and install nngpt-ext, the whole package"
        ) from None
    return getattr(home, name)


def __dir__() -> list[str]:
    return sorted(__all__)
