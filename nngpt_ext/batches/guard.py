"""A check that shared prefixes are exact on a given model, before they are relied on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from nngpt_ext.batches.rows import Example, build_row
from nngpt_ext.batches.tensors import answer_log_probs, mask_dtype, plain_batch, shared_batch

log = logging.getLogger(__name__)

# Largest difference of a summed log-probability that rounding explains, by the type computed in. Ignored
# masks and positions differ by a tenth and more (tests/batches/test_guard.py).
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
QUESTIONS = 4


def largest_difference(model: Any, group: Sequence[Example], pad: int) -> float:
    """Largest difference between the log-probabilities of answers computed both ways, dropout off."""
    examples = list(group[:QUESTIONS])
    device = next(model.parameters()).device
    with torch.inference_mode():
        shared = answer_log_probs(model, shared_batch(build_row([examples]), mask_dtype(model)).to(device))
        plain = answer_log_probs(model, plain_batch(examples, pad).to(device))
    return float((shared - plain).abs().max())


def checked_engine(model: Any, groups: Sequence[Sequence[Example]], pad: int, engine: str) -> str:
    """`engine`, or `plain` with one warning where the model does not compute shared prefixes exactly.

    Attention that ignores a custom mask, sliding windows, ALiBi and absolute positions that a model makes
    itself are such cases.
    """
    group = next((group for group in groups if len(group) > 1), None)
    if engine != "shared" or group is None:
        return engine
    was_training = model.training
    model.eval()
    try:
        difference = largest_difference(model, group, pad)
        reason = f"answers differ by {difference:.2g} in log-probability"
        if difference <= TOLERANCE.get(mask_dtype(model), 1e-3):
            return engine
    except (TypeError, ValueError, RuntimeError, IndexError) as error:
        reason = f"it refuses such rows ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    finally:
        model.train(was_training)
    log.warning(
        "shared prefixes are not exact on %s: %s; computing one example at a time (tuning.engine: plain)",
        type(model).__name__, reason,
    )  # fmt: skip
    return "plain"
