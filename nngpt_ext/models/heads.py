"""The scoring head of `tuning.head: lines`: one linear layer from a base model's last hidden state to a score.

It has the name and the shape that transformers' classes for sequence classification give it (and TRL's reward models
have), so the adapter in which PEFT keeps it is also an adapter of that class with one label.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nngpt_ext.run_folder import SETTINGS, read_adapter_file

NAME = "score"
TASK_TYPE = "SEQ_CLS"  # of PEFT, which then trains and saves `score` with the LoRA weights


def add_head(model: Any) -> None:
    """Give a base model a head of zeros, in fp32: all scores are then 0."""
    import torch

    head = torch.nn.Linear(_width(model), 1, bias=False, device=model.device, dtype=torch.float32)
    torch.nn.init.zeros_(head.weight)
    model.add_module(NAME, head.requires_grad_(False))


def body(model: Any) -> Any:
    """What computes a base model's last hidden state: all but its output layer."""
    inner = model.base_model
    if inner is not model:
        return inner
    # Llama 4 has it under another name than its class says, and transformers then gives the model itself.
    return next((part for part in model.children() if hasattr(part, "get_input_embeddings")), model)


def _width(model: Any) -> int:
    """The width of a base model's last hidden state.

    It need not be that of its layers: some OPT models project it to the width of their embeddings. Nor that of what the
    output layer reads: RoFormer projects behind it. Where the two differ, one token tells.
    """
    import torch

    width = int(model.config.get_text_config().hidden_size)
    if getattr(model.get_output_embeddings(), "in_features", width) == width:
        return width
    with torch.inference_mode():
        token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
        return int(body(model)(input_ids=token, use_cache=False).last_hidden_state.shape[-1])


def remove_head(model: Any) -> None:
    """Take the head from a base model; one without a head is left as it is."""
    if NAME in dict(model.named_children()):
        delattr(model, NAME)


def has_head(adapter: Path) -> bool:
    """Whether the adapter in a folder has a head."""
    return read_adapter_file(adapter, SETTINGS, dict[str, Any]).get("task_type") == TASK_TYPE
