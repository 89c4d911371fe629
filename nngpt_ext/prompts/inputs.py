"""What a user gives for a question (recipes, accuracies): found for each dataset, checked, and written as text."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any

from nngpt_ext.data.evidence import Best, epochs_of, relative
from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.data.trials import RECIPE
from nngpt_ext.errors import UserError, shown, typed, unknown
from nngpt_ext.io import digest
from nngpt_ext.prompts.fields import FIELDS, GIVEN, Given, PromptField, Question, Shown, Side, column_values
from nngpt_ext.prompts.recipe import completed, recipe_text
from nngpt_ext.prompts.template import Template

ARGUMENTS = {one.example.partition("=")[0]: one for one in GIVEN.values()}  # by what a query calls it
Recipe = Mapping[str, Any]  # one for all datasets, or {dataset: recipe}
Evidence = Mapping[str, Mapping[Any, float]]  # accuracies by dataset and epoch, a number or, as in JSON, its text


def recipe_of(recipe: Recipe | None, dataset: str, fields: Collection[str] = tuple(RECIPE)) -> Recipe | None:
    """The recipe of a dataset, from one for all datasets, which has some of the `fields`, or one for each."""
    each = {} if not isinstance(recipe, Mapping) or any(recipe.get(key) is not None for key in fields) else recipe
    if any(isinstance(value, Mapping) for value in each.values()):
        if dataset not in each:
            raise UserError(f"no recipe for '{dataset}'; recipes were given for {', '.join(map(str, each))}")
        recipe = each[dataset]
    if recipe is not None and not isinstance(recipe, Mapping):
        raise UserError(f"the recipe for '{dataset}' must be a mapping with {', '.join(fields)}, not {shown(recipe)}")
    return recipe


def accuracy_of(accuracies: Mapping[str, float] | None, dataset: str) -> float | None:
    """The normalised accuracy of a dataset; None if none was given."""
    if accuracies is None:
        return None
    if not isinstance(accuracies, Mapping):
        raise UserError(f"accuracies must be one for each dataset, {{'mnist': 0.9, …}}, not {shown(accuracies)}")
    found = accuracies.get(dataset)
    if found is not None:
        _check_accuracy(found, f"the accuracy of '{dataset}'")
    return None if found is None else float(found)


def _check_accuracy(value: Any, what: str) -> None:
    number = isinstance(value, Real) and not isinstance(value, bool)
    if not number or not 0 <= value <= 1:
        percent = f"; if it is in percent, give {value / 100:.4g}" if number and 2 <= value <= 100 else ""
        raise UserError(f"{what} must be a number from 0 to 1, not {shown(value)}{percent}")


def evidence_of(evidence: Evidence | None, dataset: str, best: Best) -> dict[int, float] | None:
    """The relative accuracies of a dataset by epoch, none if it is not trained yet; None if no evidence was given.

    `best` are those by which accuracies are divided, at the epochs that the prompt shows; empty if it shows none.
    """
    if evidence is None or not best:
        return None
    example = typed('\'{"mnist": {"1": 0.91}, …}\'', "{'mnist': {1: 0.91}, …}", '{"mnist": {"1": 0.91}, …}')
    if not isinstance(evidence, Mapping):
        raise UserError(f"evidence must be accuracies by dataset and epoch, {example}, not {shown(evidence)}")
    epochs, each = epochs_of(best), {}
    for name, found in evidence.items():  # also of datasets that are not compared
        if found is not None and not isinstance(found, Mapping):
            raise UserError(
                f"the evidence of '{name}' must be accuracies by epoch, as in {example}, not {shown(found)}"
            )
        each[name] = _by_epoch(found, name, epochs) if found else {}
    return relative(each.get(dataset, {}), dataset, best)


def _by_epoch(found: Mapping[Any, Any], dataset: str, epochs: Sequence[int]) -> dict[int, float]:
    """The accuracies of a dataset at exactly these epochs."""
    keys = {epoch: [key for key in (epoch, str(epoch)) if key in found] for epoch in epochs}
    if len(found) > sum(map(len, keys.values())) or not all(keys.values()):
        raise UserError(
            f"the evidence of '{dataset}' is of epoch {shown(list(found))[1:-1]}; the adapter was trained with "
            f"accuracies at epoch {' and '.join(map(str, epochs))}"
        )
    for epoch, of_epoch in keys.items():
        if len(of_epoch) > 1:
            raise UserError(f"the evidence of '{dataset}' has epoch {epoch} twice, as a number and as text; give one")
        _check_accuracy(found[of_epoch[0]], f"the accuracy of '{dataset}' at epoch {epoch}")
    return {epoch: float(found[of_epoch[0]]) for epoch, of_epoch in keys.items()}


def given_for(query: Any, dataset: str, note: Any, known: Collection[str]) -> dict[str, Any]:
    """What a query (`recipe`, `accuracies`, `evidence`) gives for a dataset, by the names in `GIVEN`.

    Args:
        query: of a user.
        dataset: one of the question's.
        note: the adapter's: its prompt, the fields of its recipes, by what accuracies are divided, and whether it was
            trained without those of a dataset.
        known: names of datasets; another one in evidence is misspelt, and would count as not trained yet.
    """
    best, recipe = note.early_best, recipe_of(query.recipe, dataset, note.recipe)
    if recipe is not None and note.template.takes(GIVEN["recipe"]):
        try:
            if "lr" in note.template.required:  # every field of it is shown
                recipe = completed(recipe, note.recipe)
            recipe_text(recipe)  # which checks it, before a structure is looked for at its resolution
        except UserError as error:
            raise UserError(f"{query.network} on '{dataset}': {error}") from None
    for name in query.evidence if best and isinstance(query.evidence, Mapping) else ():
        if name not in known:
            raise unknown("dataset", str(name), known)
    evidence = evidence_of(query.evidence, dataset, best)
    if evidence == {} and note.early_sides == "both":
        given = ", ".join(str(name) for name, one in query.evidence.items() if one) or "no dataset"
        raise UserError(
            f"early accuracies of {given} were given, and the adapter was trained with those of both datasets: give "
            f"those of '{dataset}' too, or train an adapter with data.evidence.sides: one"
        )
    return {"recipe": recipe, "norm_acc": accuracy_of(query.accuracies, dataset), "evidence": evidence}


def check_given(template: Template, question: Question) -> None:
    """Check that everything the prompt shows of each dataset was given."""
    for _, _, given, side in _given_fields(template, question):
        if side.given.get(given.name) is None:
            give = typed(given.option, given.example, given.request)
            give = give.format(dataset=question.dataset_1, other=question.dataset_2)
            raise UserError(f"prompt '{template.name}' needs {given.noun} for '{side.dataset}': {give}")


def unused(template: Template, given: object) -> list[str]:
    """Which of a query's `recipe`, `accuracies`, `structure` and `evidence` are given, and the prompt does not show."""
    return [name for name, one in ARGUMENTS.items() if not template.takes(one) and getattr(given, name) is not None]


def _given_fields(template: Template, question: Question) -> Iterator[tuple[int, PromptField, Given, Side]]:
    """What the prompt shows of each dataset (0 or 1) and the user gives."""
    for one in FIELDS.values():
        for i, side in enumerate((question.first, question.second)):
            if one.given and template.needs(one.columns[i]):
                yield i, one, one.given, side


def filled_digest(template: Template, question: Question, source: str, facts: Mapping[str, DatasetFacts]) -> str:
    """sha256 of the filled prompt without the source code."""
    said = template.fill(column_values(Shown(question, source, "", facts), template.shown))
    return digest([said.system, said.user])


def given_texts(template: Template, question: Question, facts: Mapping[str, DatasetFacts]) -> tuple[str, str]:
    """What the user gave of each dataset and the prompt shows, as text, for example the recipe."""
    texts: tuple[list[str], list[str]] = [], []
    for i, one, _, side in _given_fields(template, question):
        value = one.value(Shown(question, None, None, facts), side)
        texts[i].append(value if isinstance(value, str) else f"{one.name} {value}")
    return "; ".join(texts[0]), "; ".join(texts[1])
