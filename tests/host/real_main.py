"""The host's own main on a call that `host tune` wrote: `python -m tests.host.real_main CALL.json`, in its root.

Its `main`, `tune`, `_finetune_epoch`, `LLM`, prompt loader and `Prompt` run as they are, on our preset, prompts and
pairs. Three things are put in their places, because this environment has none that fit: `deepspeed`, which `tune`
imports and does not use; `TrainingArguments`, for the installed transformers takes no `warmup_ratio`; and the host's
`LoRA`, for the installed trl's collator takes no `completion_only_loss`: this one notes what it would train on.
"""

from __future__ import annotations

import importlib
import json
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


def main(file: str) -> None:
    from nngpt_ext.host.process import MARK, launch

    deepspeed = ModuleType("deepspeed")
    deepspeed.__spec__ = ModuleSpec("deepspeed", None)
    sys.modules["deepspeed"] = deepspeed
    seen: dict[str, Any] = {"epochs": []}

    class Noted:
        def __init__(self, model: Any, tokenizer: Any, **given: Any) -> None:
            self.model, config = model, given["peft_config"]
            seen["lora"] = [config.r, config.lora_alpha, config.lora_dropout]
            seen["training"] = given["training_args"].given

        def train(self, dataset: Any, tokenizer: Any, output_dir: Any, **given: Any) -> Any:
            Path(output_dir).mkdir(parents=True)
            texts = sorted(tokenizer.decode(row["input_ids"]) for row in dataset)
            longest = max(len(row["input_ids"]) for row in dataset)
            seen["epochs"].append({"texts": texts, "longest": longest, "to": str(output_dir)})
            return self.model

    def arguments(**given: Any) -> SimpleNamespace:
        plain = {name: value for name, value in given.items() if isinstance(value, (int, float, str))}
        return SimpleNamespace(deepspeed=None, given=plain)

    call = json.loads(Path(file).read_text(encoding="utf-8"))
    importlib.import_module(call["tune"]).LoRA = Noted
    # Main imports it when it is called, from the transformers that the host's modules have by then.
    importlib.import_module("transformers").TrainingArguments = arguments  # type: ignore[attr-defined]
    launch(call)
    print(MARK + json.dumps(seen))


if __name__ == "__main__":
    main(sys.argv[1])
