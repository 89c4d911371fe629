"""Plans: which examples each epoch and each step sees."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.rows import build_row, own_length, tokens_of
from nngpt_ext.config import TaskConfig
from nngpt_ext.tuning.plan import CappedNetworks, Plan, make_plan


def groups_of(sizes: list[int], own: int = 3) -> list[list[Example]]:
    """Networks with that many pairs, two examples each, of unequal lengths."""
    answer = (np.array([1, 0], dtype="int32"),)
    return [
        [
            Example(np.array([10 + g] * (5 + g) + [50, 100 + e] + [7] * (e % own), dtype="int32"), answer)
            for e in range(2 * pairs)
        ]
        for g, pairs in enumerate(sizes)
    ]


def plan(groups: list[list[Example]], **changes: Any) -> Plan:
    """The plan of three epochs; a row may have fewer tokens here than a configuration allows."""
    data = {name: changes.pop(name) for name in ("pairs_per_network", "family_cap", "split") if name in changes}
    config = TaskConfig.model_validate({"data": data}).resolved(Path()).decided()
    tuning = {"epochs": 3, "examples_per_step": 4, "row_tokens": 40, **changes}
    return make_plan(groups, config.model_copy(update={"tuning": config.tuning.model_copy(update=tuning)}))


def epochs_of(made: Plan) -> list[list[list[list[int]]]]:
    """The rows of each epoch."""
    starts = [0, *made.epoch_ends[:-1]]
    ends = zip(starts, made.epoch_ends, strict=True)
    return [[row for rows in made.steps[start:end] for row in rows] for start, end in ends]


def examples_of(rows: list[list[list[int]]]) -> list[tuple[int, int]]:
    return sorted((part[0], e) for row in rows for part in row for e in part[1:])


SIZES = st.lists(st.integers(1, 5), min_size=1, max_size=7)
ENGINES_ = ("shared", "masked", "plain")
ENGINES = st.sampled_from(ENGINES_)
BOUND = st.none() | st.integers(1, 8)


@given(SIZES, ENGINES, BOUND, BOUND, st.integers(1, 12), st.integers(0, 5))
def test_what_every_epoch_holds(
    sizes: list[int], engine: str, networks: int | None, pairs: int | None, step: int, seed: int
) -> None:
    groups = groups_of(sizes)
    made = plan(
        groups, engine=engine, networks_per_epoch=networks, pairs_per_network=pairs, examples_per_step=step,
        seed=seed, epochs=4,
    )  # fmt: skip
    assert len(made.epoch_ends) == 4
    assert len(made.steps) == made.epoch_ends[-1]
    assert all(row for rows in made.steps for row in rows)
    drawn = []
    for rows in epochs_of(made):
        seen = examples_of(rows)
        assert len(seen) == len(set(seen))  # so no network is drawn twice
        members = sorted({g for g, _ in seen})
        assert len(members) == min(networks or len(sizes), len(sizes))
        for g in members:
            numbers = [e for other, e in seen if other == g]
            assert len(numbers) == 2 * min(pairs or sizes[g], sizes[g])
            assert {e ^ 1 for e in numbers} == set(numbers)  # both orders of each pair
        drawn += members
    # Every network is drawn before any is drawn twice: counts differ by one at most, all the time.
    per_epoch = min(networks or len(sizes), len(sizes))
    for end in range(per_epoch, len(drawn) + 1, per_epoch):
        counts = np.bincount(drawn[:end], minlength=len(sizes))
        assert counts.max() - counts.min() <= 1


@given(SIZES, BOUND, BOUND, st.integers(0, 5))
def test_engines_see_the_same_examples_in_every_step(
    sizes: list[int], networks: int | None, pairs: int | None, seed: int
) -> None:
    bounds = {"networks_per_epoch": networks, "pairs_per_network": pairs, "seed": seed}
    shared, masked, plain = (plan(groups_of(sizes), engine=engine, **bounds) for engine in ENGINES_)
    assert shared.epoch_ends == plain.epoch_ends
    assert shared == masked
    steps = [[examples_of(rows) for rows in made.steps] for made in (shared, plain)]
    assert steps[0] == steps[1]
    assert all(steps[0])  # none is empty


@given(SIZES, st.integers(1, 12))
def test_a_network_stays_in_one_step_unless_it_is_too_large(sizes: list[int], step: int) -> None:
    made = plan(groups_of(sizes), epochs=1, examples_per_step=step)
    for g, pairs in enumerate(sizes):
        parts = [sum(1 for other, _ in examples_of(rows) if other == g) for rows in made.steps]
        assert sum(parts) == 2 * pairs
        if 2 * pairs <= step:
            assert max(parts) == 2 * pairs
        assert all(part % 2 == 0 for part in parts)  # the two orders of a pair go together


@given(SIZES, ENGINES, st.integers(1, 80))
def test_rows_keep_to_the_limit(sizes: list[int], engine: str, limit: int) -> None:
    groups = groups_of(sizes)
    made = plan(groups, engine=engine, row_tokens=limit)
    for row in (row for rows in made.steps for row in rows):
        n = sum(len(part) - 1 for part in row)
        if engine != "plain":
            built = build_row([[groups[g][e] for e in numbers] for g, *numbers in row])
            assert tokens_of(groups, row) == len(built.ids)
            alone = build_row([[groups[g][e]] for g, *numbers in row for e in numbers])
            assert tokens_of(groups, row, share=False) == len(alone.ids)
            assert tokens_of(groups, row) <= limit or n == 1
        else:
            assert all(len(part) == 2 for part in row)
            longest = max(own_length(groups[g][e], 0) for g, e in row)
            assert longest * n <= limit or n == 1


def test_shared_rows_are_fewer_tokens() -> None:
    groups = groups_of([5, 5, 5])
    (rows,) = epochs_of(plan(groups, epochs=1, row_tokens=200))
    assert sum(tokens_of(groups, row) for row in rows) < sum(own_length(e, 0) for group in groups for e in group) * 0.7


@pytest.mark.parametrize("engine", ["shared", "plain"])
def test_the_seed_decides(engine: str) -> None:
    groups = groups_of([3, 4, 5, 2, 1])
    bounds = {"engine": engine, "networks_per_epoch": 3, "pairs_per_network": 2}
    assert plan(groups, **bounds) == plan(groups, **bounds)
    others = [plan(groups, seed=seed, **bounds) for seed in range(5)]
    assert len({str(other.steps) for other in others}) == 5


@pytest.mark.parametrize("engine", ["shared", "plain"])
def test_epochs_come_in_different_orders(engine: str) -> None:
    one, two, three = epochs_of(plan(groups_of([3, 4, 5, 2, 1]), engine=engine))
    assert examples_of(one) == examples_of(two) == examples_of(three)
    assert one != two != three


@pytest.mark.parametrize("engine", ["shared", "plain"])
@pytest.mark.parametrize("step", [4, 12, 30])
def test_a_step_has_about_as_many_examples_as_asked(engine: str, step: int) -> None:
    groups = groups_of([5] * 24)
    made = plan(groups, engine=engine, examples_per_step=step, epochs=1, row_tokens=30)
    counts = [len(examples_of(rows)) for rows in made.steps]
    assert sum(counts) == 240
    assert 0.6 * step <= np.mean(counts) <= 1.6 * step


def test_by_hand() -> None:
    # Two networks of one pair: both fit into one row, and one row is a step.
    made = plan(groups_of([1, 1]), epochs=2, examples_per_step=100, row_tokens=1000)
    assert made.epoch_ends == [1, 2]
    assert [[examples_of([row]) for row in rows] for rows in made.steps] == [[[(0, 0), (0, 1), (1, 0), (1, 1)]]] * 2
    # The same one example a row: two rows of two, for each has 8 to 10 tokens and the limit is 20.
    made = plan(groups_of([1, 1]), epochs=1, examples_per_step=100, row_tokens=20, engine="plain")
    assert [len(row) for row in made.steps[0]] == [2, 2]
    # Two pairs each in steps of 4 examples.
    made = plan(groups_of([2, 2]), epochs=1, examples_per_step=4)
    assert [len(examples_of(rows)) for rows in made.steps] == [4, 4]


@given(
    st.lists(st.sampled_from([None, "f", "g"]), min_size=1, max_size=14), st.integers(1, 4), BOUND, st.integers(0, 5)
)
def test_an_epoch_draws_few_networks_of_a_giant_family(
    families: list[str | None], cap: int, networks: int | None, seed: int
) -> None:
    groups = CappedNetworks(groups_of([1] * len(families)), families)
    made = plan(groups, networks_per_epoch=networks, seed=seed, epochs=6, split="by_family", family_cap=cap)
    size = {family: families.count(family) for family in ("f", "g")}
    places = families.count(None) + sum(min(cap, n) for n in size.values())
    drawn: dict[str | None, list[int]] = {None: [], "f": [], "g": []}
    for rows in epochs_of(made):
        members = sorted({g for g, _ in examples_of(rows)})
        assert len(members) == min(networks or places, places)
        for family in size:
            assert sum(families[g] == family for g in members) <= cap
        for g in members:
            drawn[families[g]].append(g)
    for family, seen in drawn.items():  # each once before any of the family twice
        own = [seen.count(g) for g in range(len(families)) if families[g] == family]
        assert not own or max(own) - min(own) <= 1


def test_a_cap_changes_nothing_where_no_family_is_giant() -> None:
    groups = groups_of([2, 1, 3, 1])
    assert plan(CappedNetworks(groups, [None] * 4), networks_per_epoch=3) == plan(groups, networks_per_epoch=3)
