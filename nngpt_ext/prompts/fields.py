"""What a prompt may show: one table of fields, each with the source of its value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nngpt_ext.data.facts import FACT, DatasetFacts
from nngpt_ext.declaration import Declarations
from nngpt_ext.errors import UserError
from nngpt_ext.networks.structure import input_shape
from nngpt_ext.prompts.recipe import recipe_text
from nngpt_ext.prompts.scales import INPUT, early_hundredths, pace_plain, pace_tenths, structure_plain, structure_tenths


@dataclass(frozen=True)
class Side:
    """One of the two datasets of a question, and what is known about the network on it.

    `given` is by the names in `GIVEN`: `recipe`, `norm_acc`, `structure`, `evidence` (relative accuracies by epoch,
    none before training).
    """

    dataset: str
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Question:
    """A network and two datasets in the order in which they are offered, with the values that a prompt may show."""

    nn: str
    first: Side
    second: Side
    epoch: int | None = None

    @classmethod
    def of(cls, nn: str, dataset_1: str, dataset_2: str, epoch: int | None = None, **given: Any) -> Question:
        """A question from plain values: `Question.of("AlexNet", "mnist", "svhn", 5, recipe=(one, two))`.

        Args:
            nn: the network's name.
            dataset_1, dataset_2: in the order in which they are offered.
            epoch: the epoch at which accuracies are compared.
            **given: by the names in `GIVEN`, a pair of values, one for each dataset.
        """
        first, second = ({name: pair[i] for name, pair in given.items()} for i in (0, 1))
        return cls(nn, Side(dataset_1, first), Side(dataset_2, second), epoch)

    @property
    def dataset_1(self) -> str:
        """The dataset that is offered first."""
        return self.first.dataset

    @property
    def dataset_2(self) -> str:
        """The dataset that is offered second."""
        return self.second.dataset

    def turned(self) -> Question:
        """The same question with the datasets in reverse order."""
        return Question(self.nn, self.second, self.first, self.epoch)


@dataclass(frozen=True)
class Shown:
    """What field values are computed from."""

    question: Question
    source: str | None  # the network's whole source
    code: str | None  # the part of it that the prompt shows
    facts: Mapping[str, DatasetFacts]  # about datasets by name


@dataclass(frozen=True)
class Given:
    """What the user gives for each dataset, and what one or more fields show."""

    name: str  # its key in `Side.given`; the table of pairs has it as `NAME_1`, `NAME_2`
    noun: str  # what it is called for one dataset, for the error if it is missing
    example: str  # the argument of `Predictor.compare` that gives it for the datasets `{dataset}` and `{other}`
    option: str  # the same on the command line
    request: str | None = None  # the same as a request's field; by default, `example` as JSON has it


@dataclass(frozen=True)
class PromptField:
    """A value that a prompt can show: one of the network, or one of each of the two datasets."""

    name: str
    description: str
    columns: tuple[str, ...]  # its names in templates: one for a value of the network, else two
    value: Callable[[Shown, Side], Any]  # the value, of the side if it is a dataset's, or None if it is unknown
    given: Given | None = None  # what the user gives for each dataset and it is computed from
    facts: bool = False  # it is computed from the dataset's facts
    host: bool = True  # NNGPT's own loader fills the columns
    rounded: bool = False  # a template may round it: `{variable:.3f}`


def _fact(name: str, description: str, attribute: str) -> PromptField:
    def value(shown: Shown, side: Side) -> Any:
        facts = shown.facts.get(side.dataset)
        return None if facts is None else getattr(facts, attribute)

    return PromptField(name, description, (f"{name}_1", f"{name}_2"), value, facts=True)


_RECIPE = "recipe={{'lr': 0.01, 'batch': 64, 'momentum': 0.9, 'dropout': None, 'transform': 'norm_32'}}"
GIVEN = {
    one.name: one
    for one in (
        Given(
            "norm_acc",
            "an accuracy",
            "accuracies={{'{dataset}': 0.9, '{other}': 0.8}}",
            """--accuracies '{{"{dataset}": 0.9, "{other}": 0.8}}' (of compare and rank)""",
        ),
        Given(
            "recipe",
            "a recipe",
            _RECIPE,
            """--recipe '{{"lr": 0.01, "batch": 64, "momentum": 0.9, "transform": "norm_32"}}'""",
        ),
        Given(
            "structure",
            "a structure",
            "structure='measure'",
            "--structure measure",
            '"structure": the numbers that nngpt-ext structure --json prints, or "measure" if the server measures',
        ),
        Given(
            "evidence",
            "early accuracies",
            "evidence={{'{dataset}': {{1: 0.91}}, '{other}': {{1: 0.55}}}}",
            """--evidence '{{"{dataset}": {{"1": 0.91}}, "{other}": {{"1": 0.55}}}}'""",
        ),
    )
}


def _of_side(
    name: str, description: str, given: str, written: Callable[[Any], Any], *, columns: tuple[str, str] | None = None,
    host: bool = False, rounded: bool = False,
) -> PromptField:  # fmt: skip
    """A field that shows what was given for a dataset; `written` returns it as the prompt shows it."""

    def value(shown: Shown, side: Side) -> Any:
        found = side.given.get(given)
        try:
            return None if found is None else written(found)
        except UserError as error:
            raise UserError(f"network '{shown.question.nn}' on '{side.dataset}': {error}") from None

    names = columns or (f"{name}_1", f"{name}_2")
    return PromptField(name, description, names, value, GIVEN[given], host=host, rounded=rounded)


def _input(name: str, description: str, written: Callable[[int], str], *, recipe: bool) -> PromptField:
    """A field that shows the height of the images: the dataset's own, or what the recipe's transform gives."""

    def value(shown: Shown, side: Side) -> str | None:
        facts, found = shown.facts.get(side.dataset), side.given.get("recipe") if recipe else {}
        if facts is None or found is None:
            return None
        return written(input_shape(side.dataset, facts, found.get("transform") or None).height)

    given = GIVEN["recipe"] if recipe else None
    return PromptField(name, description, (f"{name}_1", f"{name}_2"), value, given, facts=True, host=False)


FACT_FIELDS = (
    _fact("num_train_images", "number of training images of a dataset", "train_images"),
    _fact("img_size", "height and width of a dataset's images in pixels", "image_size"),
    _fact("num_channels", "channels of a dataset's images", "channels"),
    _fact("num_classes", "classes of a dataset", "classes"),
)
FIELDS = Declarations(
    "prompt field",
    [
        PromptField("nn", "the network's name", ("nn",), lambda shown, _: shown.question.nn),
        PromptField("nn_code", "the network's source code, cut by tokens", ("nn_code",), lambda shown, _: shown.code),
        PromptField("epoch", "the training epoch that is compared", ("epoch",), lambda shown, _: shown.question.epoch),
        PromptField("dataset", "the datasets' names", ("dataset", "dataset_2"), lambda _, side: side.dataset),
        _of_side(
            "norm_acc", "the normalised accuracies", "norm_acc", lambda accuracy: accuracy,
            columns=("norm_acc", "norm_acc_2"), host=True, rounded=True,
        ),
        _of_side("recipe", "the training recipes in coarse steps", "recipe", recipe_text),
        _of_side("pace", "lr / (batch · (1 − momentum)) of the recipes", "recipe", pace_plain),
        _of_side("pace_tenths", "the same in tenths of a fixed range", "recipe", pace_tenths),
        _of_side("structure", "the network's structure in plain units", "structure", structure_plain),
        _of_side("structure_tenths", "the same in tenths of fixed ranges", "structure", structure_tenths),
        _input("input", "height of the dataset's own images in pixels", "input {}".format, recipe=False),
        _input("input_tenths", "the same in tenths of a fixed range", INPUT.text, recipe=False),
        _input("recipe_input", "height of the images that the recipe gives in pixels", "input {}".format, recipe=True),
        _input("recipe_input_tenths", "the same in tenths of a fixed range", INPUT.text, recipe=True),
        _of_side("evidence", "relative accuracies at earlier epochs, in hundredths", "evidence", early_hundredths),
        *FACT_FIELDS,
    ],
)  # fmt: skip


class _Columns(dict[str, tuple[PromptField, int]]):
    """Which field fills a column, and for which side: the declared ones, and `fact_NAME_1`, `fact_NAME_2`."""

    def __missing__(self, column: str) -> tuple[PromptField, int]:
        if column not in self:
            raise KeyError(column)
        name, side = column.removeprefix(FACT)[:-2], int(column[-1]) - 1

        def value(shown: Shown, side: Side) -> Any:
            found = shown.facts[side.dataset].more.get(name) if side.dataset in shown.facts else None
            return f"{found:.3g}" if isinstance(found, float) else found

        field = PromptField(
            f"{FACT}{name}", "a further fact", (f"{FACT}{name}_1", f"{FACT}{name}_2"), value, facts=True, host=False
        )
        return field, side

    def __contains__(self, column: object) -> bool:
        return super().__contains__(column) or bool(re.fullmatch(rf"{FACT}\w+_[12]", str(column)))


COLUMNS = _Columns({column: (one, i) for one in FIELDS.values() for i, column in enumerate(one.columns)})


def column_values(shown: Shown, columns: set[str]) -> dict[str, Any]:
    """The values of some columns, None for unknown ones."""
    sides = (shown.question.first, shown.question.second)
    chosen = ((column, *COLUMNS[column]) for column in columns)
    return {column: one.value(shown, sides[i]) for column, one, i in chosen}
