"""Attention over shared prefixes on CUDA: a few calls of FlashAttention-2 over sequences of different lengths.

Every segment sees itself (causal), and what descends from a segment sees all of it: one call for the first, one for
each depth of the second, and one for cached keys. Their results are combined by their log-sum-exps, as on a CPU
(`nngpt_ext.batches.attention`). The kernels are torch's own (Dao 2023): nothing is compiled for a row's length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from nngpt_ext.batches.layout import Layout
from nngpt_ext.batches.rows import NO_PARENT, Row


@dataclass(frozen=True, eq=False)
class Call:
    """Sequences of queries, each of which sees one range of keys: the arguments of one call of a kernel."""

    queries: torch.Tensor | slice  # the index in the row of each query
    keys: torch.Tensor | slice  # the keys' indices: cached ones first, then the row's own
    query_ends: torch.Tensor  # (sequences + 1,), int32, from 0
    key_ends: torch.Tensor  # likewise
    longest: tuple[int, int]  # sequence of queries, of keys
    causal: bool


def calls_of(row: Row, cached: int, device: torch.device) -> list[Call]:
    """The calls for a row behind `cached` keys: the first has all queries, and none has a query or a key twice."""
    row = _merged(row)
    starts = np.searchsorted(row.segments, np.arange(len(row.parents)))  # segments are in order
    lengths = np.diff(np.append(starts, len(row.ids)))
    above = row.above()
    depths = above.sum(axis=1) - 1
    calls = [_call(slice(None), slice(cached, None), lengths, lengths, True, device)]
    if cached:
        calls.append(_call(slice(None), slice(0, cached), [len(row.ids)], [cached], False, device))
    for depth in range(depths.max()):
        seen = [s for s in np.flatnonzero(depths == depth) if above[:, s].sum() > 1]
        below = [np.flatnonzero(above[row.segments, s] & (row.segments != s)) for s in seen]
        keys = [cached + starts[s] + np.arange(lengths[s]) for s in seen]
        calls.append(_call(
            torch.from_numpy(np.concatenate(below)).to(device), torch.from_numpy(np.concatenate(keys)).to(device),
            [len(each) for each in below], lengths[seen], False, device,
        ))  # fmt: skip
    return calls


def _merged(row: Row) -> Row:
    """The row with only children, such as a single answer, merged into their parents, which they follow."""
    numbers, parents = np.arange(len(row.parents)), row.parents
    children = np.bincount(parents[parents != NO_PARENT], minlength=len(parents))
    merged = (parents != NO_PARENT) & (parents == numbers - 1) & (children[parents] == 1)
    places = np.append(np.cumsum(~merged) - 1, NO_PARENT)  # NO_PARENT is the last place
    return replace(row, segments=places[row.segments], parents=places[parents[~merged]])


def _call(
    queries: torch.Tensor | slice, keys: torch.Tensor | slice, n_queries: Any, n_keys: Any, causal: bool,
    device: torch.device,
) -> Call:  # fmt: skip
    query_ends, key_ends = (
        torch.from_numpy(np.append(0, np.cumsum(counts)).astype("int32")).to(device) for counts in (n_queries, n_keys)
    )
    return Call(queries, keys, query_ends, key_ends, (int(max(n_queries)), int(max(n_keys))), causal)


def flash_attention(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
) -> torch.Tensor:
    """Attention of a row in parts; arguments and result as of `nngpt_ext.batches.attention.attend`, without its mask.

    Returns:
        Shape (1, length, heads, size).

    Raises:
        RuntimeError: where the kernels do not run (cards before Ampere, fp32).
    """
    if "calls" not in layout.kept:  # all layers share them
        layout.kept["calls"] = calls_of(layout.row, layout.cached, query.device)
    by_token = (x[0].transpose(0, 1) for x in (query, key, value))
    result: torch.Tensor = _Flash.apply(*by_token, layout.kept["calls"], scale)
    return result[None]


class _Flash(torch.autograd.Function):
    """Query, key and value of shape (·, heads, size) to the output, shape (length, heads, size)."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, calls: Sequence[Call], scale: float
    ) -> torch.Tensor:
        first, *others = calls
        out, lse, state = _forward(query, key[first.keys], value[first.keys], first, scale)
        for call in others:
            at = call.queries
            part, part_lse, _ = _forward(query[at], key[call.keys], value[call.keys], call, scale)
            before = lse[:, at]
            both = torch.logaddexp(before, part_lse)
            kept, added = ((each - both).exp().T[..., None] for each in (before, part_lse))
            out[at] = (out[at] * kept + part * added).to(out.dtype)
            lse[:, at] = both
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.calls, ctx.scale, ctx.state = calls, scale, state
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        query, key, value, out, lse = ctx.saved_tensors
        totals = [torch.zeros_like(x) for x in (query, key, value)]
        for call in ctx.calls:
            at = call.queries
            parts = _backward(
                grad[at], query[at], key[call.keys], value[call.keys], out[at], lse[:, at], call, ctx.scale, ctx.state
            )
            for total, place, part in zip(totals, (at, call.keys, call.keys), parts, strict=True):
                if isinstance(place, slice):
                    total[place].add_(part)
                else:
                    total.index_add_(0, place, part)  # no place is there twice
        return *totals, None, None


def _forward(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, call: Call, scale: float
) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Output (queries, heads, size), log-sum-exps (heads, queries), and what the backward pass wants of dropout."""
    out, lse, state, offset, _ = torch.ops.aten._flash_attention_forward(
        query, key, value, call.query_ends, call.key_ends, *call.longest, 0.0, call.causal, False, scale=scale
    )
    return out, lse[:, : len(query)], (state, offset)


def _backward(
    grad: torch.Tensor, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, out: torch.Tensor,
    lse: torch.Tensor, call: Call, scale: float, state: tuple[torch.Tensor, torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:  # fmt: skip
    result: tuple[torch.Tensor, torch.Tensor, torch.Tensor] = torch.ops.aten._flash_attention_backward(
        grad.contiguous(), query, key, value, out, lse.contiguous(), call.query_ends, call.key_ends, *call.longest,
        0.0, call.causal, *state, scale=scale,
    )  # fmt: skip
    return result
