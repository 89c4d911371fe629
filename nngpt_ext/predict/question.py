"""A question to a predictor: what was given is checked, put in one order, and gets its key."""

from __future__ import annotations

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


@dataclass(frozen=True)
class Query:
    """One question to a predictor.

    Attributes:
        nn_code: the network's source.
        dataset_1, dataset_2: two datasets; their order never changes the answer.
        recipe: for a prompt that shows recipes: one for both datasets, or `{dataset: recipe}`.
        accuracies: for a prompt that shows accuracies: `{dataset: normalised accuracy}`.
        nn: a name for the network, under which the store keeps the answer; by default made of its hash.
    """

    nn_code: str
    dataset_1: str
    dataset_2: str
    recipe: Recipe | Mapping[str, Recipe] | None = None
    accuracies: Mapping[str, float] | None = None
    nn: str | None = None


@dataclass(frozen=True)
class CheckedQuery:
    """A query that was checked.

    Attributes:
        query: as it was given.
        question: the same with its datasets in text order.
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
        """The network's name, or one made of its hash."""
        return self.query.nn or f"source-{self.source[:12]}"


class QueryChecker:
    """Checks queries to one adapter; a source is parsed once if queries about it follow each other.

    Args:
        files: of the adapter.
        facts: facts about datasets beside those that the adapter brings along.

    Raises:
        UserError: for invalid facts, and for a prompt that shows the network's name, which is not known here.
    """

    def __init__(self, files: AdapterFiles, facts: Mapping[str, Sequence[int]] | None) -> None:
        self._files = files
        self._template = files.note.template
        self._read: tuple[str, str] | None = None  # the source read last, and its hash
        self._said: set[str] = set()  # datasets of which nothing is known, once it was said
        self.facts = {
            **files.note.known_facts(),
            **{_name(name): facts_of(name, given) for name, given in (facts or {}).items()},
        }
        if self._template.needs("nn"):
            raise UserError(
                f"prompt '{files.note.prompt}' shows the network's name, so its answers are about LEMUR's names; "
                "an adapter that is asked about others needs a prompt without the column nn"
            )

    def __call__(self, given: Query | Sequence[Any], source_shown: bool = True) -> CheckedQuery:
        """The query, checked.

        Raises:
            UserError: for each fault in it.
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
        """See that all have names, and facts where the prompt shows them; say which may be typing errors.

        Raises:
            UserError: naming the first that is at fault.
        """
        shows_facts = self._template.needs_facts
        for dataset in names:
            if not _is_name(dataset):
                raise UserError(f"a dataset's name must be printable text on one line, not {dataset!r}")
            if dataset in self.facts:
                continue
            if shows_facts:
                raise UserError(
                    f"{unknown('dataset', dataset, self.facts)}; give another's facts: "
                    f"facts={{'{dataset}': (training images, image size, channels, classes)}}"
                )
            trained = self._files.note.datasets
            if dataset not in trained and dataset not in self._said:
                self._said.add(dataset)
                hint = nearest(dataset, [*trained, *self.facts])
                log.warning("the adapter was not trained on '%s'%s: answers about it abstain", dataset, hint)

    def _source(self, query: Query) -> str:
        read = self._read  # looked at once: another thread may put another source there
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
    raise UserError(
        f"a question is a Query or a tuple of its fields ({', '.join(one.name for one in fields(Query))}), "
        "the first three at least, "
        f"not {str(given)[:80]!r}"
    )


def check_given(template: Template, question: Question) -> None:
    """See that what the prompt shows of each dataset was given.

    Raises:
        UserError: naming the first field that is missing, the dataset, and how to give it.
    """
    for one in FIELDS.values():
        for column, side in zip(one.columns, (question.first, question.second), strict=False):
            if one.given and template.needs(column) and side.given.get(one.name) is None:
                raise UserError(
                    f"prompt '{template.name}' needs {one.noun} for '{side.dataset}': "
                    f"{one.advice.format(dataset=side.dataset)}"
                )


def filled_digest(template: Template, question: Question, source: str, facts: Mapping[str, DatasetFacts]) -> str:
    """sha256 of the filled prompt without the source code: all that it shows beside that."""
    values = column_values(Shown(question, source, "", facts), set(template.columns.values()))
    said = template.fill(values)
    return digest([said.system, said.user])


def given_texts(template: Template, question: Question) -> tuple[str, str]:
    """What the prompt shows of each dataset and whoever asks gave, as text: the recipe, say."""
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
    """The recipe of a dataset, from one for all or one for each."""
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
    """The normalised accuracy of a dataset; None where none was given."""
    if accuracies is None:
        return None
    if not isinstance(accuracies, Mapping):
        raise UserError(f"accuracies are one for each dataset, {{'mnist': 0.9, …}}, not {accuracies!r}")
    found = accuracies.get(dataset)
    if found is not None and (isinstance(found, bool) or not isinstance(found, Real) or not 0 <= found <= 1):
        raise UserError(f"the accuracy of '{dataset}' must be a number from 0 to 1, not {found!r}")
    return None if found is None else float(found)


def facts_of(name: str, given: Sequence[int]) -> DatasetFacts:
    """The facts of a dataset, from a sequence of four numbers or of texts that are numbers."""
    try:
        if isinstance(given, str):
            raise TypeError("one text")
        facts = DatasetFacts(*(int(value) for value in given))
        if min(astuple(facts)) < 1:
            raise ValueError("all four are at least 1")
    except (TypeError, ValueError) as error:
        raise UserError(
            f"facts of '{name}' are (training images, image size, channels, classes), not {given!r} ({error})"
        ) from None
    return facts


def _is_name(name: object) -> TypeGuard[str]:
    return isinstance(name, str) and name.isprintable() and bool(name.strip())


def _name(name: object) -> str:
    if not _is_name(name):
        raise UserError(f"facts are of a dataset with a name: facts={{'flowers': (1020, 224, 3, 102)}}, not {name!r}")
    return name
