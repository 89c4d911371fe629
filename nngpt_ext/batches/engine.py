"""A check that shared prefixes are exact on a given model, before they are relied on."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from nngpt_ext.batches.attention import install
from nngpt_ext.batches.rows import Example, Row, build_row, shared_length
from nngpt_ext.batches.tensors import answer_log_probs, make_batch, mask_dtype, masked_batch, parts_batch
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import quiet_transformers

log = logging.getLogger(__name__)

# `shared`: prefixes computed once, attention in parts; `masked`: the same behind one 4-D mask, whose cost grows
# with the square of a row; `plain`: one example a row.
ENGINES = ("shared", "masked", "plain")
# Largest difference of a summed log-probability that rounding explains, by the type computed in. Ignored
# masks and positions differ by a tenth and more in fp32 (tests/batches/test_guard.py); where rounding is
# coarser than that, `leak` and `positions_matter` tell, for they compare passes of one shape bit by bit.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
SAME = 1e-6  # of two passes that must do the same arithmetic
QUESTIONS = 4
HEAD, TAIL = 48, 16  # tokens of a question that is made short


def largest_difference(model: Any, group: Sequence[Example], pad: int, engine: str = "shared") -> float:
    """Largest difference between an engine's log-probabilities of answers and the plain ones, dropout off."""
    examples = list(group[:QUESTIONS])
    device, dtype = next(model.parameters()).device, mask_dtype(model)
    with torch.inference_mode():
        found = answer_log_probs(model, make_batch([examples], engine, dtype, pad).to(device))
        # One at a time: the check takes no more memory than a step of the slowest way.
        plain = torch.cat(
            [answer_log_probs(model, make_batch([[one]], "plain", dtype, pad).to(device)) for one in examples]
        )
    return float((found - plain).abs().max())


def leak(model: Any, group: Sequence[Example], engine: str) -> float:
    """How much the last question's answers change with the other questions' tokens: 0 where masks are kept."""
    row = build_row([list(group[:QUESTIONS])])
    last, seen = _last_question(row)
    others = np.where(seen, row.ids, row.ids[::-1])
    return _change(model, row, replace(row, ids=others.astype("int32")), last, engine)


def positions_matter(model: Any, group: Sequence[Example], engine: str) -> bool:
    """Whether the last question's answers change when its own tokens move up to the prefix's beginning."""
    row = build_row([list(group[:QUESTIONS])])
    last, seen = _last_question(row)
    shared = shared_length([example.prompt for example in group[:QUESTIONS]])
    moved = np.where(seen & (row.segments > 0), row.positions - shared, row.positions)
    return _change(model, row, replace(row, positions=moved.astype("int32")), last, engine) > 0


def has_gradient(model: Any, group: Sequence[Example], engine: str, pad: int) -> bool:
    """Whether the engine's way back runs on this device and gives numbers, seen on two questions made short."""
    short = [
        Example(np.concatenate([example.prompt[:HEAD], example.prompt[-TAIL:]]), example.answers)
        for example in group[:2]
    ]
    device, dtype = next(model.parameters()).device, mask_dtype(model)
    kept: list[torch.Tensor] = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda _module, _inputs, output: kept.append(output.requires_grad_())
    )
    try:
        with torch.enable_grad():
            total = answer_log_probs(model, make_batch([short], engine, dtype, pad).to(device)).sum()
            (gradient,) = torch.autograd.grad(total, kept[0])
    finally:
        hook.remove()
    return bool(gradient.isfinite().all())


def _last_question(row: Row) -> tuple[np.ndarray, np.ndarray]:
    """Which answers belong to the row's last question, shape (answers,), and which tokens they see, (length,)."""
    first_of = np.unique(row.answers, return_index=True)[1]  # of an answer the first place where it is predicted
    places = row.predict[first_of]
    last = places == places[-1]  # all options of a question begin behind its last token
    seen = row.visible()[row.predict[last[row.answers]]].any(axis=0)
    return last, seen


def _change(model: Any, row: Row, other: Row, answers: np.ndarray, engine: str) -> float:
    device, dtype = next(model.parameters()).device, mask_dtype(model)
    lay = parts_batch if engine == "shared" else masked_batch
    with torch.inference_mode():
        one, two = (answer_log_probs(model, lay(each, dtype).to(device)) for each in (row, other))
    return float((one - two)[torch.from_numpy(answers).to(device)].abs().max())


def checked_engine(model: Any, group: Sequence[Example], pad: int, engine: str, reach: int | None = None) -> str:
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
        reach: how many tokens the longest question with an option may ever have; by default those of the group.
            A model whose window is narrower sees less than a mask from outside would show it.

    Raises:
        UserError: where memory does not suffice for one network's questions.
    """
    if engine == "plain" or len(group) < 2:
        return "plain"
    before = model.config._attn_implementation
    was_training = model.training
    model.eval()
    reasons = []
    try:
        for way in ENGINES[ENGINES.index(engine) : -1]:
            reason = _fault(model, group, pad, way, reach or max(_length(example) for example in group))
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


def _length(example: Example) -> int:
    return len(example.prompt) + max(len(answer) for answer in example.answers)


def _window(model: Any) -> tuple[str, int] | None:
    """The model's own limit on how far a token looks back, and its name."""
    config = model.config.get_text_config()
    limits = [(name, getattr(config, name, None)) for name in ("sliding_window", "attention_chunk_size")]
    return min(((name, int(limit)) for name, limit in limits if limit), key=lambda one: one[1], default=None)


def _fault(model: Any, group: Sequence[Example], pad: int, engine: str, reach: int) -> str | None:
    """Why an engine cannot be used, or None."""
    window = _window(model)
    if window is not None and window[1] < reach:
        return f"questions may have {reach} tokens, which its {window[0]} {window[1]} does not show whole"
    try:
        if engine == "shared":
            dropout = getattr(model.config.get_text_config(), "attention_dropout", 0.0)
            if dropout:
                return f"attention in parts does not do attention dropout {dropout}"
            with quiet_transformers():  # it warns as well
                install(model)
        difference = largest_difference(model, group, pad, engine)
        leaked = leak(model, group, engine)
        placed = positions_matter(model, group, engine)
        sound = has_gradient(model, group, engine, pad)
    except torch.OutOfMemoryError:
        longest = max(len(example.prompt) for example in group)
        raise UserError(
            f"out of memory with one network's questions (a prompt of {longest:,} tokens): "
            "lower data.code_tokens, or use a smaller base model"
        ) from None
    except (TypeError, ValueError, RuntimeError, LookupError, AttributeError, ImportError) as error:
        return f"it refuses such rows ({type(error).__name__}: {' '.join(str(error).split())[:200]})"
    allowed = TOLERANCE.get(mask_dtype(model), 1e-3)
    if not difference <= allowed:  # a NaN as well
        return f"answers differ by {difference:.2g} in log-probability"
    if not leaked <= SAME:
        return f"questions see each other: an answer changes by {leaked:.2g} in log-probability"
    if not placed:
        return "it does not look at the positions that it is given"
    return None if sound else "its gradients are not finite"
