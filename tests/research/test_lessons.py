"""The lessons of `embedded-2`: lines and questions in the prompts' own wording, with what the rules say."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.models.base import load_base
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.prompts.builtin import NAMES, get_template
from nngpt_ext.prompts.fields import Shown, column_values
from research.embedded.lessons import CLOSE, KINDS, MEASURES, PARTS, RATED, Lessons
from research.embedded.questions import ASKED
from research.embedded.reading import explained
from research.embedded.rules import RULES
from research.embedded.tokenizer import extended_tokenizer
from tests.prompts.real import QUESTION, RECIPES

RECIPE = RECIPES[1]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return extended_tokenizer(EMBEDDED)


@pytest.fixture
def lessons(tokenizer: Any) -> Lessons:
    return Lessons(tokenizer, random.Random(0))


def test_a_line_is_rated_at_its_last_token(lessons: Lessons, tokenizer: Any) -> None:
    for _ in range(50):
        piece = lessons.line()
        text = tokenizer.decode(piece.ids)
        assert text.startswith(RATED)
        assert text.count("\n") == 2
        ((at, values),) = piece.targets
        assert at == len(piece.ids) - 1
        assert tokenizer.decode([piece.ids[at]]) == "\n"
        assert values.shape == (RULES,)
        assert not any(piece.learn)


def test_chunks_have_the_tokens_of_the_whole_text(lessons: Lessons, tokenizer: Any) -> None:
    for _ in range(60):
        piece = lessons.mixed()
        asked = [token for token, learn in zip(piece.ids, piece.learn, strict=True) if not learn]
        assert tokenizer(tokenizer.decode(asked), add_special_tokens=False)["input_ids"] == asked


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_the_higher_line_by_the_rule_that_is_asked_for(
    lessons: Lessons, tokenizer: Any, kind: str
) -> None:
    asked = set()
    for _ in range(150):
        piece = lessons.pair((kind,))
        said = [token for token, learn in zip(piece.ids, piece.learn, strict=True) if learn]
        question, one, two, nothing = tokenizer.decode(piece.ids[: -len(said)]).split("\n")
        assert nothing == ""
        measure = question.removeprefix("Which dataset has the higher ").removesuffix("?")
        asked.add(measure)
        first, second = (values[MEASURES.index(measure)] for _, values in piece.targets)
        assert abs(first - second) >= CLOSE
        better = one if first > second else two
        assert tokenizer.decode(said) == f"{better.split(':')[0]}{tokenizer.eos_token}"
        assert (" lr " in one) == ("r" in PARTS[kind])
        assert ("early " in one) == ("e" in PARTS[kind])
        for at, _ in piece.targets:
            assert tokenizer.decode([piece.ids[at]]) == "\n"
    assert asked == set(MEASURES)


@pytest.mark.parametrize("kind", sorted({*KINDS} & {*NAMES}))
def test_the_words_are_the_prompts_own(lessons: Lessons, tokenizer: Any, kind: str) -> None:
    template = get_template(kind)
    values = column_values(Shown(QUESTION, None, "", LEMUR_FACTS), template.shown)
    names = {"early", "step", "params", "layers", "last", "input", "lr", "batch", "momentum", "dropout", "transform"}
    asked, taught = (
        [word for word in text.split() if word in names]
        for text in (template.fill(values).user.splitlines()[-1], lessons.lines.draw("mnist", PARTS[kind], RECIPE).text)
    )
    assert asked == taught
    assert MEASURES[0] in ASKED
    assert ASKED in template.prompt + "\n"
    assert template.lines is not None
    assert template.lines.prompt.endswith(RATED.rstrip("\n"))


def test_all_sorts_of_pieces_are_mixed(lessons: Lessons) -> None:
    pieces = [lessons.mixed() for _ in range(200)]
    counts = np.bincount([len(piece.targets) for piece in pieces], minlength=3)
    assert counts.min() > 20
    assert all(any(piece.learn) == (len(piece.targets) != 1) for piece in pieces)


@pytest.mark.slow
def test_the_base_that_ships_reads_lines_by_rules_that_it_has_not_learnt() -> None:
    """What a linear layer reads off the frozen base in 4 bits, behind a prompt."""
    assert explained(load_base("embedded-2"), "structure") > 0.9
