"""The gradients of optimiser steps, in one process or in several: `python -m tests.tuning.dealt_step FILE`."""

from __future__ import annotations

import sys
import tempfile
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file

from nngpt_ext.models.base import Base
from nngpt_ext.tuning.lora import with_adapter
from nngpt_ext.tuning.ranks import joined, of_first
from tests import models_made
from tests.tuning.stepping import Stepping
from tests.tuning.test_trainer import LORA, config, groups_of

STEPS = {
    "one row": {"row_tokens": 4096}, "rows": {"row_tokens": 300}, "plain": {"engine": "plain"},
    "masked": {"engine": "masked", "row_tokens": 600}, "checkpointed": {"gradient_checkpointing": True},
}  # fmt: skip


def gradients(base: Base) -> dict[str, torch.Tensor]:
    """The loss of each step and its gradients, in one vector."""
    torch.manual_seed(0)
    groups, found = groups_of(base), {}
    with with_adapter(base, LORA) as model, tempfile.TemporaryDirectory() as folder:
        step = Stepping(base, model, groups, groups[0], 20, partial(config, epochs=1), Path(folder))
        for name, changes in STEPS.items():
            loss, gradient = step(**changes)
            found[name] = torch.cat([torch.tensor([loss]), gradient])
    return found


if __name__ == "__main__":
    own_base = models_made.base("llama", load_in_4bit=False)  # transformers would let only the first process write it
    with joined():
        made = gradients(own_base)
        of_first(lambda: save_file(made, sys.argv[1]))
