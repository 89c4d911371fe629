"""What runs in a process of its own because it imports the host: `python -m nngpt_ext.host.probe`.

The host prints, builds a database where it finds none, and reads its conf from the current folder; so a probe
starts in a root (`nngpt_ext.host.root`) and gives its findings as one line of JSON at the end.
"""

from __future__ import annotations

import importlib
import inspect
import json
import sys
from typing import Any

from nngpt_ext.host.answers import TRICKY

MARK = "nngpt_ext.host.probe: "


def behaviour(modules: dict[str, str]) -> dict[str, Any]:
    """How the host's functions behave; a role that cannot be imported gives an entry in `failed`.

    Args:
        modules: module name by role, as `Host.module` gives them, of the roles to look at.
    """
    found: dict[str, Any] = {"failed": {}}
    for name, look in (
        ("evaluation", _answers), ("formulas", _formulas), ("state", _undeclared), ("main", _imported),
        ("tune", _imported), ("lora", _libraries),
    ):  # fmt: skip
        if name not in modules:
            continue
        try:
            found.update(look(importlib.import_module(modules[name])))
        except (Exception, SystemExit) as error:
            found["failed"][name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
    return found


def _answers(module: Any) -> dict[str, Any]:
    wrong, turned = [], []
    for case in TRICKY:
        text = case.output
        for marker in ("### Response:", "</think>"):  # as its evaluate_epoch does before it asks
            text = text.split(marker, 1)[-1]
        one, two = (module.extract_answer(text.strip(), list(names)) for names in (case.options, case.options[::-1]))
        if case.answer not in (one, two) or one != two:
            wrong.append({"output": case.output, "why": case.why, "answer": case.answer, "host": [one, two]})
        if one != two:
            turned.append(case.output)
    return {"answers": {"outputs": len(TRICKY), "wrong": wrong, "order_decides": turned}}


def _formulas(module: Any) -> dict[str, Any]:
    return {"formulas": module.evaluate_delimited_formulas("x = 1 <<6*7>> 2", {})}


def _undeclared(module: Any) -> dict[str, Any]:
    state = module.AgentState(dataset_ranking=["mnist"])
    fields = sorted(module.AgentState.model_fields)
    return {"keeps_undeclared": state.get("dataset_ranking") is not None, "state_fields": fields}


def _imported(module: Any) -> dict[str, Any]:
    return {f"imported_{module.__name__.rsplit('.', 1)[-1]}": True}


def _libraries(module: Any) -> dict[str, Any]:
    """Whether the installed transformers and trl take what the host gives them."""
    from transformers import TrainingArguments

    collator = module.DataCollatorForLanguageModeling
    return {
        "training_arguments": sorted(inspect.signature(TrainingArguments).parameters),
        "collator": sorted(inspect.signature(collator).parameters),
    }


if __name__ == "__main__":
    print(MARK + json.dumps(behaviour(json.loads(sys.argv[1]))))
