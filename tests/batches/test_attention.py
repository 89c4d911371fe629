"""Attention in parts is attention behind the row's mask: values and gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.batches.attention import attend, install, installed
from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.layout import Layout, layout_of
from nngpt_ext.batches.rows import Row, build_row
from tests import models_made

HEADS, KEY_HEADS, SIZE = 4, 2, 8


def row_of(groups: list[list[tuple[int, list[int]]]], cached: int = 0) -> Row:
    """Rows by lengths: of each question's own tokens and of its options."""

    def example(g: int, e: int, own: int, options: list[int]) -> Example:
        prompt = np.array([100 + g] * max(5, cached) + [200 + e] + [7] * own, dtype="int32")
        return Example(prompt, tuple(np.full(n, 3, dtype="int32") for n in options))

    made = [[example(g, e, *lengths) for e, lengths in enumerate(group)] for g, group in enumerate(groups)]
    return build_row(made, cached=cached)


def drawn(length: int, keys: int, dtype: torch.dtype = torch.float32) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(length)
    shapes = ((HEADS, length), (KEY_HEADS, keys), (KEY_HEADS, keys))
    return tuple((2 * torch.randn(1, heads, n, SIZE)).to(dtype).requires_grad_() for heads, n in shapes)


def in_parts(tensors: tuple[torch.Tensor, ...], layout: Layout) -> torch.Tensor:
    return attend(torch.nn.Module(), *tensors, None, scaling=0.3, layout=layout)[0]


def behind_a_mask(tensors: tuple[torch.Tensor, ...], visible: np.ndarray, scale: float = 0.3) -> torch.Tensor:
    """By definition: softmax(q kᵀ · scale) v over what is visible."""
    query, key, value = tensors
    key, value = (x.repeat_interleave(HEADS // KEY_HEADS, dim=1).double() for x in (key, value))
    scores = (query.double() @ key.transpose(2, 3)) * scale
    weights = torch.softmax(scores.masked_fill(~torch.from_numpy(visible), -torch.inf), dim=-1)
    return (weights @ value).transpose(1, 2)


LENGTHS = st.lists(
    st.lists(st.tuples(st.integers(0, 5), st.lists(st.integers(1, 3), min_size=1, max_size=2)), min_size=1, max_size=5),
    min_size=1,
    max_size=3,
)


@given(LENGTHS)
def test_values_and_gradients(groups: list[list[tuple[int, list[int]]]]) -> None:
    row = row_of(groups)
    tensors = drawn(len(row.ids), len(row.ids))
    found, expected = in_parts(tensors, layout_of(row)), behind_a_mask(tensors, row.visible())
    assert found.shape == (1, len(row.ids), HEADS, SIZE)
    assert (found - expected).abs().max() < 1e-5
    weights = torch.randn_like(found)
    for one, other in zip(
        torch.autograd.grad(found, tensors, weights),
        torch.autograd.grad(expected, tensors, weights.double()),
        strict=True,
    ):
        assert (one - other).norm() <= 1e-5 * other.norm() + 1e-6


@given(LENGTHS, st.sampled_from([1, 3, 5]))
def test_behind_cached_keys(groups: list[list[tuple[int, list[int]]]], cached: int) -> None:
    row = row_of(groups[:1], cached)
    n = len(row.ids)
    tensors = drawn(n, cached + n)
    visible = np.hstack([np.ones((n, cached), dtype=bool), row.visible()])
    found = in_parts(tensors, layout_of(row, cached))
    assert (found - behind_a_mask(tensors, visible)).abs().max() < 1e-5


def test_half_precision() -> None:
    row = row_of([[(4, [1, 3]), (5, [2, 2]), (1, [1])]])
    tensors = drawn(len(row.ids), len(row.ids), torch.bfloat16)
    found = in_parts(tensors, layout_of(row))
    assert found.dtype == torch.bfloat16
    assert (found - behind_a_mask(tensors, row.visible())).abs().max() < 0.05


def test_without_a_layout_it_is_transformers_own() -> None:
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    module = torch.nn.Module()
    module.num_key_value_groups = HEADS // KEY_HEADS
    tensors = drawn(9, 9)
    mask = torch.zeros(1, 1, 9, 9).masked_fill_(torch.ones(9, 9).triu(1).bool(), -torch.inf)
    one = attend(module, *tensors, mask, scaling=0.3)[0]
    assert torch.equal(one, sdpa_attention_forward(module, *tensors, mask, scaling=0.3)[0])


@pytest.mark.parametrize(
    ("asked", "named"),
    [({"softcap": 30.0}, "softcap"), ({"s_aux": torch.ones(HEADS)}, "s_aux"), ({"dropout": 0.1}, "dropout 0.1"),
     ({"sliding_window": 6}, "sliding_window 6")],
)  # fmt: skip
def test_what_it_does_not_do_is_refused(asked: dict[str, Any], named: str) -> None:
    row = row_of([[(2, [1]), (2, [1])]])
    tensors, layout = drawn(len(row.ids), len(row.ids)), layout_of(row)
    with pytest.raises(ValueError, match=f"in parts does not support .*{named}"):
        attend(torch.nn.Module(), *tensors, None, layout=layout, **asked)


def test_a_window_that_nothing_reaches_is_none() -> None:
    row = row_of([[(2, [1]), (2, [1]), (2, [1])]])
    tensors, layout = drawn(len(row.ids), len(row.ids)), layout_of(row)
    assert layout.reach == 8 < len(row.ids)
    found = attend(torch.nn.Module(), *tensors, None, scaling=0.3, layout=layout, sliding_window=8, softcap=None)[0]
    assert torch.equal(found, in_parts(tensors, layout))


def test_installing_it() -> None:
    import transformers as t

    model = t.LlamaForCausalLM(models_made.base("llama").model.config.__class__(
        vocab_size=9, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
    ))  # fmt: skip
    assert not installed(model)
    install(model)
    assert installed(model)
    other = t.BloomForCausalLM(t.BloomConfig(vocab_size=9, hidden_size=16, n_layer=1, n_head=2))
    with pytest.raises(ValueError, match="cannot be exchanged"):
        install(other)
    assert not installed(other)
