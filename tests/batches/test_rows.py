"""Rows hold every example exactly once, and each answer sees just its own question."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.rows import NO_PARENT, Row, build_row, halves, own_length, pack, shared_length

STOP = 99  # in no prompt


def tokens(values: list[int]) -> np.ndarray:
    return np.array(values, dtype="int32")


@st.composite
def group(draw: st.DrawFn) -> list[Example]:
    """Examples of one network. Three kinds of token only, so that prompts share more than was meant."""
    ids = st.integers(0, 2)
    prefix = draw(st.lists(ids, max_size=12))
    n_answers = draw(st.integers(1, 2))
    examples = []
    for _ in range(draw(st.integers(1, 5))):
        prompt = prefix + draw(st.lists(ids, min_size=1, max_size=5))
        answers = [[*draw(st.lists(ids, max_size=3)), STOP] for _ in range(n_answers)]
        examples.append(Example(tokens(prompt), tuple(tokens(answer) for answer in answers)))
    return examples


GROUPS = st.lists(group(), min_size=1, max_size=4)


def texts(groups: list[list[Example]]) -> list[tuple[list[int], list[int]]]:
    """(prompt, answer) of every answer in order."""
    return [(e.prompt.tolist(), a.tolist()) for g in groups for e in g for a in e.answers]


def alone(groups: list[list[Example]]) -> list[list[Example]]:
    """Each example in a group of its own, so that nothing is shared."""
    return [[example] for members in groups for example in members]


def check_row(row: Row, groups: list[list[Example]]) -> None:
    """At the place where a token of an answer is predicted, the row looks like that question alone."""
    visible = row.visible()
    expected = texts(groups)
    assert row.n_answers == len(expected)
    assert row.answers.tolist() == [i for i, (_, answer) in enumerate(expected) for _ in answer]
    for i, (prompt, answer) in enumerate(expected):
        mine = np.flatnonzero(row.answers == i)
        assert row.targets[mine].tolist() == answer
        for k, place in enumerate(row.predict[mine]):
            seen = np.flatnonzero(visible[place])
            assert row.ids[seen].tolist() == prompt + answer[:k]
            assert row.positions[seen].tolist() == list(range(len(prompt) + k))
            assert seen[-1] == place


@given(GROUPS)
@example([[Example(tokens([1]), (tokens([STOP]),))]])
@example([[Example(tokens([1, 2]), (tokens([1, STOP]),))] * 3])  # identical prompts
@example([[Example(tokens([1, 2, 1]), (tokens([1, STOP]),)), Example(tokens([1, 2]), (tokens([0, STOP]),))]])
def test_each_answer_sees_its_own_question_only(groups: list[list[Example]]) -> None:
    check_row(build_row(groups), groups)
    check_row(build_row(alone(groups)), groups)


@given(GROUPS)
def test_visible_is_the_tree(groups: list[list[Example]]) -> None:
    row = build_row(groups)
    visible = row.visible()
    assert visible.shape == (len(row.ids),) * 2
    for i in range(len(row.ids)):
        above = set()
        segment = row.segments[i]
        while segment != NO_PARENT:
            above.add(segment)
            segment = row.parents[segment]
        assert visible[i].tolist() == [j <= i and row.segments[j] in above for j in range(len(row.ids))]
        assert row.positions[i] == visible[i].sum() - 1


@given(GROUPS)
def test_stop_tokens_are_targets_only(groups: list[list[Example]]) -> None:
    row = build_row(groups)
    assert STOP not in row.ids
    assert (row.targets == STOP).sum() == row.n_answers
    assert all(array.dtype == np.int32 for array in vars(row).values())


@given(GROUPS)
def test_the_shared_prefix_is_there_once(groups: list[list[Example]]) -> None:
    row = build_row(groups)
    lengths = []
    for members in groups:
        shared = shared_length([e.prompt for e in members]) if len(members) > 1 else 0
        lengths.append(shared + sum(own_length(e, shared) for e in members))
    assert len(row.ids) == sum(lengths)
    assert len(build_row(alone(groups)).ids) == sum(own_length(e, 0) for members in groups for e in members)


@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=1, max_size=5))
def test_shared_length_is_the_longest(prompts: list[list[int]]) -> None:
    found = shared_length([tokens(prompt) for prompt in prompts])
    assert all(len(prompt) > found for prompt in prompts)
    assert len({tuple(prompt[:found]) for prompt in prompts}) == 1
    one_more = {tuple(prompt[: found + 1]) for prompt in prompts}
    assert len(one_more) > 1 or min(map(len, prompts)) == found + 1


@given(GROUPS, st.integers(1, 60))
def test_pack_keeps_every_example_once_and_the_limit(groups: list[list[Example]], limit: int) -> None:
    rows = pack(groups, limit)
    places = [(part[0], e) for row in rows for part in row for e in part[1:]]
    assert places == [(g, e) for g, members in enumerate(groups) for e in range(len(members))]
    for row in rows:
        assert row
        assert all(len(part) > 1 for part in row)
        assert len({part[0] for part in row}) == len(row)
        chosen = [[groups[part[0]][e] for e in part[1:]] for part in row]
        built = build_row(chosen)
        alone = len(row) == 1 and len(row[0]) == 2
        assert len(built.ids) <= limit or alone
        check_row(built, chosen)


@given(GROUPS, st.integers(1, 60))
def test_a_group_that_fits_is_not_split(groups: list[list[Example]], limit: int) -> None:
    rows = pack(groups, limit)
    for g, members in enumerate(groups):
        shared = shared_length([e.prompt for e in members])
        if shared + sum(own_length(e, shared) for e in members) <= limit:
            assert sum(part[0] == g for row in rows for part in row) == 1


def test_pack_by_hand() -> None:
    def network(start: int, n: int) -> list[Example]:  # 4 shared tokens; 2 own and 1 of the answer each
        return [Example(tokens([start] * 4 + [5 + i, 6]), (tokens([7, STOP]),)) for i in range(n)]

    groups = [network(1, 2), network(2, 3), network(3, 1)]
    assert pack(groups, 100) == [[[0, 0, 1], [1, 0, 1, 2], [2, 0]]]
    assert pack(groups, 23) == [[[0, 0, 1], [1, 0, 1, 2]], [[2, 0]]]
    assert pack(groups, 22) == [[[0, 0, 1]], [[1, 0, 1, 2], [2, 0]]]
    assert pack(groups, 10) == [[[0, 0, 1]], [[1, 0, 1]], [[1, 2]], [[2, 0]]]
    assert pack(groups, 3) == [[[0, 0]], [[0, 1]], [[1, 0]], [[1, 1]], [[1, 2]], [[2, 0]]]


def test_a_row_by_hand() -> None:
    prompts = [tokens([1, 2, 3, 4]), tokens([1, 2, 5])]
    answers = (tokens([6, 7, STOP]), tokens([8, STOP]))
    row = build_row([[Example(prompt, answers) for prompt in prompts]])
    assert row.ids.tolist() == [1, 2, 3, 4, 6, 7, 8, 5, 6, 7, 8]
    assert row.positions.tolist() == [0, 1, 2, 3, 4, 5, 4, 2, 3, 4, 3]
    assert row.segments.tolist() == [0, 0, 1, 1, 2, 2, 3, 4, 5, 5, 6]
    assert row.parents.tolist() == [NO_PARENT, 0, 1, 1, 0, 4, 4]
    assert row.predict.tolist() == [3, 4, 5, 3, 6, 7, 8, 9, 7, 10]
    assert row.targets.tolist() == [6, 7, STOP, 8, STOP] * 2
    assert row.answers.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 3, 3]


def test_halves() -> None:
    assert halves([[3, 0, 1, 4], [7, 2, 5]]) == [[[3, 0, 1]], [[3, 4], [7, 2, 5]]]
    assert halves([[3, 0], [7, 2]]) == [[[3, 0]], [[7, 2]]]
