"""Our reading of free text, on the table of tricky outputs."""

from __future__ import annotations

import pytest

from nngpt_ext.host.answers import TRICKY, own_words, parse_answer


@pytest.mark.parametrize("case", TRICKY, ids=lambda case: case.why)
def test_tricky_outputs_in_both_orders(case) -> None:
    assert parse_answer(case.output, case.options) == case.answer
    assert parse_answer(case.output, case.options[::-1]) == case.answer


def test_the_table_has_every_kind_and_no_row_twice() -> None:
    assert len({case.output for case in TRICKY}) == len(TRICKY) >= 28
    assert {case.answer is None for case in TRICKY} == {True, False}
    assert all(case.answer in (None, *case.options) for case in TRICKY)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("mnist\n", "mnist"),
        ("User: mnist or svhn?[/INST] svhn", "svhn"),
        ("<|im_start|>user\nmnist<|im_start|>assistant\nsvhn", "svhn"),
        ("mnist</think>\nsvhn", "svhn"),
    ],
)
def test_own_words(text: str, words: str) -> None:
    assert own_words(text) == words
