"""What the embedded model reads: sources outside all pairs, and made-up questions about them.

The questions teach skills, not answers: to name one of two offered datasets and stop, to compare two
decimals, to read a recipe and a dataset's facts. All numbers in them are drawn at random; no accuracy
of LEMUR is among them.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from nngpt_ext.lemur.clusters import THRESHOLD, signatures
from nngpt_ext.lemur.facts import FACTS
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.compact import compact_code
from nngpt_ext.prompts.recipe import recipe_text
from nngpt_ext.prompts.render import Question, Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_WEIGHTS = {"normalized_accuracy": 3, "recipe": 2, "metadata": 1, "code_only": 4}
KINDS = tuple(_WEIGHTS)
_TRANSFORMS = ("norm", "echo", "norm flip", "echo flip")
_SHARED = "the best one known for its dataset.\n"
_SIZES = ("32", "64", "128", "256", "299", "512")


class Piece(NamedTuple):
    """Token ids, and for each whether the model is trained to predict it."""

    ids: list[int]
    learn: list[bool]


def distinct(sources: Mapping[str, str]) -> list[str]:
    """Names of sources of which none is a near-duplicate of an earlier one (in text order)."""
    names = sorted(sources)
    values = signatures(sources, names)
    kept = np.empty_like(values)
    chosen: list[str] = []
    for name, value in zip(names, values, strict=True):
        if not chosen or (kept[: len(chosen)] == value).mean(axis=1).max() < THRESHOLD:
            kept[len(chosen)] = value
            chosen.append(name)
    return chosen


def invented_name(rng: random.Random) -> str:
    """A name that looks like a dataset's and is none."""
    word = "".join(rng.choice("bcdfghklmnprstvz") + rng.choice("aeiou") for _ in range(rng.randint(1, 3)))
    return word + rng.choice(["", "", f"-{rng.choice([10, 20, 50, 100, 200])}", str(rng.choice([10, 101, 256]))])


def invented_recipe(rng: random.Random) -> dict[str, object]:
    """A recipe drawn at random over the ranges in which LEMUR draws its own."""
    return {
        "lr": 10 ** rng.uniform(-5, 0),
        "batch": 2 ** rng.randint(0, 12),
        "momentum": rng.random(),
        "dropout": None if rng.random() < 0.15 else rng.uniform(0, 0.5),
        "transform": " ".join((rng.choice(_TRANSFORMS), rng.choice(_SIZES))),
    }


class Questions:
    """Draws made-up questions in the built-in prompts' own wording, with right answers."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> None:
        self.rng = rng
        self.tokenizer = tokenizer
        self.renderers = {
            name: Renderer(get_template(name), tokenizer, code_tokens=10_000)
            for name in ("code_only", "normalized_accuracy", "recipe", "metadata")
        }

    def piece(self, source: str, room: int) -> Piece:
        """One source (cut) and as many questions behind it as fit into `room` tokens; answers are learnt."""
        rng = self.rng
        code = self.renderers["code_only"]
        code.code_tokens = rng.choice([0, 16, 64, 128, 192, 256, 384])
        shown = code.code(source).text
        ids: list[int] = []
        learn: list[bool] = []
        while True:
            text, answer = self.question(shown)
            if ids:  # what all questions share was shown already
                text = text[text.index(_SHARED) + len(_SHARED) :]
            asked = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            said = [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
            if len(ids) + len(asked) + len(said) > room:
                return Piece(ids, learn)
            ids += asked + said
            learn += [False] * len(asked) + [True] * len(said)

    def lesson(self, source: str, stage: int) -> Piece:
        """One question by itself, its answer learnt.

        Reading which two names are offered is hard to find in long texts and easy in short ones, so the
        lessons grow: stage 0 is a bare question, stage 1 the whole prompt without a source, stage 2 with one.
        """
        shown = ""
        if stage == 2:
            code = self.renderers["code_only"]
            code.code_tokens = self.rng.choice([16, 64, 128, 200])
            shown = code.code(source).text
        text, answer = self.question(shown, ["code_only"] if stage == 0 else KINDS)
        if stage == 0:
            text = text[text.index(_SHARED) + len(_SHARED) :]
        asked = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        said = [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
        return Piece(asked + said, [False] * len(asked) + [True] * len(said))

    def question(self, shown: str, kinds: Sequence[str] = KINDS) -> tuple[str, str]:
        """The text of a question of one of the kinds and its answer."""
        rng = self.rng
        names = sorted(FACTS)
        one, two = rng.sample(names, 2) if rng.random() < 0.7 else (invented_name(rng), invented_name(rng))
        if one == two:
            two += "x"
        kind = rng.choices(kinds, [_WEIGHTS[name] for name in kinds])[0]
        if kind == "metadata" and not {one, two} <= set(FACTS):
            kind = "normalized_accuracy"
        first = rng.random()
        spread = rng.choice([0.3, 0.1, 0.03, 0.01])
        second = min(max(first + rng.uniform(-spread, spread), 0.0), 1.0)
        first, second = round(first, 3), round(second, 3)
        recipes = invented_recipe(rng), invented_recipe(rng)
        question = Question(one, one, two, rng.choice([1, 2, 5, 10, 20]), first, second, *recipes)
        text = self.renderers[kind].text(question, shown)
        if kind == "normalized_accuracy":
            return text, one if first >= second else two
        if kind == "code_only":
            return text, rng.choice([one, two])
        # What is larger is asked in the same words as the task's own question.
        if kind == "metadata":
            field = rng.choice(["training images", "classes"])
            which = 0 if field == "training images" else 3
            left, right = float(FACTS[one][which]), float(FACTS[two][which])
            asked = f"More {field}: "
        else:
            key, asked = rng.choice(
                [("lr", "Higher lr: "), ("batch", "Larger batch: "), ("momentum", "More momentum: ")]
            )
            left, right = (_step(recipe, key) for recipe in recipes)
        return text.replace("Higher relative accuracy: ", asked), one if left >= right else two


def _step(recipe: Mapping[str, object], key: str) -> float:
    """The value as the recipe's text shows it."""
    words = recipe_text(recipe).split()
    return float(words[words.index(key) + 1])


def pieces(
    sources: Mapping[str, str], tokenizer: PreTrainedTokenizerBase, *, row: int, skills: float, seed: int
) -> Iterator[Piece]:
    """Rows of `row` tokens without end: sources one after the other, and a share of rows with questions."""
    rng = random.Random(seed)
    names = sorted(sources)
    compact = {name: compact_code(sources[name]) for name in names}
    tokens = {
        name: [*tokenizer(compact[name], add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        for name in names
    }
    questions = Questions(tokenizer, rng)
    stream: list[int] = []
    while True:
        if rng.random() < skills:
            ids, learn = questions.piece(sources[rng.choice(names)], row)
            short = row - len(ids)
            yield Piece(ids + [tokenizer.pad_token_id] * short, learn + [False] * short)
            continue
        while len(stream) < row:
            stream += tokens[rng.choice(names)]
        yield Piece(stream[:row], [True] * row)
        stream = stream[row:]
