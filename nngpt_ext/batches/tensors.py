"""Rows as tensors for a model, and the log-probabilities of answers from its logits."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from nngpt_ext.batches.attention import installed
from nngpt_ext.batches.layout import layout_of
from nngpt_ext.batches.rows import Example, Row, build_row

PLACES = ("keep", "row", "column", "targets", "answers")


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of one forward pass and where its answers are predicted."""

    inputs: dict[str, Any]  # input_ids, attention_mask, position_ids, and a layout where attention is in parts
    keep: torch.Tensor  # (kept,): positions whose logits are needed
    row: torch.Tensor  # (targets,): row of the batch
    column: torch.Tensor  # (targets,): index into `keep`
    targets: torch.Tensor  # (targets,)
    answers: torch.Tensor  # (targets,)
    n_answers: int
    n_tokens: int  # computed, padding left out

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        moved = {name: value.to(device) for name, value in self.inputs.items()}
        places = {name: getattr(self, name).to(device) for name in PLACES}
        return replace(self, inputs=moved, **places)


def make_batch(groups: Sequence[Sequence[Example]], engine: str, dtype: torch.dtype, pad: int) -> Batch:
    """The batch of one forward pass over groups of examples, in the engine's way (`nngpt_ext.batches.engine`)."""
    if engine == "plain":
        return plain_batch([example for group in groups for example in group], pad)
    row = build_row(groups)
    return parts_batch(row, dtype) if engine == "shared" else masked_batch(row, dtype)


def parts_batch(row: Row, dtype: torch.dtype, cached: int = 0) -> Batch:
    """One row with its layout, for a model that attends by `nngpt_ext.batches.attention`."""
    inputs = {
        "input_ids": torch.from_numpy(row.ids).long()[None],
        "attention_mask": torch.zeros(1, 1, 1, 1, dtype=dtype),  # of four dimensions: the model makes none itself
        "position_ids": torch.from_numpy(row.positions).long()[None],
        "layout": layout_of(row, cached),
    }
    return _batch(inputs, [row])


def masked_batch(row: Row, dtype: torch.dtype) -> Batch:
    """One row with its 4-D mask, additive: eager attention reads a bool mask silently wrong."""
    mask = torch.zeros(1, 1, len(row.ids), len(row.ids), dtype=dtype)
    mask.masked_fill_(torch.from_numpy(~row.visible()), torch.finfo(dtype).min)
    inputs = {
        "input_ids": torch.from_numpy(row.ids).long()[None],
        "attention_mask": mask,
        "position_ids": torch.from_numpy(row.positions).long()[None],
    }
    return _batch(inputs, [row])


def plain_batch(examples: Sequence[Example], pad: int) -> Batch:
    """One example a row, padded on the right: what every fine-tuner does. Two options make two rows."""
    rows = [build_row([[Example(e.prompt, (answer,))]]) for e in examples for answer in e.answers]
    longest = max(len(row.ids) for row in rows)
    ids = np.full((len(rows), longest), pad, dtype="int64")
    mask = np.zeros((len(rows), longest), dtype="int64")
    for i, row in enumerate(rows):
        ids[i, : len(row.ids)] = row.ids
        mask[i, : len(row.ids)] = 1
    inputs = {
        "input_ids": torch.from_numpy(ids),
        "attention_mask": torch.from_numpy(mask),
        "position_ids": torch.arange(longest).expand(len(rows), longest).contiguous(),
    }
    return _batch(inputs, rows)


def _batch(inputs: dict[str, Any], rows: Sequence[Row]) -> Batch:
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

    Only positions that predict an answer go through the language-model head, where the model allows it.
    `cache` holds the keys and values that stand before the batch, if any do.
    """
    inputs = batch.inputs if cache is None else {**batch.inputs, "past_key_values": cache}
    if "layout" in inputs and not installed(model):  # it would ignore the layout, and see everything
        raise RuntimeError("this model does not attend in parts; see nngpt_ext.batches.engine.checked_engine")
    if takes_positions(model):
        logits = model(**inputs, use_cache=False, logits_to_keep=batch.keep).logits
    else:
        logits = model(**inputs, use_cache=False).logits[:, batch.keep]
    chosen = logits[batch.row, batch.column].float()
    each = torch.log_softmax(chosen, dim=-1).gather(1, batch.targets[:, None])[:, 0]
    return each.new_zeros(batch.n_answers).index_add(0, batch.answers, each)


def takes_positions(model: Any) -> bool:
    """Whether the model computes logits only where asked (transformers' `logits_to_keep`)."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return "logits_to_keep" in inspect.signature(type(inner).forward).parameters


def mask_dtype(model: Any) -> torch.dtype:
    """The type that the model computes in: a mask must have it. Quantised weights do not tell, embeddings do."""
    dtype: torch.dtype = model.get_input_embeddings().weight.dtype
    return dtype
