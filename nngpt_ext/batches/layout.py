"""Where the parts of a row are: its prefixes, what stands behind each, and the blocks that see only themselves."""

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

    A block is a child of a root with all that hangs on it: a question with its options. It sees its root and
    itself. Blocks are laid side by side, each filled up to the longest with copies of its last token, which
    no earlier token sees and whose results are dropped.
    """

    trees: tuple[Tree, ...]
    blocks: torch.Tensor  # (blocks, longest): the token of the row that stands there
    places: torch.Tensor  # (block tokens,): which of these, counted through, are not fillers
    inside: torch.Tensor | None  # (blocks, longest, longest), bool: who sees whom; None where causal says it all
    tokens: torch.Tensor  # (block tokens,): the tokens of the row that stand at these places
    segments: torch.Tensor  # (length,)
    above: torch.Tensor  # (segments, segments), bool: [a, b] where b is a or one of its ancestors
    reach: int  # how many tokens the last token of the longest question sees
    cached: int = 0  # keys that stand before the row's own, all of them seen by all its tokens
    kept: dict[str, Any] = field(default_factory=dict, compare=False)  # what attention makes of it, once

    def to(self, device: torch.device, non_blocking: bool = False) -> Layout:
        """The layout on a device."""
        names = ("blocks", "places", "tokens", "segments", "above")
        moved = {name: getattr(self, name).to(device, non_blocking=non_blocking) for name in names}
        inside = None if self.inside is None else self.inside.to(device, non_blocking=non_blocking)
        return replace(self, **moved, inside=inside, kept={})


def layout_of(row: Row, cached: int = 0) -> Layout:
    """The layout of a row; `cached` keys of a prefix that was computed before stand in front of it."""
    above = row.above()
    roots = np.flatnonzero(row.parents == NO_PARENT)
    starts = np.searchsorted(row.segments, np.arange(len(row.parents)))  # segments stand in their order
    ends = np.append(starts[1:], len(row.segments))
    if cached:  # the roots of the row hang on the cached prefix: they are blocks
        trees = []
        heads = roots
    else:
        last = np.append(roots[1:], len(row.parents)) - 1
        trees = [Tree(int(starts[r]), int(ends[r]), int(ends[e])) for r, e in zip(roots, last, strict=True)]
        heads = np.flatnonzero(np.isin(row.parents, roots))
    # A block ends where the next block or the next root begins.
    borders = np.union1d(heads, roots)
    following = np.append(borders, len(row.parents))[np.searchsorted(borders, heads) + 1]
    spans = [(int(starts[h]), int(ends[n - 1])) for h, n in zip(heads, following, strict=True)]
    longest = max((end - start for start, end in spans), default=0)
    place = np.arange(longest)
    blocks = np.array([np.minimum(start + place, end - 1) for start, end in spans]).reshape(len(spans), longest)
    real = np.array([place < end - start for start, end in spans], dtype=bool).reshape(len(spans), longest)
    blocks = blocks.astype("int64")
    in_block = row.segments[blocks]  # (blocks, longest)
    seen = above[in_block[:, :, None], in_block[:, None, :]] & np.tri(longest, dtype=bool)
    causal = bool(seen.sum() == len(spans) * longest * (longest + 1) // 2)
    return Layout(
        tuple(trees),
        torch.from_numpy(blocks),
        torch.from_numpy(np.flatnonzero(real)),
        None if causal else torch.from_numpy(seen),
        torch.from_numpy(blocks[real].astype("int64")),
        torch.from_numpy(row.segments.astype("int64")),
        torch.from_numpy(above),
        int(row.positions.max()) + 1,
        cached,
    )
