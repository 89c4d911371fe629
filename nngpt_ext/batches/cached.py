"""The cached prefix of a group that is larger than a row: its questions are computed behind it, piece by piece."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import DynamicCache

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.rows import build_row, shared_length
from nngpt_ext.batches.tensors import compute_context, mask_dtype, parts_batch, takes_positions


class CachedPrefix:
    """Keys and values of a group's shared prefix, computed once, with the first piece.

    Args:
        model: it attends in parts (`nngpt_ext.batches.attention.install`).
        group: examples of one network that share a prefix.
    """

    def __init__(self, model: Any, group: Sequence[Example]) -> None:
        self.model = model
        self.shared = shared_length([example.prompt for example in group])
        self._prefix = group[0].prompt[: self.shared]
        self._layers: list[tuple[torch.Tensor, torch.Tensor]] = []

    def compute(self, examples: Sequence[Example], compute: Callable[..., torch.Tensor]) -> torch.Tensor:
        """What `compute(model, batch, cache)`, a function of `nngpt_ext.batches.tensors`, gives for some examples."""
        device = next(self.model.parameters()).device
        if not self._layers:  # only now, because the prefixes of all large groups would fill the memory
            cache: Any = DynamicCache()
            prefix = torch.from_numpy(self._prefix).long()[None].to(device)
            last = {"logits_to_keep": 1} if takes_positions(self.model) else {}
            with compute_context(self.model):
                self.model(input_ids=prefix, past_key_values=cache, use_cache=True, **last)
            self._layers.extend((layer.keys, layer.values) for layer in cache.layers)
        again: Any = DynamicCache()  # a pass adds its own keys, and cropping differs between transformers versions
        for layer, (keys, values) in enumerate(self._layers):
            again.update(keys, values, layer)
        row = build_row([examples], cached=self.shared)
        return compute(self.model, parts_batch(row, mask_dtype(self.model), cached=self.shared).to(device), again)
