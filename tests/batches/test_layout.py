"""A layout says who sees whom, exactly as the row's own mask does."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.layout import Layout, Tree, layout_of
from nngpt_ext.batches.rows import build_row


def tokens(*ids: int) -> np.ndarray:
    return np.array(ids, dtype="int32")


def seen_by(layout: Layout, length: int) -> np.ndarray:
    """Who sees whom by the layout's parts, shape (length, cached + length); counted, so that twice would show."""
    seen = np.zeros((length, layout.cached + length), dtype=int)
    seen[:, : layout.cached] += 1
    for tree in layout.trees:
        for i in range(tree.start, tree.behind):
            seen[i, tree.start : i + 1] += 1
        seen[tree.behind : tree.end, tree.start : tree.behind] += 1
    n, longest = layout.blocks.shape
    inside = np.tile(np.tri(longest, dtype=bool), (n, 1, 1)) if layout.inside is None else layout.inside.numpy()
    real = np.zeros(n * longest, dtype=bool)
    real[layout.places.numpy()] = True
    for block, allowed, there in zip(layout.blocks.numpy(), inside, real.reshape(n, longest), strict=True):
        for i in np.flatnonzero(there):
            for j in np.flatnonzero(allowed[i]):
                seen[block[i], layout.cached + block[j]] += 1
    return seen


EXAMPLES = st.lists(
    st.lists(
        st.tuples(
            st.lists(st.integers(5, 7), min_size=1, max_size=4), st.lists(st.integers(1, 3), min_size=1, max_size=2)
        ),
        min_size=1,
        max_size=4,
    ),
    min_size=1,
    max_size=3,
)  # fmt: skip


def examples(drawn: list[list[tuple[list[int], list[int]]]]) -> list[list[Example]]:
    """Groups of examples behind prefixes of their own, with one or two options of one to three tokens."""
    return [
        [Example(tokens(*range(20, 22 + g), *own), tuple(tokens(*[3] * n) for n in options)) for own, options in group]
        for g, group in enumerate(drawn)
    ]


@given(EXAMPLES, st.booleans())
def test_it_is_the_mask(drawn: list[list[tuple[list[int], list[int]]]], share: bool) -> None:
    groups = examples(drawn)
    row = build_row(groups if share else [[one] for group in groups for one in group])
    layout = layout_of(row)
    assert np.array_equal(seen_by(layout, len(row.ids)), row.visible().astype(int))
    assert layout.blocks.flatten()[layout.places].tolist() == layout.tokens.tolist()
    assert len(set(layout.tokens.tolist())) == len(layout.tokens)
    assert layout.reach == max(row.positions) + 1


@given(EXAMPLES)
def test_behind_a_cached_prefix(drawn: list[list[tuple[list[int], list[int]]]]) -> None:
    group = examples(drawn)[:1]
    whole, behind = build_row(group), build_row(group, cached=2)
    layout = layout_of(behind, cached=2)
    assert layout.trees == ()
    seen = seen_by(layout, len(behind.ids))
    assert (seen[:, :2] == 1).all()
    assert np.array_equal(seen[:, 2:], behind.visible().astype(int))
    assert sorted(whole.targets.tolist()) == sorted(behind.targets.tolist())
    assert behind.positions.min() >= 2


def test_by_hand() -> None:
    answer = (tokens(9, 1),)
    row = build_row([
        [Example(tokens(5, 6, 7), answer), Example(tokens(5, 6, 8, 8), answer)],
        [Example(tokens(4, 4), answer)],
    ])  # fmt: skip
    layout = layout_of(row)
    # Prefix 5 6, then 7 9 and 8 8 9; then 4 4 with its answer's 9 behind it.
    assert row.ids.tolist() == [5, 6, 7, 9, 8, 8, 9, 4, 4, 9]
    assert layout.trees == (Tree(0, 2, 7), Tree(7, 9, 10))
    assert layout.blocks.tolist() == [[2, 3, 3], [4, 5, 6], [9, 9, 9]]
    assert layout.places.tolist() == [0, 1, 3, 4, 5, 6]
    assert layout.tokens.tolist() == [2, 3, 4, 5, 6, 9]
    assert layout.inside is None  # one answer each: causal says it all
    assert layout.reach == 5


def test_options_do_not_see_each_other() -> None:
    row = build_row([[Example(tokens(5, 6), (tokens(8, 1), tokens(9, 1))), Example(tokens(5, 7), (tokens(8, 1),))]])
    layout = layout_of(row)
    assert layout.blocks.tolist() == [[1, 2, 3], [4, 5, 5]]
    assert layout.inside is not None
    assert layout.inside[0].int().tolist() == [[1, 0, 0], [1, 1, 0], [1, 0, 1]]


def test_it_moves_as_one() -> None:
    two = (tokens(8, 1), tokens(9, 1))
    layout = layout_of(build_row([[Example(tokens(5, 6), two), Example(tokens(5, 7), two)]]))
    assert layout.inside is not None
    layout.kept["made here"] = 1
    moved = layout.to(torch.device("meta"))
    assert moved.blocks.device.type == moved.tokens.device.type == moved.inside.device.type == "meta"
    assert (moved.trees, moved.cached, moved.reach, moved.kept) == (layout.trees, 0, layout.reach, {})
