"""What a model says to many questions: log-odds of the first dataset offered against the second, or scores of lines."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.rows import halves, own_length, pack, shared_length

if TYPE_CHECKING:
    import torch

log = logging.getLogger(__name__)

PLAIN_BATCH = 8  # rows of one forward pass where prefixes are not shared


def log_odds(
    model: Any,
    groups: Sequence[Sequence[Example]],
    *,
    row_tokens: int,
    pad: int,
    engine: str = "shared",
    plain_batch: int = PLAIN_BATCH,
    advance: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Log p(option 1 and its stop token) − log p(option 2 and its stop token) of every question.

    Sums over tokens, no length normalisation, no sampling. Arguments as in `scores`.

    Returns:
        For each group an array of shape (questions,), float64.
    """
    found = scores(
        model, groups, row_tokens=row_tokens, pad=pad, engine=engine, plain_batch=plain_batch, advance=advance
    )
    return [each[:, 0] - each[:, 1] for each in found]


def scores(
    model: Any,
    groups: Sequence[Sequence[Example]],
    *,
    row_tokens: int,
    pad: int,
    engine: str = "shared",
    head: str = "answer",
    plain_batch: int = PLAIN_BATCH,
    advance: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """The log-probability of every answer of every question, or every line's score.

    The model's dropout must be off (`eval()`).

    Args:
        model: a causal language model, with or without an adapter; for lines with a scoring head.
        groups: the encoded questions of each network, all with the same number of answers.
        row_tokens: tokens of one forward pass at most (one question alone may have more). With `shared`, a larger
            group is computed piece by piece with the cached keys and values of its prefix.
        pad: the padding token of the plain engine.
        engine: as `nngpt_ext.batches.engine.checked_engine` returned it for this model.
        head: what is computed, `answer` or `lines` (`tuning.head`).
        plain_batch: rows of a forward pass of the plain engine; two options make two rows.
        advance: called with the number of questions just scored.

    Returns:
        For each group an array of shape (questions, answers), float64; a line has one.
    """
    import torch

    from nngpt_ext.batches.tensors import answer_log_probs, line_scores, make_batch, mask_dtype

    compute = line_scores if head == "lines" else answer_log_probs
    width = next((len(example.answers) for group in groups for example in group), 1)
    result = [np.empty((len(group), width)) for group in groups]
    device, dtype = next(model.parameters()).device, mask_dtype(model)

    def scored(row: Sequence[Sequence[int]]) -> torch.Tensor:
        chosen = [[groups[g][e] for e in numbers] for g, *numbers in row]
        return compute(model, make_batch(chosen, engine, dtype, pad).to(device)).view(-1, width)

    large = [g for g, group in enumerate(groups) if engine == "shared" and _is_large(group, row_tokens)]
    if engine == "plain":
        rows = _plain_rows(groups, max(1, plain_batch // width))
    else:
        rows = pack([[] if g in large else group for g, group in enumerate(groups)], row_tokens)
    with torch.inference_mode():
        cached = (_with_cache(model, g, groups[g], row_tokens, compute) for g in large)
        told: list[bool] = []
        for score, given in itertools.chain([(scored, rows)], cached):
            for row, values in _within_memory(score, given, told):
                start = 0
                for g, *numbers in row:
                    result[g][numbers] = values[start : start + len(numbers)]
                    start += len(numbers)
                if advance:
                    advance(start)
    return result


Rows = list[list[list[int]]]
Scorer = Callable[[Sequence[Sequence[int]]], Any]


def _within_memory(score: Scorer, rows: Rows, told: list[bool]) -> Iterator[tuple[list[list[int]], np.ndarray]]:
    """The scores of each row's questions; a row that does not fit into memory is halved, down to one question.

    `told` is filled after the first warning.
    """
    import torch

    waiting = rows[::-1]
    while waiting:
        row, values = waiting.pop(), None
        try:
            values = score(row).double().cpu().numpy()
        except torch.OutOfMemoryError:
            if sum(len(numbers) for _, *numbers in row) == 1:
                raise
        if values is None:  # only here has the memory of the failed pass and its error been freed
            if not told:
                log.warning("out of memory: scoring in halves what does not fit; a lower tuning.row_tokens avoids this")
                told.append(True)
            torch.cuda.empty_cache()
            waiting += halves(row)[::-1]
            continue
        yield row, values


def _is_large(group: Sequence[Example], row_tokens: int) -> bool:
    """Whether a group does not fit into a row and has a shared prefix."""
    shared = shared_length([example.prompt for example in group])
    return shared > 0 and shared + sum(own_length(example, shared) for example in group) > row_tokens


def _with_cache(
    model: Any, number: int, group: Sequence[Example], row_tokens: int, compute: Callable[..., Any]
) -> tuple[Scorer, Rows]:
    """How to score a group in pieces of at most `row_tokens`; its prefix's keys and values are computed once."""
    from nngpt_ext.batches.cached import CachedPrefix

    prefix = CachedPrefix(model, group)

    def scored(row: Sequence[Sequence[int]]) -> torch.Tensor:
        chosen = [group[e] for _, *numbers in row for e in numbers]
        return prefix.compute(chosen, compute).view(-1, len(group[0].answers))

    own = [[Example(example.prompt[prefix.shared :], example.answers)] for example in group]
    pieces = [[[number, *(part[0] for part in row)]] for row in pack(own, row_tokens)]
    return scored, pieces


def _plain_rows(examples: Sequence[Sequence[Example]], step: int) -> list[list[list[int]]]:
    """Batches of questions of similar length, so that little is padded."""
    order = sorted(
        ((g, e) for g, group in enumerate(examples) for e in range(len(group))),
        key=lambda place: len(examples[place[0]][place[1]].prompt),
    )
    return [[[g, e] for g, e in order[i : i + step]] for i in range(0, len(order), step)]
