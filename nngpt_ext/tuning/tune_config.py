"""What a fine-tuning is told."""

from __future__ import annotations

from typing import NamedTuple


class TuneConfig(NamedTuple):
    """What `fit` needs, with every default already decided."""

    epochs: int
    learning_rate: float
    lora_r: int
    lora_alpha: int
    lora_dropout: float
    networks_per_epoch: int | None
    pairs_per_network: int | None
    examples_per_step: int
    row_tokens: int
    warmup: float
    weight_decay: float
    max_grad_norm: float
    gradient_checkpointing: bool
    engine: str
    seed: int
    resume: bool = False
