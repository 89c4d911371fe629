"""The parts for CUDA are attention behind the row's mask, too: their algebra anywhere, the kernels on a GPU."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.batches import flash
from nngpt_ext.batches.flash import Call, calls_of, flash_attention
from nngpt_ext.batches.layout import layout_of
from tests.batches.test_attention import HEADS, KEY_HEADS, LENGTHS, behind_a_mask, drawn, row_of


def sequences(call: Call) -> list[tuple[slice, slice]]:
    ends = [each.tolist() for each in (call.query_ends, call.key_ends)]
    return [(slice(*queries), slice(*keys)) for queries, keys in zip(*map(itertools.pairwise, ends), strict=True)]


def scores(query: torch.Tensor, key: torch.Tensor, causal: bool, scale: float) -> torch.Tensor:
    found = torch.einsum("qhd,khd->hqk", query, key.repeat_interleave(HEADS // KEY_HEADS, 1)) * scale
    return found.masked_fill(torch.ones(found.shape[1:]).triu(1).bool(), -torch.inf) if causal else found


def plain_forward(query: Any, key: Any, value: Any, call: Call, scale: float) -> Any:
    """What torch's kernel computes, by definition."""
    out, lse = torch.empty_like(query), query.new_empty(HEADS, len(query))
    for q, k in sequences(call):
        found = scores(query[q], key[k], call.causal, scale)
        out[q] = torch.einsum("hqk,khd->qhd", found.softmax(-1), value[k].repeat_interleave(HEADS // KEY_HEADS, 1))
        lse[:, q] = found.logsumexp(-1)
    return out, lse, (torch.empty(0), torch.empty(0))


def plain_backward(
    grad: Any, query: Any, key: Any, value: Any, out: Any, lse: Any, call: Call, scale: float, _: Any
) -> Any:
    """Likewise: the gradients of weights that are normalised by a log-sum-exp from outside."""
    totals = [torch.zeros_like(x) for x in (query, key, value)]
    for q, k in sequences(call):
        with torch.enable_grad():
            given = [x.detach().requires_grad_() for x in (query[q], key[k], value[k])]
            weights = (scores(given[0], given[1], call.causal, scale) - lse[:, q, None]).exp()
            part = torch.einsum("hqk,khd->qhd", weights, given[2].repeat_interleave(HEADS // KEY_HEADS, 1))
            # d softmax = weights · (d − Σ d·out): the second term is that of the whole row.
            share = (grad[q] * out[q]).sum(-1).T[..., None]
            total = (part * grad[q]).sum() - (weights * share.detach()).sum()
        for place, gradient in zip(
            ((totals[0], q), (totals[1], k), (totals[2], k)), torch.autograd.grad(total, given), strict=True
        ):
            place[0][place[1]] += gradient
    return totals


@given(LENGTHS, st.sampled_from([0, 1, 5]))
def test_values_and_gradients(groups: list[list[tuple[int, list[int]]]], cached: int) -> None:
    row = row_of(groups[:1] if cached else groups, cached)
    n = len(row.ids)
    tensors = drawn(n, cached + n, torch.float64)
    visible = np.hstack([np.ones((n, cached), dtype=bool), row.visible()])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flash, "_forward", plain_forward)  # torch has these kernels for CUDA only
        patch.setattr(flash, "_backward", plain_backward)
        found = flash_attention(*tensors, layout_of(row, cached), 0.3)
        expected = behind_a_mask(tensors, visible)
        assert found.shape == expected.shape
        assert (found - expected).abs().max() < 1e-10
        weights = torch.randn_like(found)
        for one, other in zip(
            torch.autograd.grad(found, tensors, weights), torch.autograd.grad(expected, tensors, weights), strict=True
        ):
            assert (one - other).norm() <= 1e-10 * other.norm() + 1e-10


@given(LENGTHS, st.sampled_from([0, 3]))
def test_no_call_has_a_token_twice(groups: list[list[tuple[int, list[int]]]], cached: int) -> None:
    row = row_of(groups[:1] if cached else groups, cached)
    calls = calls_of(row, cached, torch.device("cpu"))
    options = any(len(lengths) > 1 for group in groups[: 1 if cached else None] for _, lengths in group)
    assert len(calls) <= 2 + (1 if options else 0) + bool(cached)
    for call in calls:
        for places in (call.queries, call.keys):
            assert not isinstance(places, torch.Tensor) or len(places.unique()) == len(places)
        assert (call.key_ends.diff() > 0).all()  # of no keys, the kernels' log-sum-exp is +inf (docs/LOG.md)
    assert calls[0].queries == slice(None)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("cached", [0, 300])
@pytest.mark.parametrize("options", [[3], [3, 4]])
def test_the_kernels(cached: int, options: list[int]) -> None:
    groups = [[(5 + i, options) for i in range(12)]] * (1 if cached else 3)
    row = row_of(groups, cached)
    n = len(row.ids)
    torch.manual_seed(0)
    shapes = ((HEADS, n), (KEY_HEADS, cached + n), (KEY_HEADS, cached + n))
    tensors = [torch.randn(1, h, k, 64).bfloat16().double().requires_grad_() for h, k in shapes]
    given = [x.detach().bfloat16().cuda().requires_grad_() for x in tensors]
    found = flash_attention(*given, layout_of(row, cached), 0.125)
    expected = behind_a_mask(tuple(tensors), np.hstack([np.ones((n, cached), dtype=bool), row.visible()]), 0.125)
    assert (found.cpu() - expected).norm() < 0.01 * expected.norm()
    weights = torch.randn_like(expected)
    for one, other in zip(
        torch.autograd.grad(found, given, weights.bfloat16().cuda()),
        torch.autograd.grad(expected, tensors, weights.bfloat16().double()), strict=True,
    ):  # fmt: skip
        assert (one.cpu() - other).norm() < 0.01 * other.norm()
