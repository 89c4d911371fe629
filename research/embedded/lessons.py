"""What `embedded-2` learns beyond `embedded`: to read a line by invented rules, and to compare two lines by them."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import numpy as np

from nngpt_ext.data.facts import LEMUR_FACTS
from research.embedded.questions import ASKED, Piece, Questions, invented_name, invented_recipe
from research.embedded.rules import Line, Lines, Rules

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PreTrainedTokenizerBase

# What a line shows (see `Lines.draw`), and how often. `ps` is in no built-in prompt, and short.
WEIGHTS = {"structure": 4, "pace_structure": 3, "recipe_structure": 8, "evidence": 3, "recipe_structure_evidence": 5}
PARTS = {
    "structure": "s", "pace_structure": "ps", "recipe_structure": "psr", "evidence": "e",
    "recipe_structure_evidence": "epsr",
}  # fmt: skip
KINDS = tuple(WEIGHTS)
SAMPLE = 4000  # lines from which the rules' means and spreads are computed
CLOSE = 0.15  # standard deviations: closer lines are not asked to be compared
# Rules that are asked for by name, the first in the prompts' own words.
MEASURES = ("relative accuracy", "damola", "kitu", "ravene", "zubo", "pimir", "fosela", "nehu")
RATED = "How high is the relative accuracy?\n"  # as the prompts' line form asks


class Lessons:
    """Draws lines and questions about two of them, with what every rule says at the end of each line."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> None:
        self.rng = rng
        self.tokenizer = tokenizer
        names = random.Random("names of rules")
        self.names = [*sorted(LEMUR_FACTS), *(invented_name(names) for _ in range(2))]
        self.lines = Lines(rng)
        drawn = Lines(random.Random("lines of rules"))
        self.rules = Rules(self.names, [self._line(drawn, name) for name in self.names * (SAMPLE // len(self.names))])
        self.older = Questions(tokenizer, rng)

    def line(self) -> Piece:
        """The line form of a prompt: the question and one line; nothing is said."""
        one = self._line(self.lines, self.rng.choice(self.names))
        return self._piece([RATED, _text(one)], [one], None)

    def pair(self, kinds: Sequence[str] = KINDS) -> Piece:
        """A question which of two lines is higher by one of `MEASURES`, its answer learnt."""
        while True:
            kind = self.rng.choices(kinds, [WEIGHTS[name] for name in kinds])[0]
            one, two = self._two(kind)
            measure = 0 if self.rng.random() < 0.3 else self.rng.randrange(len(MEASURES))
            values = self.rules([one, two])[:, measure]
            if abs(values[0] - values[1]) >= CLOSE:
                break
        head = ASKED.replace(MEASURES[0] + "?", MEASURES[measure] + "?")
        return self._piece([head, _text(one), _text(two)], [one, two], one.name if values[0] > values[1] else two.name)

    def mixed(self) -> Piece:
        """A line, a question about two, or a question of those that `embedded` learnt from."""
        chance = self.rng.random()
        if chance < 0.25:
            return self.line()
        if chance < 0.8:
            return self.pair()
        return self.older.bare()

    def _two(self, kind: str) -> tuple[Line, Line]:
        """Two datasets' lines about the same network."""
        structure = self.lines.structure()
        one, two = self.rng.sample(self.names, 2)
        return (
            self.lines.draw(one, PARTS[kind], invented_recipe(self.rng), structure),
            self.lines.draw(two, PARTS[kind], invented_recipe(self.rng), self.lines.beside(structure)),
        )

    @staticmethod
    def _line(lines: Lines, name: str) -> Line:
        kind = lines.rng.choices(KINDS, list(WEIGHTS.values()))[0]
        return lines.draw(name, PARTS[kind], invented_recipe(lines.rng))

    def _piece(self, chunks: list[str], lines: list[Line], answer: str | None) -> Piece:
        """Tokens of a question whose last chunks are lines, and its answer.

        Chunks end with a line break, where the tokenizer always splits: each has the tokens that it has in the whole.
        """
        encoded = self.tokenizer(chunks, add_special_tokens=False)["input_ids"]
        ends = np.cumsum([len(ids) for ids in encoded])[-len(lines) :] - 1
        ids = [token for chunk in encoded for token in chunk]
        said: list[int] = []
        if answer is not None:
            said = [*self.tokenizer(answer, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
        targets = zip(map(int, ends), self.rules(lines), strict=True)
        return Piece(ids + said, [False] * len(ids) + [True] * len(said), tuple(targets))


def _text(line: Line) -> str:
    return f"{line.name}: {line.text}\n"
