"""A new LoRA adapter (PEFT) on a base model for one fine-tuning, which leaves the base unchanged."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from peft import LoraConfig, PeftModel, get_peft_model

from nngpt_ext.config import ResolvedLora
from nngpt_ext.errors import UserError, setting
from nngpt_ext.models.architecture import has_experts, read_directly, with_own_outputs
from nngpt_ext.models.base import LOADING, quiet_transformers
from nngpt_ext.models.fused import fuse
from nngpt_ext.models.heads import NAME as HEAD
from nngpt_ext.models.heads import TASK_TYPE, add_head, remove_head
from nngpt_ext.models.presets import preset

if TYPE_CHECKING:
    from nngpt_ext.models.base import Base

log = logging.getLogger(__name__)


def recompute_activations(base: Base) -> None:
    """Have a base model recompute its activations in the backward pass, until its adapter is taken off.

    Raises:
        UserError: if it cannot.
    """
    if not base.model.supports_gradient_checkpointing:
        raise UserError(
            f"{type(base.model).__name__} cannot recompute its activations: "
            f"{setting('tuning.gradient_checkpointing', 'False')}"
        )
    with quiet_transformers():
        base.model.gradient_checkpointing_enable({"use_reentrant": False})


@contextmanager
def with_adapter(base: Base, lora: ResolvedLora, head: str = "answer") -> Iterator[PeftModel]:
    """The base with a new adapter on all linear layers but the output layer; afterwards the base is unchanged.

    For `tuning.head` lines, a scoring head of zeros is trained and saved with it.
    """
    scores, dropout = head == "lines", lora.dropout
    if dropout and has_experts(base.model):
        log.warning("model.lora.dropout %g is not used: PEFT has no dropout for a mixture of experts", dropout)
        dropout = 0.0
    peft = LoraConfig(
        task_type=TASK_TYPE if scores else "CAUSAL_LM",
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=dropout,
        target_modules="all-linear",
        exclude_modules=[*read_directly(base.model.config), *with_own_outputs(base.model)] or None,
    )
    before = vars(base.model).get("forward")
    with LOADING, quiet_transformers():
        if scores:
            add_head(base.model)
        model = get_peft_model(base.model, peft)
    fuse(model)
    settings: Any = model.peft_config["default"]
    settings.target_modules.discard(HEAD)  # it is linear too, but trained whole
    # PEFT records the local folder of a hub model's snapshot, which means nothing on another machine.
    settings.base_model_name_or_path = preset(base.name).location
    # Embeddings are not trained; to find that out, PEFT would look for the base on the hub at each checkpoint.
    saved: Any = partial(model.save_pretrained, save_embedding_layers=False)
    model.save_pretrained = saved  # type: ignore[method-assign]
    try:
        yield model
    finally:
        model.unload()
        remove_head(base.model)
        with quiet_transformers():
            if base.model.is_gradient_checkpointing:
                base.model.gradient_checkpointing_disable()
        # TRL wraps the base's `forward` for good: each training would add a wrapper, which refers to its trainer.
        if before is None:
            vars(base.model).pop("forward", None)
        else:
            base.model.forward = before
