"""Attention over shared prefixes, computed in parts.

A dense mask over a row of one prefix of P tokens and k questions of s tokens costs (P + ks)². In parts, the prefix
costs P²/2, the questions' attention to it P·ks and each question s²/2: the cost is linear in k, not quadratic.
The parts of a softmax are combined by their log-sum-exps, as in FlashAttention (Dao et al. 2022) and Ring
Attention (Liu et al. 2023): out = Σ exp(lse_i − lse) out_i with lse = log Σ exp(lse_i). In the backward pass, each
part's kernel receives the combined output and lse, so the sum of its gradients is the gradient of the whole.

On a CPU each part is a call of torch's flash kernel; on CUDA, parts of the same kind are one call
(`nngpt_ext.batches.flash`).
"""

from __future__ import annotations

from typing import Any

import torch
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from nngpt_ext.batches.flash import flash_attention
from nngpt_ext.batches.layout import Layout

NAME = "nngpt_ext_shared_prefix"
# What some models need of attention and is not supported here; `None` and a window that nothing reaches are harmless.
_UNSUPPORTED = ("softcap", "s_aux", "position_bias", "cache")


def bare(model: Any) -> Any:
    """The model without an adapter around it."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def install(model: Any) -> None:
    """Make the model use `attend`, which without a layout is transformers' SDPA.

    Raises:
        ValueError: if the model does not take its attention from transformers' registry.
    """
    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    inner = bare(model)
    inner.set_attn_implementation(NAME)
    if not installed(inner):
        raise ValueError("its attention cannot be exchanged")


def installed(model: Any) -> bool:
    """Whether the model uses `attend`."""
    return bool(model.config.get_text_config()._attn_implementation == NAME)


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    layout: Layout | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function with the signature of transformers; without a layout it is SDPA.

    Args:
        query: shape (1, heads, length, size).
        key, value: shape (1, key heads, cached + length, size).
        scaling: of the dot products; by default 1/√size.
        layout: the row's parts; the mask is then ignored.

    Returns:
        Shape (1, length, heads, size), and no weights.

    Raises:
        ValueError: for arguments that are not supported with a layout, such as dropout.
    """
    if layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    unsupported = [name for name in _UNSUPPORTED if kwargs.get(name) is not None]
    window = kwargs.get("sliding_window")
    if window is not None and window < layout.reach:
        unsupported.append(f"sliding_window {window}")
    if dropout:
        unsupported.append(f"attention dropout {dropout}")
    if unsupported:
        raise ValueError(f"attention in parts does not support {', '.join(unsupported)}")
    groups = query.shape[1] // key.shape[1]
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if query.is_cuda:
        return flash_attention(query, key, value, layout, scale), None
    result: torch.Tensor = _Parts.apply(query, repeat_kv(key, groups), repeat_kv(value, groups), layout, scale)
    return result.transpose(1, 2).contiguous(), None


_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


class _Parts(torch.autograd.Function):
    """Query, key and value of shape (1, heads, ·, size) to the output, shape (1, heads, length, size)."""

    @staticmethod
    def forward(
        ctx: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, layout: Layout, scale: float
    ) -> torch.Tensor:
        out = query.new_empty(query.shape)
        lse = query.new_empty(query.shape[:-1], dtype=torch.promote_types(query.dtype, torch.float32))
        for queries, keys, causal in _prefixes(layout, query.shape[2]):
            part, part_lse = _flash(query[:, :, queries], key[:, :, keys], value[:, :, keys], 0.0, causal, scale=scale)
            out[:, :, queries] = part
            lse[:, :, queries] = part_lse
        if len(layout.blocks):
            blocks = [_gathered(x, layout) for x in (query, *_own(layout, key, value))]
            part, part_lse = _flash(
                *blocks, 0.0, layout.inside is None, attn_mask=_mask(layout, query.dtype), scale=scale
            )
            part, part_lse = _scattered(part, layout), _scattered(part_lse[..., None], layout)
            first = lse[0, :, layout.tokens, None]
            both = torch.logaddexp(first, part_lse)
            weighted = out[0, :, layout.tokens] * (first - both).exp() + part * (part_lse - both).exp()
            out[0, :, layout.tokens] = weighted.to(out.dtype)
            lse[0, :, layout.tokens] = both[..., 0]
        ctx.save_for_backward(query, key, value, out, lse)
        ctx.layout, ctx.scale = layout, scale
        return out

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor | None, ...]:  # type: ignore[override]
        query, key, value, out, lse = ctx.saved_tensors
        layout: Layout = ctx.layout
        d_query, d_key, d_value = (
            torch.zeros_like(x, memory_format=torch.contiguous_format) for x in (query, key, value)
        )
        for queries, keys, causal in _prefixes(layout, query.shape[2]):
            parts = _flash_backward(
                grad[:, :, queries], query[:, :, queries], key[:, :, keys], value[:, :, keys], out[:, :, queries],
                lse[:, :, queries], 0.0, causal, scale=ctx.scale,
            )  # fmt: skip
            d_query[:, :, queries] += parts[0]
            d_key[:, :, keys] += parts[1]
            d_value[:, :, keys] += parts[2]
        if len(layout.blocks):
            blocks = [_gathered(x, layout) for x in (query, *_own(layout, key, value), out, lse[..., None])]
            parts = _flash_backward(
                _placed(grad, layout), *blocks[:4], blocks[4][..., 0], 0.0, layout.inside is None,
                attn_mask=_mask(layout, query.dtype), scale=ctx.scale,
            )  # fmt: skip
            for total, part in zip((d_query, *_own(layout, d_key, d_value)), parts, strict=True):
                total[0].index_add_(1, layout.tokens, _scattered(part, layout))
        return d_query, d_key, d_value, None, None


def _prefixes(layout: Layout, length: int) -> list[tuple[slice, slice, bool]]:
    """(queries, keys, causal) of all parts except the blocks: the prefixes themselves, and what follows them."""
    if layout.cached:
        return [(slice(0, length), slice(0, layout.cached), False)]
    parts = []
    for tree in layout.trees:
        prefix = slice(tree.start, tree.behind)
        parts.append((prefix, prefix, True))
        if tree.end > tree.behind:
            parts.append((slice(tree.behind, tree.end), prefix, False))
    return parts


def _own(layout: Layout, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Keys and values of the row itself."""
    return key[:, :, layout.cached :], value[:, :, layout.cached :]


def _gathered(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(1, heads, length, size) to (blocks, heads, longest, size)."""
    n, longest = layout.blocks.shape
    heads, size = x.shape[1], x.shape[3]
    return x[0].index_select(1, layout.blocks.flatten()).view(heads, n, longest, size).transpose(0, 1)


def _placed(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Like `_gathered`, but with zeros for padding, whose results were dropped."""
    n, longest = layout.blocks.shape
    heads, size = x.shape[1], x.shape[3]
    laid = x.new_zeros(heads, n * longest, size).index_copy_(1, layout.places, x[0].index_select(1, layout.tokens))
    return laid.view(heads, n, longest, size).transpose(0, 1)


def _scattered(x: torch.Tensor, layout: Layout) -> torch.Tensor:
    """(blocks, heads, longest, size) to (heads, block tokens, size), without padding."""
    n, heads, longest, size = x.shape
    flat = x.transpose(0, 1).reshape(heads, n * longest, size)
    return flat.index_select(1, layout.places)


def _mask(layout: Layout, dtype: torch.dtype) -> torch.Tensor | None:
    if layout.inside is None:
        return None
    name = f"inside {dtype}"
    if name not in layout.kept:
        added = torch.zeros(layout.inside.shape, dtype=dtype, device=layout.inside.device)
        layout.kept[name] = added.masked_fill_(~layout.inside, torch.finfo(dtype).min)[:, None]
    return layout.kept[name]  # type: ignore[no-any-return]
