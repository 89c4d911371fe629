"""The questions that are measured: real pairs in both orders, and their lengths."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.workload import lengths, make_workload
from nngpt_ext.batches.encode import Example
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import load_base


def test_lengths_by_hand() -> None:
    def example(prefix: int, own: list[int]) -> Example:
        return Example(np.array([1] * prefix + own, dtype="int32"), (np.array([7, 1], dtype="int32"),))

    # Two networks: 3 questions of 4 + 1 tokens behind 10, and 2 of 1 + 1 behind 20; the stop is only predicted.
    groups = [[example(10, [n] * 4) for n in (2, 3, 4)], [example(20, [n]) for n in (2, 3)]]
    found = lengths(groups)
    assert (found.networks, found.questions, found.prefix_tokens, found.own_tokens) == (2, 2.5, 15, 3.5)
    assert found.once == 10 + 3 * 5 + 20 + 2 * 2
    assert found.bound == (3 * 15 + 2 * 22) / found.once


def test_real_pairs_in_both_orders() -> None:
    found = make_workload(load_base("embedded"), "code_only", 3, 50, 2048)
    assert len(found.groups) == len(found.training) == found.lengths.networks == 3
    for group, answered in zip(found.groups, found.training, strict=True):
        assert len(group) % 2 == 0
        for question, turned in zip(group[::2], group[1::2], strict=True):
            assert [o.tolist() for o in question.answers] == [o.tolist() for o in turned.answers[::-1]]
        for question, example in zip(group, answered, strict=True):
            assert example.answers[0].tolist() in [option.tolist() for option in question.answers]
    many = found.with_questions(50, 2)
    assert [len(group) for group in many.groups] == [len(group) for group in many.training] == [50, 50]
    assert many.lengths.questions == 50


def test_a_question_longer_than_a_row() -> None:
    with pytest.raises(UserError, match=r"tuning\.row_tokens is 64"):
        make_workload(load_base("embedded"), "code_only", 2, 200, row_tokens=64)
