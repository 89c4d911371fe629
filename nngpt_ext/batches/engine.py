"""A check that shared prefixes are exact on a given model, before they are relied on."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from nngpt_ext.batches.attention import bare, install
from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.rows import Row, build_row, shared_length
from nngpt_ext.batches.tensors import Batch, answer_log_probs, make_batch, mask_dtype, masked_batch, parts_batch
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import quiet_transformers

log = logging.getLogger(__name__)

# `shared`: prefixes computed once, attention in parts; `masked`: the same behind one 4-D mask, whose cost is
# quadratic in the length of a row; `plain`: one example per row.
ENGINES = ("shared", "masked", "plain")
# Largest difference of a summed log-probability that rounding explains, by the dtype computed in. In 16 bits it may be
# larger on a large model, where it is measured (`rounding`). Ignored masks and positions differ by a tenth and more in
# fp32 (tests/batches/test_engine.py). Where rounding is coarser than that, `leak` and `positions_matter` find them:
# these compare passes of the same shape bit by bit.
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.1}
TIMES_ROUNDING = 4
# Likewise of gradients, relative to their size: 1e-6 was measured in fp32, 0.08 in bf16 on a model of 7B parameters
# (benchmarks/results/gpu-7b-nvidia-h200.json).
GRADIENT_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.3}
SAME = 1e-6  # of two passes that must do the same arithmetic
QUESTIONS = 4
HEAD, TAIL = 48, 16  # tokens of a shortened question
# By which architectures call the width of what a token sees.
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")


class _Refused(Exception):
    """The model does not compute a row of the engine."""


@contextmanager
def _by_engine() -> Iterator[None]:
    """Around a pass of a model on an engine's row: what it raises says that the engine cannot be used.

    Errors elsewhere, in plain passes too, are errors.
    """
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise _Refused(f"it refuses such rows ({type(error).__name__}: {reason})") from error


def largest_difference(
    model: Any, group: Sequence[Example], pad: int, engine: str = "shared", plain: torch.Tensor | None = None
) -> float:
    """Largest difference between an engine's log-probabilities of answers and the plain ones.

    The latter, shape (answers,), are computed unless they are given. The row has another network's questions before
    those of the group, as the rows of a run do.
    """
    plain = _one_by_one(model, group[:QUESTIONS], pad) if plain is None else plain
    others = [Example(example.prompt[: -HEAD - TAIL : -1], example.answers) for example in group[:2]]
    batch = make_batch([others, list(group[:QUESTIONS])], engine, mask_dtype(model), pad)
    with _by_engine():
        found = _scores(model, batch)[-len(plain) :]
    return float((found - plain).abs().max())


def rounding(model: Any, group: Sequence[Example], pad: int) -> float:
    """Largest difference between plain answers computed in several ways, which only rounding explains.

    One at a time, in one batch, and with attention as matrix products (`eager`), which rounds differently.
    """
    examples, dtype, before = list(group[:QUESTIONS]), mask_dtype(model), model.config._attn_implementation
    found = [_one_by_one(model, group[:QUESTIONS], pad), _scores(model, make_batch([examples], "plain", dtype, pad))]
    try:
        with quiet_transformers():
            model.set_attn_implementation("eager")
        found.append(_one_by_one(model, group[:QUESTIONS], pad))
    finally:
        model.set_attn_implementation(before)
    return float(max((other - found[0]).abs().max() for other in found[1:]))


def leak(model: Any, group: Sequence[Example], engine: str) -> float:
    """How much the last question's answers change with the other questions' tokens: 0 if masks are respected."""
    return _change(model, group, engine, lambda row, seen: replace(row, ids=np.where(seen, row.ids, row.ids[::-1])))


def positions_matter(model: Any, group: Sequence[Example], engine: str) -> bool:
    """Whether the last question's answers change when its own tokens move to the positions of the prefix."""
    shared = shared_length([example.prompt for example in group[:QUESTIONS]])

    def moved(row: Row, seen: np.ndarray) -> Row:
        return replace(row, positions=np.where(seen & (row.segments > 0), row.positions - shared, row.positions))

    return _change(model, group, engine, moved) > 0


def gradient_difference(model: Any, group: Sequence[Example], engine: str, pad: int) -> float:
    """Difference between an engine's gradient and the plain one, relative to the latter, on two shortened questions.

    The gradient is that of the embeddings, summed for each token of the vocabulary, since an engine computes the tokens
    of a shared prefix once. It is NaN if the engine's is.
    """
    short = [
        Example(np.concatenate([example.prompt[:HEAD], example.prompt[-TAIL:]]), example.answers)
        for example in group[:2]
    ]
    batches = [make_batch([short], way, mask_dtype(model), pad).to(_device(model)) for way in ("plain", engine)]
    tokens = torch.unique(torch.cat([batch.inputs["input_ids"].flatten() for batch in batches]))
    plain = _by_token(tokens, batches[0], _embedding_gradient(model, batches[0]))
    with _by_engine():
        found = _by_token(tokens, batches[1], _embedding_gradient(model, batches[1]))
    return float((found - plain).norm() / plain.norm())


def _by_token(tokens: torch.Tensor, batch: Batch, gradient: torch.Tensor) -> torch.Tensor:
    """The sums of the gradients of each token's places, shape (tokens, width); `tokens` are sorted."""
    rows = torch.searchsorted(tokens, batch.inputs["input_ids"].flatten())
    total = gradient.new_zeros(len(tokens), gradient.shape[-1], dtype=torch.float32)
    return total.index_add(0, rows, gradient.flatten(0, -2).float())


def _embedding_gradient(model: Any, batch: Batch) -> torch.Tensor:
    """The gradient of the sum of all answers by the output of the model's embedding layer, which has its shape."""
    embedded: list[torch.Tensor] = []
    hook = model.get_input_embeddings().register_forward_hook(
        lambda _module, _inputs, output: embedded.append(output.requires_grad_())
    )
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(answer_log_probs(model, batch).sum(), embedded[0])
    finally:
        hook.remove()
    return gradient


def _change(model: Any, group: Sequence[Example], engine: str, other: Callable[[Row, np.ndarray], Row]) -> float:
    """How much the last question's answers change if a row is replaced by `other(row, the tokens they see)`."""
    row = build_row([list(group[:QUESTIONS])])
    first_of = np.unique(row.answers, return_index=True)[1]  # the first place at which each answer is predicted
    places = row.predict[first_of]
    last = places == places[-1]  # all options of a question begin behind its last token
    seen = row.visible()[row.predict[last[row.answers]]].any(axis=0)
    lay, dtype = parts_batch if engine == "shared" else masked_batch, mask_dtype(model)
    batches = [lay(each, dtype) for each in (row, other(row, seen))]
    with _by_engine():
        one, two = (_scores(model, batch) for batch in batches)
    return float((one - two)[torch.from_numpy(last).to(one.device)].abs().max())


def _one_by_one(model: Any, examples: Sequence[Example], pad: int) -> torch.Tensor:
    """Plain log-probabilities of answers, computed in no more memory than a step of the plain engine takes."""
    return torch.cat([_scores(model, make_batch([[one]], "plain", mask_dtype(model), pad)) for one in examples])


def _scores(model: Any, batch: Batch) -> torch.Tensor:
    with torch.inference_mode():
        return answer_log_probs(model, batch.to(_device(model)))


def _device(model: Any) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device


def checked_engine(
    model: Any, group: Sequence[Example], pad: int, engine: str, reach: int | None = None, training: bool = False
) -> str:
    """`engine`, or the next one that is exact on this model, with one warning that says why.

    Inexact are for example models whose attention ignores a custom mask, sliding windows, ALiBi, and models that
    compute absolute positions themselves.

    Args:
        model: a causal language model. For `shared` its attention function is replaced
            (`nngpt_ext.batches.attention.install`), which changes nothing for other callers.
        group: examples of one network, preferably the longest one with both options: the first few are computed
            both ways. For a group of one the answer is `plain`, because there is nothing to share.
        pad: the padding token.
        engine: one of `ENGINES`.
        reach: the largest number of tokens that a question with an option may have; by default that of the group.
            A model with a narrower window sees less than a mask from outside would show it.
        training: whether the model, without an adapter, will also be trained: it is then tried as in training, too.

    Raises:
        UserError: if there is not enough memory for one network's questions.
        Exception: what the model raises on a question alone, which no engine would help.
    """
    if len(group) < 2 or engine == "plain":
        return "plain"
    before, was_training = model.config._attn_implementation, model.training
    reach = reach or max(len(one.prompt) + max(len(answer) for answer in one.answers) for one in group)
    reasons, plain = [], {}
    try:
        for mode in (True, False) if training else (False,):
            model.train(mode)
            plain[mode] = _one_by_one(model, group[:QUESTIONS], pad)  # by the model's own attention
        for way in ENGINES[ENGINES.index(engine) :]:
            reason = None if way == "plain" else _fault(model, group, pad, way, reach, plain)
            if reason is None:
                break
            reasons.append(f"{way}: {reason}")
            with quiet_transformers():
                model.set_attn_implementation(before)
    except torch.OutOfMemoryError:
        longest = max(len(example.prompt) for example in group)
        raise UserError(
            f"out of memory with one network's questions (a prompt of {longest:,} tokens): "
            "lower data.code_tokens, or use a smaller base model"
        ) from None
    finally:
        model.train(was_training)
    if reasons:
        log.warning(
            "shared prefixes are not exact on %s (%s); computing with tuning.engine %s instead",
            type(bare(model)).__name__, "; ".join(reasons), way,
        )  # fmt: skip
    return way


def _fault(
    model: Any, group: Sequence[Example], pad: int, engine: str, reach: int, plain: Mapping[bool, torch.Tensor]
) -> str | None:
    """Why an engine cannot be used, or None; `plain` has the right answers, in training and not."""
    config, dtype = model.config.get_text_config(), mask_dtype(model)
    for name in _WINDOWS:
        limit = getattr(config, name, None)
        if limit and limit < reach:
            return f"questions may have {reach} tokens, and its {name} is only {limit}"
    try:
        if engine == "shared":
            with _by_engine(), quiet_transformers():  # it warns as well
                install(model)
        for mode, right in plain.items():
            model.train(mode)
            difference, tolerance = largest_difference(model, group, pad, engine, right), TOLERANCE.get(dtype, 1e-3)
            if difference > tolerance and dtype != torch.float32:
                tolerance = max(tolerance, TIMES_ROUNDING * rounding(model, group, pad))
            if not difference <= tolerance:  # a NaN as well
                return f"answers differ by {difference:.2g} in log-probability{' in training' * mode}"
            difference = gradient_difference(model, group, engine, pad)
            if not difference <= GRADIENT_TOLERANCE.get(dtype, 1e-3):  # a NaN as well
                return f"its gradients differ by {100 * difference:.2g} %"
        leaked = leak(model, group, engine)
        if not leaked <= SAME:
            return f"questions see each other: an answer changes by {leaked:.2g} in log-probability"
        return None if positions_matter(model, group, engine) else "it ignores the positions that it is given"
    except _Refused as refused:
        return str(refused)
