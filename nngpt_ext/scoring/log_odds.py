"""Option scores: the log-odds of the first dataset offered against the second, for many questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from nngpt_ext.batches.rows import Example, build_row, pack, scoring_example

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
    advance: Callable[[int], None] | None = None,
) -> list[np.ndarray]:
    """Log p(option 1 and its stop token) − log p(option 2 and its stop token) of every question.

    Sums over tokens, no length normalisation, no sampling. The model's dropout must be off (`eval()`).

    Args:
        model: a causal language model, with or without an adapter.
        groups: the encoded questions of each network.
        row_tokens: tokens of one forward pass at most (one question alone may have more).
        pad: the padding token of the plain engine.
        engine: `shared` computes a network's common prefix once, `plain` every option by itself.
        advance: called with the number of questions just scored.

    Returns:
        For each group an array of shape (questions,), float64.
    """
    import torch

    from nngpt_ext.batches.tensors import answer_log_probs, mask_dtype, plain_batch, shared_batch

    examples = [[scoring_example(encoded) for encoded in group] for group in groups]
    result = [np.empty(len(group)) for group in groups]
    rows = pack(examples, row_tokens) if engine == "shared" else _plain_rows(examples)
    device, dtype = next(model.parameters()).device, mask_dtype(model)
    with torch.inference_mode():
        for row in rows:
            chosen = [[examples[part[0]][e] for e in part[1:]] for part in row]
            if engine == "shared":
                batch = shared_batch(build_row(chosen), dtype)
            else:
                batch = plain_batch([example for group in chosen for example in group], pad)
            scores = answer_log_probs(model, batch.to(device)).double().cpu().numpy().reshape(-1, 2)
            start = 0
            for part in row:
                part_scores = scores[start : start + len(part) - 1]
                result[part[0]][part[1:]] = part_scores[:, 0] - part_scores[:, 1]
                start += len(part) - 1
            if advance:
                advance(len(scores))
    return result


def _plain_rows(examples: Sequence[Sequence[Example]]) -> list[list[list[int]]]:
    """Batches of questions of like length, so that little is padded."""
    order = sorted(
        ((g, e) for g, group in enumerate(examples) for e in range(len(group))),
        key=lambda place: len(examples[place[0]][place[1]].prompt),
    )
    step = PLAIN_BATCH // 2  # two options a question
    return [[[g, e] for g, e in order[i : i + step]] for i in range(0, len(order), step)]
