"""Plain passes: what a base model must be able to compute, and what the engines are compared with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from nngpt_ext.batches.attention import bare
from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.tensors import Batch, answer_log_probs, compute_context, make_batch, mask_dtype
from nngpt_ext.errors import UserError, setting

# Largest difference of a summed log-probability that rounding explains, by the dtype computed in. In 16 bits it may be
# larger on a large model, where it is measured (`rounding`). Ignored masks and positions differ by a tenth and more in
# fp32 (tests/batches/test_engine.py). Where rounding is coarser than that, `leak` and `positions_matter` find them:
# these compare passes of the same shape bit by bit.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
_CAUSAL_TOKENS = 32  # of the question with which `check_causal` asks


@contextmanager
def plain_pass(model: Any) -> Iterator[None]:
    """Around a model's pass on questions alone: whatever it raises becomes one line, because no engine would help.

    Models of other people's making raise any type, for example where they change weights that are in 4 bits.

    Raises:
        UserError: naming the architecture, and the key to set.
    """
    try:
        yield
    except (torch.OutOfMemoryError, UserError):
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        another = f"use another base model: {setting('model.base', 'embedded')}"
        in_4bit = getattr(bare(model), "is_loaded_in_4bit", False)
        unquantised = f"load it unquantised: {setting('model.load_in_4bit', 'False')}; or "
        raise UserError(
            f"{type(bare(model)).__name__} cannot compute a question{' in training' * model.training} "
            f"({type(error).__name__}: {words}); {unquantised * in_4bit}{another}"
        ) from error


def scores(model: Any, batch: Batch) -> torch.Tensor:
    """The log-probabilities of a batch's answers, shape (answers,), without gradients."""
    with torch.inference_mode():
        return answer_log_probs(model, batch.to(device_of(model)))


def scores_alone(model: Any, examples: Sequence[Example], pad: int) -> torch.Tensor:
    """Plain log-probabilities of answers, computed in no more memory than a step of the plain engine takes."""
    batches = [make_batch([[one]], "plain", mask_dtype(model), pad) for one in examples]
    with plain_pass(model):
        return torch.cat([scores(model, batch) for batch in batches])


def check_causal(model: Any, example: Example, pad: int) -> None:
    """Check that what a model predicts does not change with later tokens; else it would see the answers that it scores.

    Models that fill in masked words, such as BERT, load as language models, too.

    Raises:
        UserError: if it does, or if the model cannot compute a question.
    """
    short = Example(example.prompt[-_CAUSAL_TOKENS:], example.answers[:1])
    inputs = make_batch([[short]], "plain", mask_dtype(model), pad).to(device_of(model)).inputs
    ids = inputs["input_ids"]
    others = ids[ids != ids[0, -1]]
    changed = torch.cat([ids[:, :-1], others[None, :1]], dim=1)
    with plain_pass(model), torch.inference_mode(), compute_context(model):
        one, two = (
            model(**{**inputs, "input_ids": each}, use_cache=False).logits[:, :-1].float().log_softmax(-1)
            for each in (ids, changed)
        )
    # The mean over the vocabulary, because experts round differently with another token among theirs.
    if float((one - two).abs().mean(-1).max()) > TOLERANCE.get(mask_dtype(model), 1e-3):
        raise UserError(
            f"{type(bare(model)).__name__} is no causal language model: its predictions change with later tokens, so "
            f"it would see the answers that it scores; use another base model: {setting('model.base', 'embedded')}"
        )


def device_of(model: Any) -> torch.device:
    """The device of a model's weights."""
    device: torch.device = next(model.parameters()).device
    return device
