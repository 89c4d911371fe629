"""A check that shared prefixes are exact on a given model, before they are relied on."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from nngpt_ext.batches.attention import bare, install
from nngpt_ext.batches.cached import CachedPrefix
from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.plain import TOLERANCE, device_of, plain_pass, scores, scores_alone
from nngpt_ext.batches.rows import Row, build_row, own_length, shared_length, tokens_of
from nngpt_ext.batches.tensors import Batch, answer_log_probs, make_batch, mask_dtype, masked_batch, parts_batch
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import quiet_transformers

log = logging.getLogger(__name__)

# `shared`: prefixes computed once, attention in parts; `masked`: the same behind one 4-D mask, whose cost is
# quadratic in the length of a row; `plain`: one example per row.
ENGINES = ("shared", "masked", "plain")
TIMES_ROUNDING = 4
# Like `TOLERANCE`, of gradients and relative to their size: 1e-6 was measured in fp32, 0.08 in bf16 on a model of 7B
# parameters (benchmarks/results/gpu-7b-nvidia-h200.json).
GRADIENT_TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 0.3, torch.float16: 0.3}
SAME = 1e-6  # of two passes that must do the same arithmetic
QUESTIONS = 4
MASKED_TOKENS = 2048  # of the longest row that is tried behind one mask, whose cost is quadratic
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
    plain = scores_alone(model, group[:QUESTIONS], pad) if plain is None else plain
    others = [Example(example.prompt[: -HEAD - TAIL : -1], example.answers) for example in group[:2]]
    batch = make_batch([others, list(group[:QUESTIONS])], engine, mask_dtype(model), pad)
    with _by_engine():
        found = scores(model, batch)[-len(plain) :]
    return float((found - plain).abs().max())


def rounding(model: Any, group: Sequence[Example], pad: int) -> float:
    """Largest difference between plain answers computed in several ways, which only rounding explains.

    One at a time, in one batch, and with attention as matrix products (`eager`), which rounds differently.
    """
    examples, dtype, before = list(group[:QUESTIONS]), mask_dtype(model), model.config._attn_implementation
    found = [scores_alone(model, group[:QUESTIONS], pad), scores(model, make_batch([examples], "plain", dtype, pad))]
    try:
        with quiet_transformers():
            model.set_attn_implementation("eager")
        found.append(scores_alone(model, group[:QUESTIONS], pad))
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
    batches = [make_batch([short], way, mask_dtype(model), pad).to(device_of(model)) for way in ("plain", engine)]
    ids = [batch.inputs["input_ids"].flatten() for batch in batches]
    tokens = torch.unique(torch.cat(ids))
    with plain_pass(model):
        plain = _by_token(tokens, ids[0], _embedding_gradient(model, batches[0]))
    with _by_engine():
        found = _by_token(tokens, ids[1], _embedding_gradient(model, batches[1]))
    return float((found - plain).norm() / plain.norm())


def full_row(group: Sequence[Example], row_tokens: int) -> list[list[Example]]:
    """Groups that fill a row up to `row_tokens`, the group's first questions last; only these if no other fits.

    The group has at least two questions. The others are as large as the group is in a run, and each has a prefix of its
    own: the group's, reversed and turned.
    """
    last, shared = list(group[:QUESTIONS]), shared_length([example.prompt for example in group])
    own = np.cumsum([own_length(example, shared) for example in group])
    room, others = row_tokens - _tokens(last), list[list[Example]]()
    while room > own[1]:
        # The last one that fits has fewer questions, or a shorter prefix.
        prefix = np.roll(group[0].prompt[:shared][::-1], len(others))[: room - own[1]]
        chosen = group[: int(np.searchsorted(own, room - len(prefix), side="right"))]
        others.append([Example(np.concatenate([prefix, one.prompt[shared:]]), one.answers) for one in chosen])
        room -= _tokens(others[-1])
    return [*others, last]


def gradient_in_row(model: Any, groups: Sequence[Sequence[Example]], engine: str, pad: int) -> tuple[float, float]:
    """What is wrong with the gradient of the last group's answers in a row of `groups`, relative to the plain one.

    Each question has one answer, as in training.

    Returns:
        Its difference from the plain gradient, as in `gradient_difference`, and how much of it the other groups get.
    """
    one_each = [[Example(example.prompt, example.answers[:1]) for example in group] for group in groups]
    dtype, device, last = mask_dtype(model), device_of(model), one_each[-1]
    batch = make_batch(one_each, engine, dtype, pad).to(device)
    tokens = torch.unique(batch.inputs["input_ids"])
    start = batch.n_tokens - _tokens(last)
    with _by_engine():
        gradient = _embedding_gradient(model, batch, batch.n_answers - len(last)).flatten(0, -2)
    ids = batch.inputs["input_ids"].flatten()
    found, others = _by_token(tokens, ids[start:], gradient[start:]), float(gradient[:start].float().norm())
    del gradient
    plain = torch.zeros_like(found)
    for example in last:
        alone = make_batch([[example]], "plain", dtype, pad).to(device)
        plain += _by_token(tokens, alone.inputs["input_ids"], _embedding_gradient(model, alone))
    size = float(plain.norm())
    return float((found - plain).norm()) / size, others / size


def cached_difference(model: Any, group: Sequence[Example], plain: torch.Tensor) -> float:
    """Largest difference from plain answers if two pieces are computed behind a cached prefix; 0 if there is none."""
    few = list(group[:QUESTIONS])
    prefix = CachedPrefix(model, few)
    if not prefix.shared:
        return 0.0
    half = len(few) // 2
    with _by_engine(), torch.inference_mode():
        found = torch.cat([prefix.compute(piece, answer_log_probs) for piece in (few[:half], few[half:])])
    return float((found - plain).abs().max())


def _tokens(group: Sequence[Example]) -> int:
    """Tokens of a group in a row."""
    return tokens_of([group], [[0, *range(len(group))]])


def _by_token(tokens: torch.Tensor, ids: torch.Tensor, gradient: torch.Tensor) -> torch.Tensor:
    """The sums of the gradients of each token's places, shape (tokens, width); `tokens` are sorted."""
    rows = torch.searchsorted(tokens, ids.flatten())
    total = gradient.new_zeros(len(tokens), gradient.shape[-1], dtype=torch.float32)
    return total.index_add(0, rows, gradient.flatten(0, -2).float())


def _embedding_gradient(model: Any, batch: Batch, first: int = 0) -> torch.Tensor:
    """The gradient of the sum of the answers from `first` on by the embedding layer's output, which has its shape."""
    embedded: list[torch.Tensor] = []
    hook = model.get_input_embeddings().register_forward_hook(lambda _module, _inputs, output: _leaf(output, embedded))
    try:
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(answer_log_probs(model, batch)[first:].sum(), embedded[0])
    finally:
        hook.remove()
    return gradient


def _leaf(output: torch.Tensor, kept: list[torch.Tensor]) -> torch.Tensor:
    """Keep an output as one to whose gradient is asked; what goes on is a copy, which a model may change in place."""
    kept.append(output.requires_grad_())
    return output.clone()


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
        one, two = (scores(model, batch) for batch in batches)
    return float((one - two)[torch.from_numpy(last).to(one.device)].abs().max())


def checked_engine(
    model: Any, group: Sequence[Example], pad: int, engine: str, reach: int | None = None, training: bool = False,
    row_tokens: int | None = None,
) -> str:  # fmt: skip
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
        training: whether the model will also be trained: it is then tried as in training, too, even where nothing is
            shared. It may have an untrained adapter without dropout.
        row_tokens: the largest number of tokens of a row, of which one is tried; by default only short rows are.

    Raises:
        UserError: if there is not enough memory for one network's questions, or the model cannot compute a question
            alone, which no engine would help.
    """
    if len(group) < 2:
        engine = "plain"
    if not group or (engine == "plain" and not training):
        return "plain"
    before, was_training = model.config._attn_implementation, model.training
    reach = reach or max(len(one.prompt) + max(len(answer) for answer in one.answers) for one in group)
    reasons, plain = [], {}
    try:
        for mode in (True, False) if training else (False,):
            model.train(mode)
            plain[mode] = scores_alone(model, group[:QUESTIONS], pad)  # by the model's own attention
        for way in ENGINES[ENGINES.index(engine) :]:
            reason = None if way == "plain" else _fault(model, group, pad, way, reach, plain, row_tokens)
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
    model: Any, group: Sequence[Example], pad: int, engine: str, reach: int, plain: Mapping[bool, torch.Tensor],
    row_tokens: int | None,
) -> str | None:  # fmt: skip
    """Why an engine cannot be used, or None; `plain` has the right answers, in training and not."""
    config = model.config.get_text_config()
    for name in _WINDOWS:
        limit = getattr(config, name, None)
        if limit and limit < reach:
            return f"questions may have {reach} tokens, and its {name} is only {limit}"
    try:
        if engine == "shared":
            with _by_engine(), quiet_transformers():  # it warns as well
                install(model)
        return _short_fault(model, group, pad, engine, plain) or _long_fault(
            model, group, pad, engine, plain, row_tokens
        )
    except _Refused as refused:
        return str(refused)


def _short_fault(
    model: Any, group: Sequence[Example], pad: int, engine: str, plain: Mapping[bool, torch.Tensor]
) -> str | None:
    """What is wrong in a short row of two networks."""
    for mode, right in plain.items():
        model.train(mode)
        difference = largest_difference(model, group, pad, engine, right)
        if not _is_rounding(model, group, pad, difference):
            return f"answers differ by {difference:.2g} in log-probability{' in training' * mode}"
        difference = gradient_difference(model, group, engine, pad)
        if not difference <= _gradient_tolerance(model):  # a NaN as well
            return f"its gradients differ by {100 * difference:.2g} %"
    leaked = leak(model, group, engine)
    if not leaked <= SAME:
        return f"questions see each other: an answer changes by {leaked:.2g} in log-probability"
    return None if positions_matter(model, group, engine) else "it ignores the positions that it is given"


def _long_fault(
    model: Any, group: Sequence[Example], pad: int, engine: str, plain: Mapping[bool, torch.Tensor],
    row_tokens: int | None,
) -> str | None:  # fmt: skip
    """What is wrong behind a cached prefix or in a full row, the shapes of a run; None for what needs too much memory.

    A run divides what does not fit.
    """
    try:
        if engine == "shared":
            difference = cached_difference(model, group, plain[False])
            if not _is_rounding(model, group, pad, difference):
                return f"with a cached prefix, answers differ by {difference:.2g} in log-probability"
        groups = full_row(group, min(row_tokens or 0, MASKED_TOKENS if engine == "masked" else sys.maxsize))
        return _full_row_fault(model, groups, pad, engine, plain) if len(groups) > 1 else None
    except torch.OutOfMemoryError:
        pass
    log.info("not all of a full row could be tried: it does not fit into memory as a whole")
    torch.cuda.empty_cache()  # only here has the memory of the failed pass and its error been freed
    return None


def _full_row_fault(
    model: Any, groups: Sequence[Sequence[Example]], pad: int, engine: str, plain: Mapping[bool, torch.Tensor]
) -> str | None:
    """What is wrong in a row of `groups`, the last of which has the questions of `plain`; the first is compared too."""
    where, group = f"in a row of {sum(map(_tokens, groups)):,} tokens", groups[-1]
    batch = make_batch(groups, engine, mask_dtype(model), pad)
    with _by_engine():
        found = scores(model, batch)
    first, last = scores_alone(model, groups[0][:QUESTIONS], pad), plain[False]
    off = torch.cat([found[: len(first)] - first, found[-len(last) :] - last])
    difference = float(off.abs().max()) if found.isfinite().all() else math.nan
    if not _is_rounding(model, group, pad, difference):
        return f"{where}, answers differ by {difference:.2g} in log-probability"
    if True in plain:
        model.train()
        difference, others = gradient_in_row(model, groups, engine, pad)
        if not difference <= _gradient_tolerance(model):  # a NaN as well
            return f"{where}, its gradients differ by {100 * difference:.2g} %"
        if not others <= SAME:
            return f"{where}, other networks get {100 * others:.2g} % of a gradient"
    return None


def _is_rounding(model: Any, group: Sequence[Example], pad: int, difference: float) -> bool:
    """Whether rounding explains a difference of answers; it never explains a NaN."""
    dtype = mask_dtype(model)
    tolerance = TOLERANCE.get(dtype, 1e-3)
    if difference > tolerance and dtype != torch.float32:
        with suppress(torch.OutOfMemoryError):  # then rounding explains nothing
            tolerance = max(tolerance, TIMES_ROUNDING * rounding(model, group, pad))
    return difference <= tolerance


def _gradient_tolerance(model: Any) -> float:
    return GRADIENT_TOLERANCE.get(mask_dtype(model), 1e-3)
