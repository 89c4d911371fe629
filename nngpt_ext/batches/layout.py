"""The layout of a row: its prefixes, what follows each, and the blocks that see only themselves and their prefix."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from nngpt_ext.batches.rows import NO_PARENT, Row


@dataclass(frozen=True)
class Tree:
    """A root segment `start:behind` and the tokens `behind:end` that see all of it."""

    start: int
    behind: int
    end: int


@dataclass(frozen=True)
class Layout:
    """A row cut into parts for attention (`nngpt_ext.batches.attention`).

    A block is a child of a root with all its descendants: a question with its options. It sees its root and
    itself. Blocks are stacked, each padded to the longest with copies of its last token, which no earlier
    token sees and whose results are dropped.
    """

    trees: tuple[Tree, ...]
    blocks: torch.Tensor  # (blocks, longest): the index in the row of each token
    places: torch.Tensor  # (block tokens,): which of these, flattened, are not padding
    inside: torch.Tensor | None  # (blocks, longest, longest), bool: who sees whom; None if a causal mask suffices
    tokens: torch.Tensor  # (block tokens,): the index in the row of the tokens at these places
    row: Row
    reach: int  # number of tokens that the last token of the longest question sees
    cached: int = 0  # keys before the row's own, which all its tokens see
    kept: dict[str, Any] = field(default_factory=dict, compare=False)  # masks that attention computes once

    def to(self, device: torch.device, non_blocking: bool = False) -> Layout:
        """The layout on a device."""
        moved: dict[str, Any] = {"kept": {}}
        for name, value in vars(self).items():
            if isinstance(value, torch.Tensor):
                moved[name] = value.to(device, non_blocking=non_blocking)
        return replace(self, **moved)


def layout_of(row: Row, cached: int = 0) -> Layout:
    """The layout of a row behind `cached` keys of a prefix that was computed before."""
    above = row.above()
    roots = np.flatnonzero(row.parents == NO_PARENT)
    starts = np.searchsorted(row.segments, np.arange(len(row.parents)))  # segments are in order
    ends = np.append(starts[1:], len(row.segments))
    if cached:  # the roots of the row are children of the cached prefix: they are blocks
        trees = []
        heads = roots
    else:
        last = np.append(roots[1:], len(row.parents)) - 1
        trees = [Tree(int(starts[r]), int(ends[r]), int(ends[e])) for r, e in zip(roots, last, strict=True)]
        heads = np.flatnonzero(np.isin(row.parents, roots))
    # A block ends where the next block or the next root begins.
    borders = np.union1d(heads, roots)
    following = np.append(borders, len(row.parents))[np.searchsorted(borders, heads) + 1]
    first, behind = starts[heads, None], ends[following - 1, None]
    longest = int((behind - first).max(initial=0))
    place = np.arange(longest)
    blocks, real = np.minimum(first + place, behind - 1), place < behind - first
    in_block = row.segments[blocks]  # (blocks, longest)
    seen = above[in_block[:, :, None], in_block[:, None, :]] & np.tri(longest, dtype=bool)
    causal = bool(seen.sum() == len(heads) * longest * (longest + 1) // 2)
    return Layout(
        tuple(trees),
        torch.from_numpy(blocks),
        torch.from_numpy(np.flatnonzero(real)),
        None if causal else torch.from_numpy(seen),
        torch.from_numpy(blocks[real]),
        row,
        int(row.positions.max()) + 1,
        cached,
    )
