"""The made-up questions that the embedded model learns from: right answers, in the prompts' own wording."""

from __future__ import annotations

import random
import re
from operator import attrgetter
from typing import Any

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.recipe import recipe_text
from research.embedded.questions import ASKED, KINDS, TIED, Landscape, Questions, invented_recipe
from tests import models_made

LINE = re.compile(r"^(?P<name>[\w.\-]+): (?P<shown>.+)$")


@pytest.fixture
def questions() -> Questions:
    return Questions(models_made.tokenizer(), random.Random(0))


def asked(questions: Questions, kind: str, n: int = 300) -> list[tuple[str, list[str], str]]:
    """(what is asked for, the two lines, the answer) of many questions."""
    found = []
    for _ in range(n):
        text, answer = questions.question("", (kind,))
        question, *lines = text[text.index("Which dataset") :].strip().split("\n")
        found.append((question, lines, answer))
    return found


@pytest.mark.parametrize("name", KINDS)
def test_the_prompts_ask_the_same(name: str) -> None:
    assert ASKED in get_template(name).prompt + "\n"


def test_the_larger_of_two_decimals_in_both_orders(questions: Questions) -> None:
    close, firsts = 0, 0
    for question, lines, answer in asked(questions, "normalized_accuracy"):
        assert question + "\n" == ASKED
        (one, left), (two, right) = (LINE.match(line).groups() for line in lines)  # type: ignore[union-attr]
        assert re.fullmatch(r"[01]\.\d{3}", left)
        assert left != right
        assert answer == (one if float(left) > float(right) else two)
        close += abs(float(left) - float(right)) < 0.0101
        firsts += answer == one
    assert close > 60  # what differs in the third place only is asked often
    assert 100 < firsts < 200


def test_recipes_by_value_or_by_invented_rules(questions: Questions) -> None:
    kinds = set()
    for question, lines, answer in asked(questions, "recipe"):
        shown = dict(LINE.match(line).groups() for line in lines)  # type: ignore[union-attr]
        assert answer in shown
        field = re.fullmatch(r"Which dataset has the higher (.+)\?", question).group(1)  # type: ignore[union-attr]
        kinds.add(field)
        if field != "relative accuracy":
            words = {name: text.split() for name, text in shown.items()}
            values = {name: float(text[text.index(field) + 1]) for name, text in words.items()}
            assert values[answer] == max(values.values())
            assert len(set(values.values())) == 2
    assert kinds == {"relative accuracy", "lr", "batch", "momentum"}


def test_facts_are_compared_rightly(questions: Questions) -> None:
    for question, lines, answer in asked(questions, "metadata", 60):
        names = [LINE.match(line).group("name") for line in lines]  # type: ignore[union-attr]
        which = attrgetter("train_images" if "training images" in question else "classes")
        assert which(LEMUR_FACTS[answer]) == max(which(LEMUR_FACTS[name]) for name in names)


def test_without_anything_to_go_by_either_name_is_the_answer(questions: Questions) -> None:
    found = asked(questions, "code_only")
    offered = [re.fullmatch(r"(\S+) or (\S+)\?", lines[0]).groups() for _, lines, _ in found]  # type: ignore[union-attr]
    firsts = sum(answer == one for (one, _), (_, _, answer) in zip(offered, found, strict=True))
    assert all(answer in names for names, (_, _, answer) in zip(offered, found, strict=True))
    assert 110 < firsts < 190


def test_landscapes_are_invented_and_stay_the_same() -> None:
    recipes = [invented_recipe(random.Random(i)) for i in range(50)]
    for name in ("mnist", "svhn"):
        one, again = Landscape(name), Landscape(name)
        assert [one.score(r) for r in recipes] == [again.score(r) for r in recipes]
    assert [Landscape("mnist").score(r) for r in recipes] != [Landscape("svhn").score(r) for r in recipes]
    assert all(recipe_text(recipe) for recipe in recipes)
    assert TIED > 0


def test_only_answers_are_learnt(questions: Questions) -> None:
    tokenizer: Any = models_made.tokenizer()
    for kind in KINDS:
        piece = questions.bare((kind,))
        said = [token for token, learn in zip(piece.ids, piece.learn, strict=True) if learn]
        assert said[-1] == tokenizer.eos_token_id == piece.ids[-1]
        text = tokenizer.decode(piece.ids[: -len(said)])
        assert f"\n{tokenizer.decode(said[:-1])}" in text or tokenizer.decode(said[:-1]) in text
        assert text.startswith("Which dataset has the higher ")


def test_whole_questions_stand_behind_their_source_and_fit(questions: Questions) -> None:
    tokenizer: Any = models_made.tokenizer()
    source = models_made.sources()["VGG"]
    lengths = set()
    for _ in range(20):
        piece = questions.whole(source, 900)
        assert len(piece.ids) <= 900
        assert tokenizer.decode(piece.ids).startswith("You compare how one neural network does")
        lengths.add(sum(token == tokenizer.eos_token_id for token in piece.ids))
    assert min(lengths) == 1
    assert max(lengths) > 10
