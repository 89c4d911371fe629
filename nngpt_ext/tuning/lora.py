"""A fresh adapter on a base model: LoRA by PEFT, there for one fine-tuning and gone without a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from nngpt_ext.batches.rows import Example
from nngpt_ext.batches.tensors import answer_log_probs, plain_batch
from nngpt_ext.models.base import LOADING, quiet_transformers
from nngpt_ext.models.presets import preset
from nngpt_ext.tuning.tune_config import TuneConfig

if TYPE_CHECKING:
    from nngpt_ext.models.base import Base


@contextmanager
def with_adapter(base: Base, config: TuneConfig) -> Iterator[PeftModel]:
    """The base with a fresh adapter to train; the base is as it was when the block ends."""
    before = vars(base.model).get("forward")
    with quiet_transformers():
        model = add_lora(base, config)
    try:
        yield model
    finally:
        model.unload()
        with quiet_transformers():
            if base.model.is_gradient_checkpointing:
                base.model.gradient_checkpointing_disable()
        # TRL wraps the base's `forward` and leaves it so; one more wrapper, and one more trainer kept, each time.
        if before is None:
            vars(base.model).pop("forward", None)
        else:
            base.model.forward = before


def add_lora(base: Base, config: TuneConfig) -> PeftModel:
    """LoRA on all linear layers but the output layer."""
    lora = LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora_r,
        lora_alpha=config.lora_alpha,
        lora_dropout=config.lora_dropout,
        target_modules="all-linear",
    )
    with LOADING:
        model = get_peft_model(base.model, lora)
    # PEFT notes the local folder of a hub model's snapshot, which means nothing elsewhere.
    model.peft_config["default"].base_model_name_or_path = preset(base.name).location
    return model


def adapter_matters(model: PeftModel, examples: Sequence[Sequence[Example]], base: Base) -> bool:
    """Whether switching the adapter off changes the score of one training example."""
    model.eval()
    batch = plain_batch(examples[0][:1], base.tokenizer.pad_token_id).to(base.device)
    with torch.inference_mode():
        with_adapter = answer_log_probs(model, batch)
        with model.disable_adapter():
            without = answer_log_probs(model, batch)
    return not torch.equal(with_adapter, without)
