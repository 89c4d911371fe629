"""Messages are one line of limited length, whatever they quote."""

from __future__ import annotations

import json
import pickle
from io import StringIO
from pathlib import Path

import pandas as pd
import pytest

from nngpt_ext.errors import UserError, for_request, for_shell, parsing, shown, typed, unknown

LONG = "a" * 5_000


class Odd:
    def __repr__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("one\n  two\r\n\n three\u2028four", "one two three four"),
        ("a\x1b[31mb\ud800\0\u202e", "a\\x1b[31mb\\ud800\\x00\\u202e"),
        ("é  ü … 'x'", "é  ü … 'x'"),
    ],
)
def test_a_message_is_one_printable_line(given: str, line: str) -> None:
    assert str(UserError(given)) == line
    assert str(pickle.loads(pickle.dumps(UserError(given)))) == line


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    line = str(UserError(f"the value {LONG} is wrong; type this"))
    assert len(line) < 1_700
    assert line.startswith("the value aaa")
    assert line.endswith("aaa is wrong; type this")


@pytest.mark.parametrize(
    "value",
    [LONG, Path(LONG), [LONG] * 9, {LONG: LONG}, 10**5_000, Odd(), [[[[[[[[[[[[]]]]]]]]]]]], LONG.encode()],
    ids=range(8),
)
def test_a_value_is_quoted_in_about_a_hundred_characters(value: object) -> None:
    assert 0 < len(shown(value)) <= 103


def test_short_values_are_quoted_whole() -> None:
    assert [shown(value) for value in ("a b", Path("a"), 3, None, [1])] == ["'a b'", "'a'", "3", "None", "[1]"]
    assert str(unknown("split", LONG, ["x"])).endswith("aaa'; known: x")


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (RecursionError("maximum"), "too deeply nested"), (MemoryError(), "too deeply nested"),
        (KeyError("x"), "a value has the wrong type"), (AttributeError("'NoneType'"), "a value has the wrong type"),
        (OverflowError("too large\nsecond"), "too large"), (AssertionError(), "AssertionError"),
        (FileNotFoundError(2, "No such file", "x"), "No such file"), (ValueError(LONG), "aaa"),
    ],
)  # fmt: skip
def test_every_failure_of_a_parser_is_one_line(error: Exception, why: str) -> None:
    with pytest.raises(UserError) as caught, parsing("this is not X", "do that"):
        raise error
    assert str(caught.value).startswith(f"this is not X ({why}")
    assert str(caught.value).endswith("); do that")
    assert len(str(caught.value)) < 400


def test_lines_for_users_pass_through() -> None:
    with pytest.raises(UserError, match=r"^mine$"), parsing("this is not X"):
        raise UserError("mine")


@pytest.mark.parametrize("parse", [json.loads, lambda text: pd.read_json(StringIO(text), lines=True)])
def test_a_number_with_too_many_digits_is_said(parse) -> None:
    with (
        pytest.raises(UserError, match=r"^it is not JSON \(a whole number has too many digits\)$"),
        parsing("it is not JSON"),
    ):
        parse('{"a": ' + "1" * 5_000 + "}")


def test_advice_is_for_the_reader() -> None:
    given = "--evidence '…'", "evidence={'mnist': {1: 0.91}, 'svhn': None}"
    assert typed(*given) == given[1]
    with for_shell():
        assert typed(*given) == given[0]
        with for_request():
            assert typed(*given) == '"evidence": {"mnist": {"1": 0.91}, "svhn": null}'
            assert typed("--base X", "give another one", "ask the server's user") == "ask the server's user"
        assert typed(*given) == given[0]
