"""A check that shared prefixes are exact on a given model, before they are relied on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch

from nngpt_ext.batches.attention import install
from nngpt_ext.batches.rows import Example
from nngpt_ext.batches.tensors import answer_log_probs, make_batch, mask_dtype
from nngpt_ext.models.load import quiet_transformers

log = logging.getLogger(__name__)

# `shared`: prefixes computed once, attention in parts; `masked`: the same behind one 4-D mask, whose cost grows
# with the square of a row; `plain`: one example a row.
ENGINES = ("shared", "masked", "plain")
# Largest difference of a summed log-probability that rounding explains, by the type computed in. Ignored
# masks and positions differ by a tenth and more (tests/batches/test_guard.py).
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
QUESTIONS = 4


def largest_difference(model: Any, group: Sequence[Example], pad: int, engine: str = "shared") -> float:
    """Largest difference between an engine's log-probabilities of answers and the plain ones, dropout off."""
    examples = list(group[:QUESTIONS])
    device, dtype = next(model.parameters()).device, mask_dtype(model)
    with torch.inference_mode():
        found, plain = (
            answer_log_probs(model, make_batch([examples], way, dtype, pad).to(device)) for way in (engine, "plain")
        )
    return float((found - plain).abs().max())


def checked_engine(model: Any, group: Sequence[Example], pad: int, engine: str) -> str:
    """`engine`, or the next one that is exact on this model, with one warning that says why.

    Attention that ignores a custom mask, sliding windows, ALiBi and absolute positions that a model makes
    itself are such cases.

    Args:
        model: a causal language model. For `shared` its attention function is exchanged
            (`nngpt_ext.batches.attention.install`), which changes nothing for other callers.
        group: examples of one network, best the longest one with both options: the first few are computed
            both ways. A group of one is no test; `plain` is the answer then, for there is nothing to share.
        pad: the padding token.
        engine: one of `ENGINES`.
    """
    if engine == "plain" or len(group) < 2:
        return "plain"
    before = model.config._attn_implementation
    was_training = model.training
    model.eval()
    reasons = []
    try:
        for way in ENGINES[ENGINES.index(engine) : -1]:
            reason = _fault(model, group, pad, way)
            if reason is None:
                engine = way
                break
            reasons.append(f"{way}: {reason}")
            model.set_attn_implementation(before)
        else:
            engine = "plain"
    finally:
        model.train(was_training)
    if reasons:
        log.warning(
            "shared prefixes are not exact on %s (%s); computing with tuning.engine %s instead",
            type(model).__name__, "; ".join(reasons), engine,
        )  # fmt: skip
    return engine


def _fault(model: Any, group: Sequence[Example], pad: int, engine: str) -> str | None:
    """Why an engine cannot be used, or None."""
    try:
        if engine == "shared":
            dropout = getattr(model.config.get_text_config(), "attention_dropout", 0.0)
            if dropout:
                return f"attention in parts does not do attention dropout {dropout}"
            with quiet_transformers():  # it warns as well
                install(model)
        difference = largest_difference(model, group, pad, engine)
    except (TypeError, ValueError, RuntimeError, IndexError, AttributeError, NotImplementedError) as error:
        return f"it refuses such rows ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    allowed = TOLERANCE.get(mask_dtype(model), 1e-3)
    return None if difference <= allowed else f"answers differ by {difference:.2g} in log-probability"
