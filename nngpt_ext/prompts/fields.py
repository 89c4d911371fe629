"""What a prompt may show: one table of fields, each with the source of its value."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.declaration import Declarations
from nngpt_ext.errors import UserError
from nngpt_ext.prompts.recipe import recipe_text


@dataclass(frozen=True)
class Side:
    """One of the two datasets of a question.

    Attributes:
        dataset: its name.
        given: what is known about the network on it, by the names in `GIVEN`: `recipe`, `norm_acc`.
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
    """What field values are computed from.

    Attributes:
        question: the question that is rendered.
        source: the network's whole source, or None.
        code: the part of the source that the prompt shows, or None.
        facts: facts about datasets by name.
    """

    question: Question
    source: str | None
    code: str | None
    facts: Mapping[str, DatasetFacts]


@dataclass(frozen=True)
class PromptField:
    """A value that a prompt can show.

    Attributes:
        name: the field's name, also its key in `Side.given`.
        columns: its names in templates: one column for a value of the network, two for values of the two datasets.
        value: returns the value, or None if it is unknown; for a value of a dataset it is called with its side.
        given: whether the user gives it for each dataset; the table of pairs then has it as `NAME_1`, `NAME_2`.
        noun: what it is called for one dataset, for the error if it is missing.
        example: the argument of `Predictor.compare` that gives it for the datasets `{dataset}` and `{other}`.
        option: the same on the command line.
        host: whether NNGPT's own loader fills the columns.
        rounded: whether a template may round it: `{variable:.3f}`.
    """

    name: str
    description: str
    columns: tuple[str, ...]
    value: Callable[[Shown, Side], Any]
    given: bool = False
    noun: str = ""
    example: str = ""
    option: str = ""
    host: bool = True
    rounded: bool = False


def _fact(name: str, description: str, attribute: str) -> PromptField:
    def value(shown: Shown, side: Side) -> Any:
        facts = shown.facts.get(side.dataset)
        return None if facts is None else getattr(facts, attribute)

    return PromptField(name, description, (f"{name}_1", f"{name}_2"), value)


def _recipe(shown: Shown, side: Side) -> str | None:
    recipe = side.given.get("recipe")
    try:
        return None if recipe is None else recipe_text(recipe)
    except UserError as error:
        raise UserError(f"network '{shown.question.nn}' on '{side.dataset}': {error}") from None


FACT_FIELDS = (
    _fact("num_train_images", "number of training images of a dataset", "train_images"),
    _fact("img_size", "height and width of a dataset's images in pixels", "image_size"),
    _fact("num_channels", "channels of a dataset's images", "channels"),
    _fact("num_classes", "classes of a dataset", "classes"),
)
_RECIPE = "recipe={{'lr': 0.01, 'batch': 64, 'momentum': 0.9, 'dropout': None, 'transform': 'norm_32'}}"
FIELDS = Declarations(
    "prompt field",
    [
        PromptField("nn", "the network's name", ("nn",), lambda shown, _: shown.question.nn),
        PromptField("nn_code", "the network's source code, cut by tokens", ("nn_code",), lambda shown, _: shown.code),
        PromptField("epoch", "the training epoch that is compared", ("epoch",), lambda shown, _: shown.question.epoch),
        PromptField("dataset", "the datasets' names", ("dataset", "dataset_2"), lambda _, side: side.dataset),
        PromptField(
            "norm_acc",
            "the normalised accuracies",
            ("norm_acc", "norm_acc_2"),
            lambda _, side: side.given.get("norm_acc"),
            given=True,
            noun="an accuracy",
            example="accuracies={{'{dataset}': 0.9, '{other}': 0.8}}",
            option="""--accuracies '{{"{dataset}": 0.9, "{other}": 0.8}}' (of compare and rank)""",
            rounded=True,
        ),
        PromptField(
            "recipe",
            "the training recipes in coarse steps",
            ("recipe_1", "recipe_2"),
            _recipe,
            given=True,
            noun="a recipe",
            example=_RECIPE,
            option="""--recipe '{{"lr": 0.01, "batch": 64, "momentum": 0.9, "transform": "norm_32"}}'""",
            host=False,
        ),
        *FACT_FIELDS,
    ],
)
GIVEN = tuple(one.name for one in FIELDS.values() if one.given)
# Which field fills a column, and for which side.
COLUMNS: dict[str, tuple[PromptField, int]] = {
    column: (one, i) for one in FIELDS.values() for i, column in enumerate(one.columns)
}


def column_values(shown: Shown, columns: set[str]) -> dict[str, Any]:
    """The values of some columns, None for unknown ones.

    Raises:
        UserError: for an invalid recipe.
    """
    sides = (shown.question.first, shown.question.second)
    chosen = ((column, *COLUMNS[column]) for column in columns)
    return {column: one.value(shown, sides[i]) for column, one, i in chosen}
