"""A question to a predictor: it is checked, its datasets are put in text order, and it gets its key in the store."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from nngpt_ext.data.facts import OTHERS, DatasetFacts, GivenFacts, facts_of, unknown_dataset
from nngpt_ext.errors import UserError, nearest, plain, shown, typed
from nngpt_ext.io import text_digest
from nngpt_ext.networks.source import defines_module, is_name, read_source
from nngpt_ext.networks.structure import Structure
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.prompts import inputs
from nngpt_ext.prompts.fields import GIVEN, Question, Side
from nngpt_ext.prompts.inputs import Evidence, Recipe, recipe_of
from nngpt_ext.prompts.recipe import recipe_text
from nngpt_ext.prompts.structures import GivenStructure, StructureReader
from nngpt_ext.prompts.template import Template

log = logging.getLogger(__name__)

MOST_SAID = 1_000  # warnings that are logged: a server may be asked about ever new datasets

NO_SOURCE = "no source"  # the name under which a model's prior is stored


@dataclass(frozen=True)
class Query:
    """One question to a predictor.

    Attributes:
        nn_code: the network's source.
        dataset_1, dataset_2: two datasets; their order never changes the answer.
        recipe: for a prompt that shows recipes: one for both datasets, or `{dataset: recipe}`.
        accuracies: for a prompt that shows accuracies: `{dataset: normalised accuracy}`.
        nn: the network's name in the store; by default it is made from the source's hash.
        structure: for a prompt that shows structures: `measure`, which runs the network's code in a sandbox; one for
            each dataset; or what `nngpt-ext structure --json` prints. See `nngpt_ext.prompts.structures`.
        evidence: for a prompt that shows early accuracies: `{dataset: {epoch: accuracy}}`; if the adapter was trained
            with `data.evidence.sides: one`, without a dataset on which the network is not trained yet.
    """

    nn_code: str
    dataset_1: str
    dataset_2: str
    recipe: Recipe | None = None
    accuracies: Mapping[str, float] | None = None
    nn: str | None = None
    structure: GivenStructure | None = None
    evidence: Evidence | None = None

    @property
    def network(self) -> str:
        """What an error calls the network."""
        return f"network {shown(self.nn)}" if self.nn else "the network"


@dataclass(frozen=True)
class CheckedQuery:
    """A valid query."""

    query: Query  # as it was given, its source as `read_source` returns it
    question: Question  # the same with its datasets in text order
    source: str  # sha256 of the network's source
    is_module: bool  # whether the source, if it is shown, defines a class derived from nn.Module
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
        self._read: tuple[str, str, str, bool] | None = None  # the last source as given, and what `_source` returned
        self._said: set[str] = set()  # warnings that were logged
        self._told: set[str] = set()  # unknown datasets that were warned about
        for name in facts or {}:
            if not is_name(name):
                example = typed("--facts flowers=1020,224,3,102", "facts={'flowers': (1020, 224, 3, 102)}")
                raise UserError(f"facts are of a dataset with a name: {example}, not {shown(name)}")
        trained = files.note.known_facts()
        own = {name: facts_of(name, given) for name, given in (facts or {}).items()}
        for name in own.keys() & trained.keys() & set(files.note.datasets):
            if own[name] != trained[name]:
                raise UserError(
                    f"the adapter was trained on '{name}' with the facts {_written(trained[name])}, not "
                    f"{_written(own[name])}; leave them out, or give another dataset another name"
                )
        self.facts = trained | own
        self._structures = StructureReader(self._template, self.facts)
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
        if source_shown:
            code, source, is_module = self._source(query)
        else:
            code, source, is_module = query.nn_code, text_digest(query.nn_code), True
        query = replace(query, nn_code=code)
        names = sorted((query.dataset_1, query.dataset_2))
        one, two = self._sides(query, names, source_shown)
        question = Question(source, one, two, self._files.note.epoch)
        inputs.check_given(self._template, question)
        self._say(self._of_sides((one, two)), self._of_unused(query))
        try:
            filled = inputs.filled_digest(self._template, question, code, self.facts)
        except UserError as error:  # which calls the network as the question does
            raise UserError(str(error).replace(f"network '{source}'", query.network)) from None
        key = self._files.question_key(source, filled)
        given_texts = inputs.given_texts(self._template, question, self.facts)
        return CheckedQuery(query, question, source, is_module, given_texts, key)

    def structures(self, query: Query, datasets: Iterable[str], source_shown: bool = True) -> dict[str, Structure]:
        """The structure on each dataset, as `StructureReader` finds it; the source must be one that was checked."""
        recipes = {name: recipe_of(query.recipe, name, self._files.note.recipe) for name in datasets}
        return self._structures(query.structure, query.nn_code if source_shown else None, recipes, query.network)

    def compared(
        self, query: Query, datasets: Sequence[str]
    ) -> tuple[Template, str, list[Side], Mapping[str, DatasetFacts]]:
        """What `nngpt_ext.scoring.basis.Seen.basis` compares with the training: the arguments that it takes."""
        sides = self._sides(query, datasets)
        for one in sides:
            if one.given["recipe"] is not None and self._template.takes(GIVEN["recipe"]):
                recipe_text(one.given["recipe"])  # which checks it
        return self._template, self._source(query)[0], sides, self.facts

    def _sides(self, query: Query, datasets: Sequence[str], source_shown: bool = True) -> list[Side]:
        """The datasets with what is given for each."""
        note = self._files.note
        known = {*datasets, *note.datasets, *self.facts}
        given = {name: inputs.given_for(query, name, note, known) for name in datasets}
        found = self.structures(query, datasets, source_shown)  # measured only for a sound question
        return [Side(name, one | {"structure": found.get(name)}) for name, one in given.items()]

    def warnings(self, query: Query, datasets: Sequence[str], source_shown: bool = True) -> list[str]:
        """All that is logged once of questions about these datasets, in sentences without an end."""
        sides = self._sides(query, datasets, source_shown)
        of_pairs = map(self._of_sides, itertools.combinations(sides, 2))
        found = [self._files.why_it_abstains, *map(self._of_dataset, datasets), *of_pairs, self._of_unused(query)]
        return list(dict.fromkeys(filter(None, found)))

    def _say(self, *warnings: str | None) -> None:
        for one in warnings:
            if one is not None and one not in self._said and len(self._said) < MOST_SAID:
                self._said.add(one)
                log.warning("%s", one)

    def _of_unused(self, query: Query) -> str | None:
        idle = ", ".join(inputs.unused(self._template, query))
        return f"prompt '{self._template.name}' does not show what was given and is not used: {idle}" if idle else None

    def _of_sides(self, sides: Sequence[Side]) -> str | None:
        """If an adapter that was trained with early accuracies of one side is given those of none or both."""
        note, given = self._files.note, sum(bool(one.given["evidence"]) for one in sides)
        if not note.early_best or note.early_sides != "one" or given == 1:
            return None
        return (
            f"the adapter was trained with early accuracies of one dataset of each pair, not of "
            f"{'both' if given == 2 else 'none'}: how sure it is was not tested for such a question"
        )

    def _of_dataset(self, dataset: str) -> str | None:
        known = {*self._files.note.datasets, *self.facts}
        if dataset in known:
            return None
        so = "abstain" if self._files.unseen([dataset]) else "are calibrated on other unseen datasets"
        return f"the adapter was not trained on '{dataset}'{nearest(dataset, known, OTHERS)}: answers about it {so}"

    def check_datasets(self, names: Iterable[object]) -> list[str]:
        """Check that names are valid and that facts are known if the prompt shows them; warn about unseen datasets.

        A name that differs from a known one only in case or separators is refused, unless facts are given for it.

        Returns:
            Each name once.
        """
        checked: dict[str, None] = {}
        for dataset in names:
            if not is_name(dataset):
                raise UserError(f"a dataset's name must be printable text on one line, not {shown(dataset)}")
            if dataset in checked:
                continue
            checked[dataset] = None
            if dataset in self.facts:
                continue
            known = {*self._files.note.datasets, *self.facts}
            if self._template.needs_facts or (dataset not in known and plain(dataset) in map(plain, known)):
                raise unknown_dataset(dataset, known)
            if dataset not in self._told and len(self._told) < MOST_SAID:
                self._told.add(dataset)
                self._say(self._of_dataset(dataset))
        return list(checked)

    def _source(self, query: Query) -> tuple[str, str, bool]:
        read = self._read  # read once: another thread may replace it
        if read is None or read[0] != query.nn_code:
            code = read_source(
                query.nn_code, f"the source of {shown(query.nn)}" if query.nn else "the network's source"
            )
            self._read = read = query.nn_code, code, text_digest(code), defines_module(code)
        return read[1:]


def _written(facts: DatasetFacts) -> str:
    return ", ".join(f"{name} {value}" for name, value in facts.by_name().items())


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
