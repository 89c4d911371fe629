"""Option scores: the log-odds of the first dataset offered against the second, for many questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nngpt_ext.batches.rows import Example, build_row, own_length, pack, scoring_example, shared_length

if TYPE_CHECKING:
    from nngpt_ext.batches.encode import Encoded

PLAIN_BATCH = 8  # rows of one forward pass where prefixes are not shared


def log_odds(
    model: Any,
    groups: Sequence[Sequence[Encoded]],
    *,
    row_tokens: int,
    pad: int,
    engine: str = "shared",
    plain_batch: int = PLAIN_BATCH,
    advance: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Log p(option 1 and its stop token) − log p(option 2 and its stop token) of every question.

    Sums over tokens, no length normalisation, no sampling. The model's dropout must be off (`eval()`).

    Args:
        model: a causal language model, with or without an adapter.
        groups: the encoded questions of each network.
        row_tokens: tokens of one forward pass at most (one question alone may have more). With `shared`, a
            group that is larger is computed piece by piece behind its prefix's keys and values.
        pad: the padding token of the plain engine.
        engine: as `nngpt_ext.batches.guard.checked_engine` gave it for this model.
        plain_batch: rows of a forward pass of the plain engine; two options make two rows.
        advance: called with the number of questions just scored.

    Returns:
        For each group an array of shape (questions,), float64.
    """
    import torch

    from nngpt_ext.batches.tensors import answer_log_probs, make_batch, mask_dtype

    examples = [[scoring_example(encoded) for encoded in group] for group in groups]
    result = [np.empty(len(group)) for group in groups]
    large = {g for g, group in enumerate(examples) if engine == "shared" and _tokens(group) > row_tokens}
    if engine == "plain":
        rows = _plain_rows(examples, max(1, plain_batch // 2))
    else:
        rows = pack([[] if g in large else group for g, group in enumerate(examples)], row_tokens)
    device, dtype = next(model.parameters()).device, mask_dtype(model)
    with torch.inference_mode():
        for row in rows:
            chosen = [[examples[part[0]][e] for e in part[1:]] for part in row]
            batch = make_batch(chosen, engine, dtype, pad).to(device)
            scores = answer_log_probs(model, batch).double().cpu().numpy().reshape(-1, 2)
            start = 0
            for part in row:
                part_scores = scores[start : start + len(part) - 1]
                result[part[0]][part[1:]] = part_scores[:, 0] - part_scores[:, 1]
                start += len(part) - 1
            if advance:
                advance(len(scores))
        for g in sorted(large):
            done = 0
            for scores in _behind_cache(model, examples[g], row_tokens):
                result[g][done : done + len(scores)] = scores[:, 0] - scores[:, 1]
                done += len(scores)
                if advance:
                    advance(len(scores))
    return result


def _tokens(group: Sequence[Example]) -> int:
    shared = shared_length([example.prompt for example in group])
    return shared + sum(own_length(example, shared) for example in group)


def _behind_cache(model: Any, group: Sequence[Example], row_tokens: int) -> Iterator[np.ndarray]:
    """Score a group in pieces of at most `row_tokens`, with the keys and values of its prefix computed once."""
    import torch
    from transformers import DynamicCache

    from nngpt_ext.batches.tensors import answer_log_probs, mask_dtype, parts_batch

    device, dtype = next(model.parameters()).device, mask_dtype(model)
    shared = shared_length([example.prompt for example in group])
    cache: Any = DynamicCache()
    if shared:
        prefix = torch.from_numpy(group[0].prompt[:shared]).long()[None].to(device)
        model(input_ids=prefix, past_key_values=cache, use_cache=True, logits_to_keep=1)
    own = [[Example(example.prompt[shared:], example.answers)] for example in group]
    for row in pack(own, row_tokens):
        chosen = [group[part[0]] for part in row]
        batch = parts_batch(build_row([chosen], cached=shared), dtype, cached=shared).to(device)
        again = DynamicCache()  # a pass adds its own keys; what crops a cache differs from version to version
        for number, layer in enumerate(cache.layers):
            again.update(layer.keys, layer.values, number)
        yield answer_log_probs(model, batch, again).double().cpu().numpy().reshape(-1, 2)


def _plain_rows(examples: Sequence[Sequence[Example]], step: int) -> list[list[list[int]]]:
    """Batches of questions of like length, so that little is padded."""
    order = sorted(
        ((g, e) for g, group in enumerate(examples) for e in range(len(group))),
        key=lambda place: len(examples[place[0]][place[1]].prompt),
    )
    return [[[g, e] for g, e in order[i : i + step]] for i in range(0, len(order), step)]
