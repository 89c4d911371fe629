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

    width = model.config.get_text_config().hidden_size
    head = torch.nn.Linear(width, 1, bias=False, device=model.device, dtype=torch.float32)
    torch.nn.init.zeros_(head.weight)
    model.add_module(NAME, head.requires_grad_(False))


def remove_head(model: Any) -> None:
    """Take the head from a base model; one without a head is left as it is."""
    if NAME in dict(model.named_children()):
        delattr(model, NAME)


def has_head(adapter: Path) -> bool:
    """Whether the adapter in a folder has a head."""
    return read_adapter_file(adapter, SETTINGS, dict[str, Any]).get("task_type") == TASK_TYPE
