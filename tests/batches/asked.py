"""Real questions about real networks, encoded, for the tests of batches and scores."""

from __future__ import annotations

from itertools import combinations

from nngpt_ext.batches.encode import Encoder, Example
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.models.base import Base
from nngpt_ext.networks.structure import Structure
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.render import Renderer
from tests import models_made

RECIPES = {
    name: {"lr": 10 ** (-0.5 * i), "batch": 2**i, "momentum": i / 7, "dropout": None, "transform": f"norm_{32 * i}"}
    for i, name in enumerate(sorted(LEMUR_FACTS), 1)
}


def encoder(base: Base, prompt: str = "recipe", code_tokens: int = 60, lines: bool = False) -> Encoder:
    template = get_template(prompt)
    if lines:
        assert template.lines is not None
        template = template.lines
    renderer = Renderer(template, base.tokenizer, code_tokens=code_tokens, facts=LEMUR_FACTS)
    return Encoder(renderer, models_made.sources(), base.context)


def questions(nn: str, pairs: int = 21) -> list[Question]:
    """Both orders of a network's first pairs, the two orders side by side."""
    asked = []
    for i, (one, two) in enumerate(list(combinations(sorted(LEMUR_FACTS), 2))[:pairs]):
        given = {
            "norm_acc": (i / 21, 1 - i / 21), "recipe": (RECIPES[one], RECIPES[two]),
            "structure": (Structure(parameters=10_000 * i, layers=i, last_map=i), Structure(parameters=300, layers=2)),
            "evidence": ({1: i / 21}, {}),
        }  # fmt: skip
        question = Question.of(nn, one, two, 5, **given)
        asked += [question, question.turned()]
    return asked


def encoded(base: Base, nn: str = "AlexNet", pairs: int = 3, prompt: str = "recipe") -> list[Example]:
    return encoder(base, prompt).encode(questions(nn, pairs))
