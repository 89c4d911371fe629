"""Our reading of free text, on the table of tricky outputs."""

from __future__ import annotations

import pytest

from nngpt_ext.host.parser import own_words, parse_answer
from tests.deadline import deadline
from tests.host.tricky import TRICKY


@pytest.mark.parametrize("case", TRICKY, ids=lambda case: case.why)
def test_tricky_outputs_in_both_orders(case) -> None:
    assert parse_answer(case.output, case.options) == case.answer
    assert parse_answer(case.output, case.options[::-1]) == case.answer


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


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("not mnist or svhn", None),
        ("Not svhn, mnist", "mnist"),
        ("mnist not svhn", "mnist"),
        ("**not** mnist, svhn", "svhn"),
        ("It isn’t svhn", None),
        ("svhn has a lower error", "svhn"),
        ("mnist vs svhn: svhn", "svhn"),
        ("svhn/mnist", None),
        ("svhn does not outperform mnist", None),
        ("I can't say for sure but svhn", "svhn"),
        ("Don't know, maybe svhn", "svhn"),
        ("mnist is not as hard, so mnist", "mnist"),
        ("mnist and svhn are both small", None),
        ("Answer:\nsvhn\n\nReason: mnist and svhn differ", "svhn"),
    ],
)
def test_what_is_denied_is_no_answer_and_makes_none(text: str, answer: str | None) -> None:
    assert parse_answer(text, ("mnist", "svhn")) == parse_answer(text, ("svhn", "mnist")) == answer


@pytest.mark.parametrize(
    ("begin", "piece", "answer"),
    [
        ("", "mnist ", "mnist"),
        ("", "mnist or svhn ", None),
        ("", "not mnist, ", None),
        ("", "mnist. svhn ", None),
        ("", "answer: mnist ", "mnist"),
        ("svhn ", "(", "svhn"),
        ("svhn", " ", "svhn"),
    ],
)
def test_a_model_that_repeats_itself_stops_nothing(begin: str, piece: str, answer: str | None) -> None:
    with deadline():
        assert parse_answer(begin + piece * (100_000 // len(piece)), ("mnist", "svhn")) == answer


@pytest.mark.parametrize("blank", [" ", "\t", "\n", " \n"])
@pytest.mark.parametrize(
    ("begin", "end"), [("mnist", "x svhn"), ("answer", "x mnist then svhn"), ("not mnist", "svhn")]
)
def test_long_runs_of_blanks_are_one(begin: str, end: str, blank: str) -> None:
    with deadline():
        long = parse_answer(begin + blank * 50_000 + end, ("mnist", "svhn"))
    assert long == parse_answer(begin + blank + end, ("mnist", "svhn"))
