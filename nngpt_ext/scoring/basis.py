"""What an answer rests on: how the network, its structure and the recipe of a question compare with the training.

An adapter keeps in `basis.json` what its training saw of whatever its prompt shows. No answer depends on
it but with `tuning.offset: kind_prior`, which takes the network's kind from it.
"""

from __future__ import annotations

import base64
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, FiniteFloat, model_validator

from nngpt_ext.compact import compact_code
from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.data.families import PERMUTATIONS, signature, signatures
from nngpt_ext.data.lineage import ALIKE, known_kind
from nngpt_ext.declaration import Declarations
from nngpt_ext.io import digest, text_digest, write_text
from nngpt_ext.networks.structure import input_shape
from nngpt_ext.prompts.fields import Side
from nngpt_ext.prompts.recipe import as_number
from nngpt_ext.prompts.scales import pace, short_number
from nngpt_ext.prompts.template import Template
from nngpt_ext.run_folder import BASIS, read_adapter_file
from nngpt_ext.scoring.predictions import questions_of
from nngpt_ext.settings import Stage

if TYPE_CHECKING:
    from nngpt_ext.data.load import PairData

MOST = 2_000  # networks whose signatures are kept: 0.7 MB
_KEPT = "<u2"  # of each hash value the last 16 bits: two that differ agree in them once in 65,536 times


@dataclass(frozen=True)
class Quantity:
    """A number that a prompt shows of each dataset.

    Attributes:
        noun: its name in sentences.
        group: what it is of, in `GROUPS`.
        fields: the prompt fields that show it.
        value: the number on a side at a resolution (None: unknown); None if it has none there.
    """

    name: str
    description: str
    noun: str
    group: str
    fields: tuple[str, ...]
    value: Callable[[Side, int | None], float | None]


def _of_structure(name: str, noun: str, description: str) -> Quantity:
    fields = ("structure", "structure_tenths")
    return Quantity(name, description, noun, "structure", fields, lambda side, _: _number(side, "structure", name))


def _of_recipe(name: str, description: str) -> Quantity:
    return Quantity(name, description, name, "recipe", ("recipe",), lambda side, _: _number(side, "recipe", name))


def _number(side: Side, given: str, name: str) -> float | None:
    found = side.given.get(given)
    value = found.get(name) if isinstance(found, Mapping) else getattr(found, name, None)
    return None if value is None or value == "" else float(value)


def _pace(side: Side, _: int | None) -> float | None:
    recipe = side.given.get("recipe")
    return None if recipe is None else pace(recipe)


def _early(side: Side, _: int | None) -> float | None:
    known = side.given.get("evidence")
    return known[max(known)] if known else None


# What quantities are of: as sentences begin, and what they say of a quantity that the question has on no dataset.
GROUPS = {
    "structure": ("Structure", "unknown"),
    "recipe": ("Recipe", "not given"),
    "evidence": ("Early accuracies", "not trained yet"),
}
QUANTITIES = Declarations(
    "quantity",
    [
        _of_structure("parameters", "parameters", "parameters"),
        _of_structure("layers", "layers", "layers with weights"),
        _of_structure("last_map", "last map", "height of the last feature map in pixels"),
        _of_recipe("lr", "learning rate"),
        _of_recipe("batch", "examples in a batch"),
        _of_recipe("momentum", "momentum"),
        _of_recipe("dropout", "dropout"),
        Quantity("pace", "lr / (batch · (1 − momentum))", "pace", "recipe", ("pace", "pace_tenths"), _pace),
        Quantity(
            "resolution", "height of the images in pixels", "resolution", "recipe",
            ("recipe", "input", "input_tenths", "recipe_input", "recipe_input_tenths"), lambda _, height: height,
        ),
        Quantity(
            "early", "accuracy at the last epoch of evidence, relative to the best of training networks",
            "relative to the best in training", "evidence", ("evidence",), _early,
        ),
    ],
)  # fmt: skip


@dataclass(frozen=True)
class Compared:
    """A quantity on the datasets of a question, beside the training.

    Attributes:
        low, high: its smallest and largest value.
        below: share of the training's values below `low`, to a hundredth.
        above: share of the training's values above `high`.
        training: the smallest and the largest value of the training.
    """

    low: float
    high: float
    below: float
    above: float
    training: tuple[float, float]

    def __str__(self) -> str:
        own = _range(self.low, self.high)
        least, most = self.training
        if self.low > most:
            return f"{own}, above all in training ({_range(least, most)})"
        if self.high < least:
            return f"{own}, below all in training ({_range(least, most)})"
        if self.low < least or self.high > most:
            return f"{own}, partly outside the training ({_range(least, most)})"
        if self.below >= 0.5:
            return f"{own}, more than in {100 * self.below:.0f} % of training"
        if self.above >= 0.5:
            return f"{own}, less than in {100 * self.above:.0f} % of training"
        return f"{own}, as usual in training"


@dataclass(frozen=True)
class Basis:
    """What the answer to a question rests on.

    Attributes:
        networks: number of training networks.
        nearest: the training network whose source is most like that of the question; None if no source is shown.
        similarity: of the two sources, from 0 to 1 (estimated Jaccard similarity of runs of tokens).
        kind: of the network, by its source (`nngpt_ext.data.lineage.KINDS`); None if it is like no network in training.
        of_kind: number of training networks of this kind.
        numbers: each number that the prompt shows, by its name in `QUANTITIES`; None where the question has none.
        fields: likewise each further number of the recipe, by its key.
        new: values of the recipe that no recipe in training had, by key: texts, and numbers where training has texts.
    """

    networks: int
    nearest: str | None
    similarity: float | None
    kind: str | None
    of_kind: int
    numbers: dict[str, Compared | None]
    fields: dict[str, Compared | None]
    new: dict[str, list[str]]

    def lines(self) -> list[str]:
        """Sentences for a reader: about the source, the structure, the recipe and the early accuracies."""
        found = []
        if self.similarity is not None:
            kind = "kind none: unlike any network in training"
            if self.kind is not None:
                number = f"as {self.of_kind:,} of them" if self.of_kind else "of which training had none"
                kind = f"kind {self.kind}, {number}"
            like = f"most like {self.nearest} among {self.networks:,} training networks"
            found.append(f"Source: {like} (similarity {self.similarity:.2f}); {kind}.")
        for group, (beginning, none) in GROUPS.items():
            own = [
                f"{QUANTITIES[name].noun} {none if one is None else one}"
                for name, one in self.numbers.items()
                if QUANTITIES[name].group == group
            ]
            if group == "recipe":
                own += [f"{name} {none if one is None else one}" for name, one in self.fields.items()]
                own += [f"{name} {' and '.join(values)}, never in training" for name, values in self.new.items()]
            if own:
                found.append(f"{beginning}: {'; '.join(own)}.")
        return found


class Seen(Stage):
    """`basis.json` in an adapter's folder: what its training saw of what its prompt shows."""

    networks: int = Field(ge=1, description="training networks")
    kinds: dict[str, int] = Field(description="how many of them are of each kind; empty if no source is shown")
    known: dict[str, str | None] = Field(description="those with a signature, and their kinds")
    signatures: str = Field(description=f"of these, {PERMUTATIONS} numbers of 16 bits each, in base64")
    numbers: dict[str, list[FiniteFloat]] = Field(description="percentiles 0 to 100 of each quantity")
    fields: dict[str, list[FiniteFloat]] = Field({}, description="likewise of further numbers of the recipes")
    texts: dict[str, list[str]] | None = Field(None, description="values of the recipes that are texts")

    @model_validator(mode="after")
    def _check(self) -> Seen:
        if _values(self.signatures).shape != (len(self.known), PERMUTATIONS):
            raise ValueError("the number of signatures is not that of the networks")
        if strange := set(self.numbers) - set(QUANTITIES):
            raise ValueError(f"{min(strange)} is no quantity")
        for name, values in (self.numbers | self.fields).items():
            if len(values) != 101 or values != sorted(values):
                raise ValueError(f"{name} has no percentiles")
        return self

    def save(self, folder: Path) -> None:
        """Write it to an adapter's folder."""
        write_text(folder / BASIS, self.model_dump_json() + "\n")

    def kind_of(self, source: str) -> str | None:
        """The kind of a network: a known one's own, or that of the most like network in training, if it is alike."""
        return self._nearest(source)[2]

    def _nearest(self, source: str) -> tuple[str | None, float | None, str | None]:
        """The most like network in training, the similarity to it, and the kind."""
        if not self.known:
            return None, None, None
        compact = compact_code(source)
        alike = (_values(self.signatures) == signature(compact).astype(_KEPT)).mean(axis=1)
        nearest, similarity = list(self.known)[int(alike.argmax())], float(alike.max())
        return (
            nearest,
            similarity,
            known_kind(text_digest(compact)) or (self.known[nearest] if similarity >= ALIKE else None),
        )

    def holds(self, source: str) -> bool:
        """Whether the network is one of training, by the signature of its source."""
        return bool(self.known) and self._nearest(source)[1] == 1.0

    @property
    def hash(self) -> str:
        """Hash of what decides the kind of a network."""
        return digest([self.known, self.signatures])

    def basis(self, template: Template, source: str, sides: Sequence[Side], facts: Mapping[str, DatasetFacts]) -> Basis:
        """What the answer to a question about these datasets rests on.

        Args:
            template: the prompt.
            source: the network's.
            sides: the datasets, with what is given for each.
            facts: facts about datasets by name.
        """
        nearest, similarity, kind = self._nearest(source) if template.needs("nn_code") else (None, None, None)
        own, texts = _own(template, sides)
        numbers, fields = (
            {name: _compared(asked.get(name, []), values) for name, values in seen.items()}
            for seen, asked in ((self.numbers, _numbers(template, sides, facts)), (self.fields, own))
        )
        for name in set(own) - set(self.fields):
            texts.setdefault(name, []).extend(map(short_number, own[name]))
        known = {name: sorted(set(values) - set((self.texts or {}).get(name, ()))) for name, values in texts.items()}
        new = {name: values for name, values in sorted(known.items()) if values} if self.texts is not None else {}
        return Basis(self.networks, nearest, similarity, kind, self.kinds.get(kind or "", 0), numbers, fields, new)


def seen_in_training(template: Template, data: PairData, *, kinds: bool = False) -> Seen:
    """What training on these pairs sees of what a prompt shows; of more than 2,000 networks, every n-th is kept.

    With `kinds`, networks are kept even if the prompt shows no source.
    """
    names = sorted(data.training["nn"].unique())
    kept = names[:: -(-len(names) // MOST)] if kinds or template.needs("nn_code") else []
    values = signatures(data.sources, kept, compact=True).astype(_KEPT)
    sides = {
        (question.nn, side.dataset, repr(sorted(side.given.get("recipe", {}).items()))): side
        for question in questions_of(data.training)
        for side in (question.first, question.second)
    }
    numbers, (own, texts) = _numbers(template, sides.values(), data.facts), _own(template, sides.values())
    counted = Counter(data.kinds[nn] for nn in names if nn in data.kinds) if kept else {}
    return Seen(
        networks=len(names),
        kinds=dict(sorted(counted.items())),
        known={nn: data.kinds.get(nn) for nn in kept},
        signatures=base64.b64encode(values.tobytes()).decode(),
        numbers={name: _percentiles(found) for name, found in numbers.items() if found},
        fields={name: _percentiles(found) for name, found in sorted(own.items())},
        texts={name: sorted(set(found)) for name, found in sorted(texts.items())},
    )


def read_seen(folder: Path) -> Seen | None:
    """Read `basis.json` in an adapter's folder; None for an older adapter, which has none.

    Raises:
        UserError: if it is damaged.
    """
    return read_adapter_file(folder, BASIS, Seen) if (folder / BASIS).exists() else None


@lru_cache(maxsize=4)  # of the adapters that are asked
def _values(signatures: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(signatures, validate=True), _KEPT).reshape(-1, PERMUTATIONS)


def _numbers(template: Template, sides: Iterable[Side], facts: Mapping[str, DatasetFacts]) -> dict[str, list[float]]:
    """The known values of each quantity that the prompt shows."""
    shown = [one for one in QUANTITIES.values() if any(map(template.shows, one.fields))]
    found: dict[str, list[float]] = {one.name: [] for one in shown}
    for side in sides:
        height = _height(template, side, facts)
        for one in shown:
            value = one.value(side, height)
            if value is not None:
                found[one.name].append(_rounded(value))
    return found


def _own(template: Template, sides: Iterable[Side]) -> tuple[dict[str, list[float]], dict[str, list[str]]]:
    """The numbers of the recipes' fields that are no quantity, and the texts, by field."""
    numbers: dict[str, list[float]] = {}
    texts: dict[str, list[str]] = {}
    for side in sides if template.shows("recipe") else ():
        for name, value in (side.given.get("recipe") or {}).items():
            if value is None or value == "" or (name in QUANTITIES and QUANTITIES[name].fields == ("recipe",)):
                continue
            number = as_number(value)
            if number is None:
                texts.setdefault(name, []).append(str(value))
            elif math.isfinite(number):
                numbers.setdefault(name, []).append(_rounded(number))
    return numbers, texts


def _height(template: Template, side: Side, facts: Mapping[str, DatasetFacts]) -> int | None:
    recipe: Mapping[str, Any] = (side.given.get("recipe") if template.at_resolution else None) or {}
    known = facts.get(side.dataset)
    return None if known is None else input_shape(side.dataset, known, recipe.get("transform") or None).height


def _percentiles(values: Sequence[float]) -> list[float]:
    return np.percentile(values, np.arange(101), method="inverted_cdf").tolist()


def _compared(values: Sequence[float], percentiles: Sequence[float]) -> Compared | None:
    if not values:
        return None
    low, high = min(values), max(values)
    below = np.searchsorted(percentiles, low, "left") / len(percentiles)
    above = 1 - np.searchsorted(percentiles, high, "right") / len(percentiles)
    return Compared(low, high, round(float(below), 2), round(float(above), 2), (percentiles[0], percentiles[-1]))


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")


def _range(low: float, high: float) -> str:
    one, other = short_number(low), short_number(high)
    return one if one == other else f"{one} to {other}"
