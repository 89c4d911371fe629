"""Rows as tensors for a model, the log-probabilities of answers from its logits, and the scores of lines."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from nngpt_ext.batches.attention import bare, installed
from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.layout import layout_of
from nngpt_ext.batches.rows import Row, build_row
from nngpt_ext.models.heads import body


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of one forward pass, and where its answers are predicted."""

    inputs: dict[str, Any]  # input_ids, attention_mask, position_ids, and a layout if attention is in parts
    keep: torch.Tensor  # (kept,): positions whose logits are needed
    row: torch.Tensor  # (targets,): row of the batch
    column: torch.Tensor  # (targets,): index into `keep`
    targets: torch.Tensor  # (targets,)
    answers: torch.Tensor  # (targets,)
    n_answers: int
    n_tokens: int  # without padding

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        moved: dict[str, Any] = {"inputs": {name: value.to(device) for name, value in self.inputs.items()}}
        moved |= {name: value.to(device) for name, value in vars(self).items() if isinstance(value, torch.Tensor)}
        return replace(self, **moved)


def make_batch(groups: Sequence[Sequence[Example]], engine: str, dtype: torch.dtype, pad: int) -> Batch:
    """The batch of one forward pass over groups of examples for an engine of `nngpt_ext.batches.engine`."""
    if engine == "plain":
        return plain_batch([example for group in groups for example in group], pad)
    row = build_row(groups)
    return parts_batch(row, dtype) if engine == "shared" else masked_batch(row, dtype)


def parts_batch(row: Row, dtype: torch.dtype, cached: int = 0) -> Batch:
    """One row with its layout, for a model that attends by `nngpt_ext.batches.attention`."""
    # A mask of four dimensions keeps the model from making one itself.
    return _row_batch(row, torch.zeros(1, 1, 1, 1, dtype=dtype), layout=layout_of(row, cached))


def masked_batch(row: Row, dtype: torch.dtype) -> Batch:
    """One row with its 4-D mask, which is additive because eager attention silently misreads a bool mask."""
    mask = torch.zeros(1, 1, len(row.ids), len(row.ids), dtype=dtype)
    mask.masked_fill_(torch.from_numpy(~row.visible()), torch.finfo(dtype).min)
    return _row_batch(row, mask)


def _row_batch(row: Row, mask: torch.Tensor, **more: Any) -> Batch:
    ids, positions = (torch.from_numpy(array).long()[None] for array in (row.ids, row.positions))
    return _batch([row], input_ids=ids, attention_mask=mask, position_ids=positions, **more)


def plain_batch(examples: Sequence[Example], pad: int) -> Batch:
    """One example per row, padded on the right, as ordinary fine-tuners do; two options make two rows."""
    rows = [build_row([[Example(e.prompt, (answer,))]]) for e in examples for answer in e.answers]
    each = [torch.from_numpy(row.ids).long() for row in rows]
    ids = pad_sequence(each, batch_first=True, padding_value=pad)
    mask = pad_sequence([torch.ones_like(one) for one in each], batch_first=True)
    positions = torch.arange(ids.shape[1]).expand_as(ids).contiguous()
    return _batch(rows, input_ids=ids, attention_mask=mask, position_ids=positions)


def _batch(rows: Sequence[Row], **inputs: Any) -> Batch:
    predict = np.concatenate([row.predict for row in rows])
    keep, column = np.unique(predict, return_inverse=True)
    counts = [row.n_answers for row in rows]
    first = np.cumsum([0, *counts[:-1]])
    return Batch(
        inputs,
        torch.from_numpy(keep).long(),
        torch.from_numpy(np.repeat(np.arange(len(rows)), [len(row.predict) for row in rows])).long(),
        torch.from_numpy(column).long(),
        torch.from_numpy(np.concatenate([row.targets for row in rows])).long(),
        torch.from_numpy(np.concatenate([row.answers + f for row, f in zip(rows, first, strict=True)])).long(),
        sum(counts),
        sum(len(row.ids) for row in rows),
    )


def answer_log_probs(model: Any, batch: Batch, cache: Any = None) -> torch.Tensor:
    """Sum over an answer's tokens of their log-probabilities, shape (answers,), float32.

    Only positions that predict an answer go through the language-model head, if the model allows it.
    `cache` contains the keys and values of a prefix of the batch, if it has been computed before.
    """
    inputs = _inputs(model, batch, cache)
    with compute_context(model):
        if takes_positions(model):
            logits = model(**inputs, use_cache=False, logits_to_keep=batch.keep).logits
        else:
            logits = model(**inputs, use_cache=False).logits[:, batch.keep]
    chosen = logits[batch.row, batch.column].float()
    each = torch.log_softmax(chosen, dim=-1).gather(1, batch.targets[:, None])[:, 0]
    return each.new_zeros(batch.n_answers).index_add(0, batch.answers, each)


def line_scores(model: Any, batch: Batch, cache: Any = None) -> torch.Tensor:
    """The score of each line: a linear function of the last hidden state at its last token.

    Returns:
        Shape (lines,), in the head's dtype.

    Args:
        model: with a scoring head (`nngpt_ext.models.heads`).
        batch: of lines.
        cache: keys and values of a prefix of the batch, if it has been computed before.
    """
    inner = bare(model)
    with compute_context(model):
        states = body(inner)(**_inputs(model, batch, cache), use_cache=False).last_hidden_state
    read = states[batch.row, batch.keep[batch.column]].to(inner.score.weight.dtype)
    scores: torch.Tensor = inner.score(read)[:, 0]
    return scores


def _inputs(model: Any, batch: Batch, cache: Any) -> dict[str, Any]:
    if "layout" in batch.inputs and not installed(model):  # it would ignore the layout and see everything
        raise RuntimeError("this model does not attend in parts; see nngpt_ext.batches.engine.checked_engine")
    return batch.inputs if cache is None else {**batch.inputs, "past_key_values": cache}


def compute_context(model: Any) -> AbstractContextManager[Any]:
    """How a model computes in training, validation and scoring alike: on a GPU in its own 16-bit dtype, LoRA too."""
    device, dtype = next(model.parameters()).device.type, mask_dtype(model)
    return torch.autocast(device, dtype, enabled=device == "cuda" and dtype != torch.float32)


def takes_positions(model: Any) -> bool:
    """Whether the model can compute logits for some positions only (transformers' `logits_to_keep`)."""
    return "logits_to_keep" in inspect.signature(type(bare(model)).forward).parameters


def mask_dtype(model: Any) -> torch.dtype:
    """The dtype that the model computes in and a mask must have: the embeddings', which are never quantised."""
    dtype: torch.dtype = model.get_input_embeddings().weight.dtype
    return dtype
