"""A fresh adapter on a base model: LoRA by PEFT, there for one fine-tuning and gone without a trace."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from nngpt_ext.batches.rows import Example
from nngpt_ext.batches.tensors import answer_log_probs, plain_batch
from nngpt_ext.config import ResolvedLora
from nngpt_ext.models.base import LOADING, quiet_transformers
from nngpt_ext.models.presets import preset

if TYPE_CHECKING:
    from nngpt_ext.models.base import Base


@contextmanager
def with_adapter(base: Base, lora: ResolvedLora) -> Iterator[PeftModel]:
    """The base with a fresh adapter to train; the base is as it was when the block ends."""
    before = vars(base.model).get("forward")
    with quiet_transformers():
        model = add_lora(base, lora)
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


def add_lora(base: Base, lora: ResolvedLora) -> PeftModel:
    """LoRA on all linear layers but the output layer."""
    peft = LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear",
    )
    with LOADING:
        model = get_peft_model(base.model, peft)
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
