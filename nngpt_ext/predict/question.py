"""A question to a predictor: it is checked, its datasets are put in text order, and it gets its key in the store."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from numbers import Real
from typing import Any

from nngpt_ext.data.facts import OTHERS, DatasetFacts, GivenFacts, facts_of, unknown_dataset
from nngpt_ext.errors import UserError, nearest, plain, shown, typed
from nngpt_ext.io import digest, text_digest
from nngpt_ext.networks.source import is_name, read_source
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.prompts.fields import FIELDS, PromptField, Question, Shown, Side, column_values
from nngpt_ext.prompts.recipe import KEYS
from nngpt_ext.prompts.template import Template

log = logging.getLogger(__name__)

Recipe = Mapping[str, Any]  # one for all datasets, or {dataset: recipe}


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
    recipe: Recipe | None = None
    accuracies: Mapping[str, float] | None = None
    nn: str | None = None


@dataclass(frozen=True)
class CheckedQuery:
    """A valid query."""

    query: Query  # as it was given, its source as `read_source` returns it
    question: Question  # the same with its datasets in text order
    source: str  # sha256 of the network's source
    given: tuple[str, str]  # what the prompt shows of each dataset beside its name
    key: str  # in the store

    @property
    def name(self) -> str:
        """The network's name, or one made from the source's hash."""
        return self.query.nn or f"source-{self.source[:12]}"


class QueryChecker:
    """Checks queries to one adapter; a source is parsed once if its queries are grouped.

    Given facts are used in addition to those in the adapter's folder. Everything invalid is a `UserError`: facts, a
    prompt that shows the network's name, and later queries.
    """

    def __init__(self, files: AdapterFiles, facts: GivenFacts | None) -> None:
        self._files = files
        self._template = files.note.template
        self._read: tuple[str, str, str] | None = None  # the last source as it was given and was read, and its hash
        self._said: set[str] = set()  # unknown datasets that were already warned about
        for name in facts or {}:
            if not is_name(name):
                example = typed("--facts flowers=1020,224,3,102", "facts={'flowers': (1020, 224, 3, 102)}")
                raise UserError(f"facts are of a dataset with a name: {example}, not {shown(name)}")
        self.facts = files.note.known_facts() | {name: facts_of(name, given) for name, given in (facts or {}).items()}
        if self._template.needs("nn"):
            raise UserError(
                f"prompt '{files.note.prompt}' shows the network's name, so it can answer only about LEMUR's networks; "
                "train an adapter with a prompt without the column nn"
            )

    def __call__(self, given: Query | Sequence[Any], source_shown: bool = True) -> CheckedQuery:
        query = _query(given)
        self.check_datasets((query.dataset_1, query.dataset_2))
        if query.dataset_1 == query.dataset_2:
            raise UserError(f"'{query.dataset_1}' is compared with itself; name two datasets")
        if query.nn and not is_name(query.nn):
            raise UserError(f"a network's name must be printable text on one line, not {shown(query.nn)}")
        code, source = self._source(query) if source_shown else (query.nn_code, text_digest(query.nn_code))
        query = replace(query, nn_code=code)
        one, two = sorted((query.dataset_1, query.dataset_2))
        question = Question.of(
            source, one, two, self._files.note.epoch,
            recipe=tuple(recipe_of(query.recipe, name) for name in (one, two)),
            norm_acc=tuple(accuracy_of(query.accuracies, name) for name in (one, two)),
        )  # fmt: skip
        check_given(self._template, question)
        try:
            filled = filled_digest(self._template, question, code, self.facts)
        except UserError as error:  # which calls the network as the question does
            name = f"network {shown(query.nn)}" if query.nn else "the network"
            raise UserError(str(error).replace(f"network '{source}'", name)) from None
        key = self._files.question_key(source, filled)
        return CheckedQuery(query, question, source, given_texts(self._template, question), key)

    def check_datasets(self, names: Iterable[object]) -> None:
        """Check that names are valid and that facts are known if the prompt shows them; warn about unseen datasets.

        A name that differs from a known one only in case or separators is refused, unless facts are given for it.
        """
        for dataset in names:
            if not is_name(dataset):
                raise UserError(f"a dataset's name must be printable text on one line, not {shown(dataset)}")
            if dataset in self.facts:
                continue
            known = {*self._files.note.datasets, *self.facts}
            if self._template.needs_facts or (dataset not in known and plain(dataset) in map(plain, known)):
                raise unknown_dataset(dataset, known)
            if dataset not in known and dataset not in self._said:
                self._said.add(dataset)
                hint = nearest(dataset, known, OTHERS)
                log.warning("the adapter was not trained on '%s'%s: answers about it abstain", dataset, hint)

    def _source(self, query: Query) -> tuple[str, str]:
        read = self._read  # read once: another thread may replace it
        if read is None or read[0] != query.nn_code:
            code = read_source(
                query.nn_code, f"the source of {shown(query.nn)}" if query.nn else "the network's source"
            )
            self._read = read = query.nn_code, code, text_digest(code)
        return read[1:]


def _query(given: Query | Sequence[Any]) -> Query:
    if isinstance(given, Query):
        return given
    try:
        if not isinstance(given, str):
            return Query(*given)
    except TypeError:
        pass
    names = ", ".join(one.name for one in fields(Query))
    raise UserError(f"a question is a Query or a tuple of its fields ({names}), not {shown(given)}")


def check_given(template: Template, question: Question) -> None:
    """Check that everything the prompt shows of each dataset was given.

    Raises:
        UserError: for the first missing value, with its dataset and how to give it.
    """
    for _, one, side in _given_fields(template, question):
        if side.given.get(one.name) is None:
            give = typed(one.option, one.example).format(dataset=question.dataset_1, other=question.dataset_2)
            raise UserError(f"prompt '{template.name}' needs {one.noun} for '{side.dataset}': {give}")


def _given_fields(template: Template, question: Question) -> Iterator[tuple[int, PromptField, Side]]:
    """What the prompt shows of each dataset (0 or 1) and the user gives."""
    for one in FIELDS.values():
        for i, side in enumerate((question.first, question.second)):
            if one.given and template.needs(one.columns[i]):
                yield i, one, side


def filled_digest(template: Template, question: Question, source: str, facts: Mapping[str, DatasetFacts]) -> str:
    """sha256 of the filled prompt without the source code."""
    said = template.fill(column_values(Shown(question, source, "", facts), set(template.columns.values())))
    return digest([said.system, said.user])


def given_texts(template: Template, question: Question) -> tuple[str, str]:
    """What the user gave of each dataset and the prompt shows, as text, for example the recipe."""
    texts: tuple[list[str], list[str]] = [], []
    for i, one, side in _given_fields(template, question):
        value = one.value(Shown(question, None, None, {}), side)
        texts[i].append(value if isinstance(value, str) else f"{one.name} {value}")
    return "; ".join(texts[0]), "; ".join(texts[1])


def recipe_of(recipe: Recipe | None, dataset: str) -> Recipe | None:
    """The recipe of a dataset, from one for all datasets or one for each."""
    each = {} if not isinstance(recipe, Mapping) or any(recipe.get(key) is not None for key in KEYS) else recipe
    if any(isinstance(value, Mapping) for value in each.values()):
        if dataset not in each:
            raise UserError(f"no recipe for '{dataset}'; recipes were given for {', '.join(map(str, each))}")
        recipe = each[dataset]
    if recipe is not None and not isinstance(recipe, Mapping):
        raise UserError(f"the recipe for '{dataset}' must be a mapping with {', '.join(KEYS)}, not {shown(recipe)}")
    return recipe


def accuracy_of(accuracies: Mapping[str, float] | None, dataset: str) -> float | None:
    """The normalised accuracy of a dataset; None if none was given."""
    if accuracies is None:
        return None
    if not isinstance(accuracies, Mapping):
        raise UserError(f"accuracies must be one for each dataset, {{'mnist': 0.9, …}}, not {shown(accuracies)}")
    found = accuracies.get(dataset)
    if found is not None and (isinstance(found, bool) or not isinstance(found, Real) or not 0 <= found <= 1):
        raise UserError(f"the accuracy of '{dataset}' must be a number from 0 to 1, not {shown(found)}")
    return None if found is None else float(found)
