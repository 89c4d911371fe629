"""A question on its way to an answer: what was given is checked and put in one order."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple, TypeGuard

from nngpt_ext.errors import UserError, nearest, unknown
from nngpt_ext.files import text_digest
from nngpt_ext.lemur.facts import FACTS, DatasetFacts
from nngpt_ext.predict.answers import Query, Recipe
from nngpt_ext.predict.keys import question_hash, shown
from nngpt_ext.predict.note import AdapterFiles
from nngpt_ext.predict.sources import check_source
from nngpt_ext.prompts.recipe import KEYS
from nngpt_ext.prompts.render import Question
from nngpt_ext.prompts.template import Template

log = logging.getLogger(__name__)


class Asked(NamedTuple):
    """A question with its datasets in text order, and its keys."""

    query: Query
    question: Question
    source: str  # its sha256
    given: tuple[str, str]
    key: str

    @property
    def name(self) -> str:
        """The network's name, or one made of its hash."""
        return self.query.nn or f"source-{self.source[:12]}"


class Asker:
    """Checks what an adapter is asked; a source is read once, however many questions about it follow each other.

    Args:
        files: of the adapter.
        facts: facts of datasets that LEMUR does not have.

    Raises:
        UserError: for facts that are none, and for a prompt that shows the network's name, which is not known here.
    """

    def __init__(self, files: AdapterFiles, facts: Mapping[str, Sequence[int]] | None) -> None:
        self._files = files
        self._template = files.note.template
        self._read: tuple[str, str] | None = None  # the source read last, and its hash
        self._said: set[str] = set()  # datasets of which nothing is known, once it was said
        self.facts = {**FACTS, **{_name(name): facts_of(name, given) for name, given in (facts or {}).items()}}
        if self._template.needs("nn"):
            raise UserError(
                f"prompt '{files.note.prompt}' shows the network's name, so its answers are about LEMUR's names; "
                "an adapter that is asked about others needs a prompt without the column nn"
            )

    def __call__(self, given: Query | Sequence[Any], source_shown: bool = True) -> Asked:
        """The question, checked.

        Raises:
            UserError: for each fault in it.
        """
        query = _query(given)
        self.check_datasets((query.dataset_1, query.dataset_2))
        if query.dataset_1 == query.dataset_2:
            raise UserError(f"'{query.dataset_1}' is compared with itself; name two datasets")
        source = self._source(query) if source_shown else text_digest(query.nn_code)
        one, two = sorted((query.dataset_1, query.dataset_2))
        recipe_1, recipe_2 = (recipe_of(query.recipe, name) for name in (one, two))
        accuracy_1, accuracy_2 = (accuracy_of(query.accuracies, name) for name in (one, two))
        check_given(self._template, (one, recipe_1, accuracy_1), (two, recipe_2, accuracy_2))
        note = self._files.note
        question = Question(source, one, two, note.epoch, accuracy_1, accuracy_2, recipe_1, recipe_2)
        texts = shown(self._template, question, self.facts)
        key = question_hash(
            source, (one, two), texts, note.prompt_hash, self._files.hash, self._files.calibration_hash
        )  # fmt: skip
        return Asked(query, question, source, texts, key)

    def check_datasets(self, names: Iterable[object]) -> None:
        """See that all have names, and facts where the prompt shows them; say which may be typing errors.

        Raises:
            UserError: naming the first that is at fault.
        """
        shows_facts = self._template.needs_facts(1) or self._template.needs_facts(2)
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
        f"a question is a Query or a tuple of its fields ({', '.join(Query._fields)}), the first three at least, "
        f"not {str(given)[:80]!r}"
    )


def check_given(template: Template, *sides: tuple[str, Recipe | None, float | None]) -> None:
    """See that what the prompt shows of each dataset was given."""
    for dataset, recipe, accuracy in sides:
        if template.needs("recipe_1") and recipe is None:
            raise UserError(
                f"prompt '{template.name}' needs a recipe for '{dataset}': recipe={{'lr': 0.01, 'batch': 64, "
                "'momentum': 0.9, 'dropout': None, 'transform': 'norm_32'}, or one each (--recipe, in JSON)"
            )
        if template.needs("norm_acc") and accuracy is None:
            raise UserError(
                f"prompt '{template.name}' needs an accuracy for '{dataset}': accuracies={{'{dataset}': 0.9, …}} "
                "(--accuracies, in JSON)"
            )


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
        if min(facts) < 1:
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
