"""Made-up questions from which the embedded model learns the prompts' skills.

Skills, not answers: to name one of two offered datasets and stop, to compare decimals, to read recipes and
facts, to weigh two recipes against each other. All numbers are drawn at random, and which recipe suits which
dataset is invented (`Landscape`); no accuracy of LEMUR is among them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.recipe import recipe_text
from nngpt_ext.prompts.render import Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How often each prompt is asked.
WEIGHTS = {"normalized_accuracy": 3, "recipe": 6, "metadata": 1, "code_only": 2}
KINDS = tuple(WEIGHTS)
FAR, CLOSE = 1.0, 0.004  # how far two decimals are apart at most, at the beginning of their lesson and at its end
ASKED = "Which dataset has the higher relative accuracy?\n"  # the prompts' own question
CODE_TOKENS = (0, 16, 64, 128, 256, 512)
TIED = 0.02  # scores of a landscape that are closer than this are not asked for
_SIZES = ("", "32", "64", "128", "256", "299", "512")


@dataclass(frozen=True)
class Piece:
    """Token ids, for each whether the model is trained to predict it, and the rules' numbers at some positions."""

    ids: list[int]
    learn: list[bool]
    targets: tuple[tuple[int, np.ndarray], ...] = ()


class Landscape:
    """An invented rule of how well recipes suit a dataset: a bell over learning rates, slopes for the rest."""

    def __init__(self, dataset: str) -> None:
        rng = random.Random(f"landscape {dataset}")
        self.offset = rng.gauss(0, 0.3)
        self.rate = rng.uniform(-3.5, -0.5)  # log10 of the best learning rate at batch 64
        self.width = rng.uniform(0.7, 1.8)
        self.batch_shift = rng.uniform(0.0, 0.25)  # decades of learning rate for each doubling of the batch
        self.batch = rng.uniform(-0.08, 0.05)
        self.momentum = rng.uniform(-0.2, 0.5)
        self.dropout = rng.uniform(-0.8, 0.2)
        self.flip = rng.uniform(-0.2, 0.2)
        self.echo = rng.uniform(-0.3, 0.3)
        self.sizes = {size: rng.gauss(0, 0.3) for size in _SIZES}

    def score(self, recipe: Mapping[str, Any]) -> float:
        """How well a recipe does; only differences mean anything."""
        steps = math.log2(recipe["batch"]) - 6
        away = (math.log10(recipe["lr"]) - self.rate - self.batch_shift * steps) / self.width
        words = recipe["transform"].split()
        size = next((word for word in words if word in self.sizes), "")
        return (
            self.offset
            + math.exp(-away * away / 2)
            + self.batch * steps
            + self.momentum * recipe["momentum"]
            + self.dropout * (recipe["dropout"] or 0.0)
            + self.flip * ("flip" in words)
            + self.echo * ("echo" in words)
            + self.sizes[size]
        )


def invented_name(rng: random.Random) -> str:
    """A name that looks like a dataset's and is none."""
    word = "".join(rng.choice("bcdfghklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3)))
    return word + rng.choice(["", "", f"-{rng.choice([10, 20, 50, 100, 200])}", str(rng.choice([10, 101, 256]))])


def invented_recipe(rng: random.Random) -> dict[str, Any]:
    """A recipe drawn at random over the ranges in which LEMUR draws its own."""
    words = rng.choice(["norm", "echo"]), rng.choice(_SIZES), rng.choice(["", "flip"])
    return {
        "lr": 10 ** rng.uniform(-5, 0),
        "batch": 2 ** rng.randint(0, 12),
        "momentum": rng.random(),
        "dropout": None if rng.random() < 0.15 else rng.uniform(0, 0.5),
        "transform": " ".join(word for word in words if word),
    }


class Questions:
    """Draws made-up questions in the built-in prompts' own wording, with right answers."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> None:
        self.rng = rng
        self.tokenizer = tokenizer
        self.renderers = {
            name: Renderer(get_template(name), tokenizer, code_tokens=10_000, facts=LEMUR_FACTS) for name in KINDS
        }
        names = random.Random("names")
        # Few invented ones beside the real: each has a rule of its own to be learnt.
        self.names = [*sorted(LEMUR_FACTS), *(invented_name(names) for _ in range(3))]
        self.landscapes = {name: Landscape(name) for name in self.names}

    def bare(self, kinds: Sequence[str] = KINDS) -> Piece:
        """One question without the words that all questions share; its answer is learnt."""
        text, answer = self.question("", kinds)
        return self._piece(text[text.index("Which dataset") :], answer)

    def decimals(self, apart: float) -> Piece:
        """A bare question which of two decimals is larger; half of them differ by `apart` at most.

        In a mixture of close and far ones, among other questions, comparing is never learnt (docs/LOG.md).
        """
        rng = self.rng
        one, two = rng.sample(sorted(LEMUR_FACTS), 2)
        first, second = _decimals(rng, apart if rng.random() < 0.5 else math.exp(rng.uniform(math.log(apart), 0)))
        text = self.renderers["normalized_accuracy"].text(Question.of(one, one, two, 5, norm_acc=(first, second)), "")
        return self._piece(text[text.index("Which dataset") :], one if first > second else two)

    def whole(self, source: str, room: int) -> Piece:
        """One source, cut, and as many questions behind it as fit into `room` tokens; answers are learnt."""
        code = self.renderers["code_only"]
        code.code_tokens = self.rng.choice(CODE_TOKENS)
        shown = code.code(source).text
        ids: list[int] = []
        learn: list[bool] = []
        many = self.rng.random() < 0.8
        while True:
            text, answer = self.question(shown)
            # What all questions share is shown once.
            piece = self._piece(text[text.index("Which dataset") :] if ids else text, answer)
            if len(ids) + len(piece.ids) > room:
                return Piece(ids, learn)
            ids += piece.ids
            learn += piece.learn
            if not many:
                return Piece(ids, learn)

    def question(self, shown: str, kinds: Sequence[str] = KINDS) -> tuple[str, str]:
        """The text of a question of one of the kinds and its answer."""
        rng = self.rng
        kind = rng.choices(kinds, [WEIGHTS[name] for name in kinds])[0]
        one, two = rng.sample(sorted(LEMUR_FACTS) if kind == "metadata" else self.names, 2)
        if kind in ("code_only", "normalized_accuracy") and rng.random() < 0.5:
            one, two = invented_name(rng), invented_name(rng) + rng.choice(["x", "s", "-v2"])
        first, second = _decimals(rng, rng.choice([1.0, 0.3, 0.1, 0.03, 0.01, 0.005]))
        recipes = invented_recipe(rng), invented_recipe(rng)
        if kind == "recipe":
            scores = [self.landscapes[name].score(recipe) for name, recipe in zip((one, two), recipes, strict=True)]
            if abs(scores[0] - scores[1]) < TIED:
                return self.question(shown, kinds)
        question = Question.of(
            one, one, two, rng.choice([1, 2, 5, 10, 20]), norm_acc=(first, second), recipe=tuple(recipes)
        )
        text = self.renderers[kind].text(question, shown)
        if kind == "normalized_accuracy":
            return text, one if first > second else two
        if kind == "code_only":
            return text, rng.choice([one, two])
        if kind == "recipe" and rng.random() < 0.7:
            return text, one if scores[0] > scores[1] else two
        # What is larger is asked in the same words as the task's own question.
        if kind == "metadata":
            field = rng.choice(["training images", "classes"])
            which = "train_images" if field == "training images" else "classes"
            left, right = (float(getattr(LEMUR_FACTS[name], which)) for name in (one, two))
        else:
            field = rng.choice(["lr", "batch", "momentum"])
            left, right = (_step(recipe, field) for recipe in recipes)
        if left == right:
            return self.question(shown, kinds)
        return text.replace("higher relative accuracy?", f"higher {field}?"), one if left > right else two

    def _piece(self, text: str, answer: str) -> Piece:
        asked = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        said = [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
        return Piece(asked + said, [False] * len(asked) + [True] * len(said))


def apart_at(done: float) -> float:
    """How far decimals are apart at most when a share `done` of their lesson is over: ever less, then the least."""
    return float(FAR * (CLOSE / FAR) ** min(done / 0.6, 1.0))


def _decimals(rng: random.Random, apart: float) -> tuple[float, float]:
    """Two different numbers of three places, at most `apart` from each other."""
    while True:
        first = rng.random()
        second = min(max(first + rng.uniform(-apart, apart), 0.0), 1.0)
        first, second = round(first, 3), round(second, 3)
        if first != second:
            return first, second


def _step(recipe: Mapping[str, Any], key: str) -> float:
    """The value as the recipe's text shows it."""
    words = recipe_text(recipe).split()
    return float(words[words.index(key) + 1])
