"""A question to a predictor: it is checked, its datasets are put in text order, and it gets its key in the store."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from numbers import Real
from typing import Any, TypeGuard

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.errors import UserError, nearest, unknown
from nngpt_ext.io import digest, text_digest
from nngpt_ext.networks.source import check_source
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.prompts.fields import FIELDS, Question, Shown, column_values
from nngpt_ext.prompts.recipe import KEYS
from nngpt_ext.prompts.template import Template

log = logging.getLogger(__name__)

Recipe = Mapping[str, Any]
GivenFacts = Mapping[str, Sequence[int] | Sequence[str]]  # training images, image size, channels, classes


@dataclass(frozen=True)
class Query:
    """One question to a predictor.

    Attributes:
        nn_code: the network's source.
        dataset_1, dataset_2: two datasets; their order never changes the answer.
        recipe: for a prompt that shows recipes: one for both datasets, or `{dataset: recipe}`.
        accuracies: for a prompt that shows accuracies: `{dataset: normalised accuracy}`.
        nn: the network's name in the store; by default it is made from the source's hash.
    """

    nn_code: str
    dataset_1: str
    dataset_2: str
    recipe: Recipe | Mapping[str, Recipe] | None = None
    accuracies: Mapping[str, float] | None = None
    nn: str | None = None


@dataclass(frozen=True)
class CheckedQuery:
    """A valid query.

    Attributes:
        query: the query as it was given.
        question: the same question with its datasets in text order.
        source: sha256 of the network's source.
        given: what the prompt shows of each dataset beside its name, as text.
        key: the store's key.
    """

    query: Query
    question: Question
    source: str
    given: tuple[str, str]
    key: str

    @property
    def name(self) -> str:
        """The network's name, or one made from the source's hash."""
        return self.query.nn or f"source-{self.source[:12]}"


class QueryChecker:
    """Checks queries to one adapter; a source is parsed once if its queries are grouped.

    Args:
        files: the adapter's files.
        facts: facts about datasets, in addition to those stored with the adapter.

    Raises:
        UserError: for invalid facts, and for a prompt that shows the network's name.
    """

    def __init__(self, files: AdapterFiles, facts: GivenFacts | None) -> None:
        self._files = files
        self._template = files.note.template
        self._read: tuple[str, str] | None = None  # the last source and its hash
        self._said: set[str] = set()  # unknown datasets that were already warned about
        self.facts = {
            **files.note.known_facts(),
            **{name: facts_of(name, given) for name, given in (facts or {}).items()},
        }
        if self._template.needs("nn"):
            raise UserError(
                f"prompt '{files.note.prompt}' shows the network's name, so it can answer only about LEMUR's networks; "
                "train an adapter with a prompt without the column nn"
            )

    def __call__(self, given: Query | Sequence[Any], source_shown: bool = True) -> CheckedQuery:
        """Check a query.

        Raises:
            UserError: for an invalid query.
        """
        query = _query(given)
        self.check_datasets((query.dataset_1, query.dataset_2))
        if query.dataset_1 == query.dataset_2:
            raise UserError(f"'{query.dataset_1}' is compared with itself; name two datasets")
        source = self._source(query) if source_shown else text_digest(query.nn_code)
        one, two = sorted((query.dataset_1, query.dataset_2))
        question = Question.of(
            source, one, two, self._files.note.epoch,
            recipe=tuple(recipe_of(query.recipe, name) for name in (one, two)),
            norm_acc=tuple(accuracy_of(query.accuracies, name) for name in (one, two)),
        )  # fmt: skip
        check_given(self._template, question)
        filled = filled_digest(self._template, question, query.nn_code, self.facts)
        key = self._files.question_key(source, filled)
        return CheckedQuery(query, question, source, given_texts(self._template, question), key)

    def check_datasets(self, names: Iterable[object]) -> None:
        """Check that names are valid and that facts are known if the prompt shows them; warn about likely typos.

        Raises:
            UserError: for the first invalid name.
        """
        shows_facts = self._template.needs_facts
        for dataset in names:
            if not _is_name(dataset):
                raise UserError(f"a dataset's name must be printable text on one line, not {dataset!r}")
            if dataset in self.facts:
                continue
            if shows_facts:
                raise UserError(
                    f"{unknown('dataset', dataset, self.facts)}; for a new dataset give its facts: "
                    f"facts={{'{dataset}': (training images, image size, channels, classes)}}"
                )
            trained = self._files.note.datasets
            if dataset not in trained and dataset not in self._said:
                self._said.add(dataset)
                hint = nearest(dataset, [*trained, *self.facts])
                log.warning("the adapter was not trained on '%s'%s: answers about it abstain", dataset, hint)

    def _source(self, query: Query) -> str:
        read = self._read  # read once: another thread may replace it
        if read is None or read[0] != query.nn_code:
            code = check_source(query.nn_code, f"the source of '{query.nn}'" if query.nn else "the network's source")
            self._read = read = code, text_digest(code)
        return read[1]


def _query(given: Query | Sequence[Any]) -> Query:
    if isinstance(given, Query):
        return given
    try:
        if not isinstance(given, str):
            return Query(*given)
    except TypeError:
        pass
    names = ", ".join(one.name for one in fields(Query))
    raise UserError(f"a question is a Query or a tuple of its fields ({names}), not {str(given)[:80]!r}")


def check_given(template: Template, question: Question) -> None:
    """Check that everything the prompt shows of each dataset was given.

    Raises:
        UserError: for the first missing value, with its dataset and how to give it.
    """
    for one in FIELDS.values():
        for column, side in zip(one.columns, (question.first, question.second), strict=False):
            if one.given and template.needs(column) and side.given.get(one.name) is None:
                raise UserError(
                    f"prompt '{template.name}' needs {one.noun} for '{side.dataset}': "
                    f"{one.advice.format(dataset=side.dataset)}"
                )


def filled_digest(template: Template, question: Question, source: str, facts: Mapping[str, DatasetFacts]) -> str:
    """sha256 of the filled prompt without the source code."""
    values = column_values(Shown(question, source, "", facts), set(template.columns.values()))
    said = template.fill(values)
    return digest([said.system, said.user])


def given_texts(template: Template, question: Question) -> tuple[str, str]:
    """What the user gave of each dataset and the prompt shows, as text, for example the recipe."""
    texts = []
    for i, side in enumerate((question.first, question.second)):
        parts = []
        for one in FIELDS.values():
            if one.given and template.needs(one.columns[i]):
                value = one.value(Shown(question, None, None, {}), side)
                parts.append(value if isinstance(value, str) else f"{one.name} {value}")
        texts.append("; ".join(parts))
    return texts[0], texts[1]


def recipe_of(recipe: Recipe | Mapping[str, Recipe] | None, dataset: str) -> Recipe | None:
    """The recipe of a dataset, from one for all datasets or one for each."""
    if recipe is None:
        return None
    if not isinstance(recipe, Mapping):
        raise UserError(f"a recipe must be a mapping with {', '.join(KEYS)}, or one for each dataset, not {recipe!r}")
    if any(isinstance(value, Mapping) for value in recipe.values()):
        if dataset not in recipe:
            raise UserError(f"no recipe for '{dataset}'; recipes were given for {', '.join(map(str, recipe))}")
        own = recipe[dataset]
        if own is not None and not isinstance(own, Mapping):
            raise UserError(f"the recipe for '{dataset}' must be a mapping with {', '.join(KEYS)}, not {own!r}")
        return own
    return recipe


def accuracy_of(accuracies: Mapping[str, float] | None, dataset: str) -> float | None:
    """The normalised accuracy of a dataset; None if none was given."""
    if accuracies is None:
        return None
    if not isinstance(accuracies, Mapping):
        raise UserError(f"accuracies must be one for each dataset, {{'mnist': 0.9, …}}, not {accuracies!r}")
    found = accuracies.get(dataset)
    if found is not None and (isinstance(found, bool) or not isinstance(found, Real) or not 0 <= found <= 1):
        raise UserError(f"the accuracy of '{dataset}' must be a number from 0 to 1, not {found!r}")
    return None if found is None else float(found)


def facts_of(name: object, given: Sequence[int] | Sequence[str]) -> DatasetFacts:
    """The facts of a dataset, from four numbers or texts.

    Raises:
        UserError: for an invalid name or invalid facts.
    """
    if not _is_name(name):
        raise UserError(f"facts are of a dataset with a name: facts={{'flowers': (1020, 224, 3, 102)}}, not {name!r}")
    try:
        facts = DatasetFacts(*(int(value) for value in given))
        if isinstance(given, str) or min(astuple(facts)) < 1:
            raise ValueError("it takes four positive integers")
    except (TypeError, ValueError) as error:
        raise UserError(
            f"facts of '{name}' are (training images, image size, channels, classes), not {given!r} ({error})"
        ) from None
    return facts


def parse_mapping(text: str, name: str, example: str = '{"lr": 0.01, "batch": 64}') -> dict[str, Any]:
    """A JSON object, for example a recipe, or one for each dataset.

    Args:
        text: JSON.
        name, example: what the text is and how it looks, for the error.

    Raises:
        UserError: if the text is not a JSON object.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{name} is not JSON ({error}); for example {example}") from None
    if not isinstance(found, dict):
        raise UserError(f"{name} must be a JSON object, for example {example}, not {text[:40]}")
    return found


def _is_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and name.isprintable() and bool(name.strip())
