"""Calls the host's `main`, in a process of its own: `python -m nngpt_ext.host.launch CALL.json`.

nn-gpt 1.0.6 takes `data_dir` and drops it, and runs 100 cycles whatever it is told; both are handed on here.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import sys
from pathlib import Path
from typing import Any


def launch(call: dict[str, Any]) -> None:
    """Call main.

    Args:
        call: `main`, `tune`, `prompt` (module names), `arguments` of main, `cycles`, `data_dir`.
    """
    tune_module: Any = importlib.import_module(call["tune"])
    given = {"num_cycles": call["cycles"]}
    if "data_dir" in inspect.signature(tune_module.tune).parameters:
        given["data_dir"] = call["data_dir"]
    else:
        prompt = importlib.import_module(call["prompt"])
        tune_module.NNGenPrompt = functools.partial(exported_loader(prompt.Prompt), call["data_dir"])
    # main imports `tune` from its module when it is called, and so gets this one.
    tune_module.tune = _handing_on(tune_module.tune, given)
    importlib.import_module(call["main"]).main(**call["arguments"])


def _handing_on(tune: Any, given: dict[str, Any]) -> Any:
    @functools.wraps(tune)
    def call(*positional: Any, **named: Any) -> Any:
        return tune(*positional, **{**named, **given})

    return call


def exported_loader(base: Any) -> Any:
    """The host's prompt loader for a `train.jsonl`: a subclass of its `Prompt` for versions that have none.

    Called as `loader(data_dir, max_len, tokenizer, prompts_path)`.
    """

    class ExportedPairs(base):
        def __init__(self, data_dir: str, max_len: int, tokenizer: Any, prompts_path: Any = None) -> None:
            super().__init__(max_len, tokenizer)
            self.file = Path(data_dir) / "train.jsonl"

        def get_raw_dataset(self, only_best_accuracy: bool, n_training_prompts: int | None = None) -> Any:
            """One row a line: instruction, context, response, category, text."""
            import pandas as pd

            rows = []
            with self.file.open(encoding="utf-8") as lines:
                for line in lines:
                    messages = json.loads(line)["messages"]
                    said = {message["role"]: message["content"] for message in messages}
                    text = self.tokenizer.apply_chat_template(messages, tokenize=False)
                    rows.append([said["user"], "", said["assistant"], "", text])
                    if n_training_prompts and len(rows) == n_training_prompts:
                        break
            return pd.DataFrame(rows, columns=["instruction", "context", "response", "category", "text"])

    return ExportedPairs


if __name__ == "__main__":
    launch(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
