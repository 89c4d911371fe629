"""Bradley–Terry strengths: exact where the probabilities come from strengths."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.scoring.strengths import intransitive_share, strengths

NAMES = ("a", "b", "c", "d", "e", "f", "g")


def table(true: dict[str, float]) -> dict[tuple[str, str], float]:
    return {(x, y): 1 / (1 + math.exp(true[y] - true[x])) for x, y in itertools.combinations(true, 2)}


@given(values=st.lists(st.floats(-4, 4), min_size=2, max_size=7))
def test_strengths_are_found_again(values: list[float]) -> None:
    true = dict(zip(NAMES, values, strict=False))
    found = strengths(list(true), table(true))
    middle = sum(values) / len(values)
    assert found == pytest.approx({name: value - middle for name, value in true.items()}, abs=1e-4)


@given(values=st.lists(st.floats(0.001, 0.999), min_size=6, max_size=6))
def test_the_order_in_which_a_pair_is_named_does_not_count(values: list[float]) -> None:
    pairs = list(itertools.combinations("abcd", 2))
    straight = dict(zip(pairs, values, strict=True))
    turned = {(y, x): 1 - value for (x, y), value in straight.items()}
    one, other = (strengths("abcd", asked) for asked in (straight, turned))
    assert one == pytest.approx(other, abs=1e-3)
    assert sum(one.values()) == pytest.approx(0, abs=1e-9)


def test_certain_answers_give_finite_strengths() -> None:
    found = strengths("abc", {("a", "b"): 1.0, ("b", "c"): 1.0, ("a", "c"): 1.0})
    assert found["a"] > found["b"] > found["c"]
    assert all(map(math.isfinite, found.values()))


def test_intransitive_triples_are_counted() -> None:
    circle = {("a", "b"): 0.9, ("b", "c"): 0.9, ("a", "c"): 0.1}
    assert intransitive_share("abc", circle) == 1.0
    assert intransitive_share("abc", {**circle, ("a", "c"): 0.6}) == 0.0
    assert intransitive_share("ab", {("a", "b"): 0.9}) is None
    # d beats all others: of the four triples only a, b, c goes in a circle.
    beaten = {("d", name): 0.8 for name in "abc"}
    assert intransitive_share("abcd", {**circle, **beaten}) == 0.25
