"""A question on its way to an answer: what was given is checked and put in one order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nngpt_ext.errors import UserError
from nngpt_ext.lemur.facts import DatasetFacts
from nngpt_ext.predict.answers import Query, Recipe
from nngpt_ext.prompts.recipe import KEYS
from nngpt_ext.prompts.render import Question
from nngpt_ext.prompts.template import Template


class Asked(NamedTuple):
    """A question with its datasets in text order, and its keys."""

    query: Query
    question: Question
    source: str  # its sha256
    given: tuple[str, str]
    key: str


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
                f"prompt '{template.name}' needs an accuracy for '{dataset}': accuracies={{'{dataset}': 0.9, …}}"
            )


def name_of(asked: Asked) -> str:
    return asked.query.nn or f"source-{asked.source[:12]}"


def recipe_of(recipe: Recipe | Mapping[str, Recipe] | None, dataset: str) -> Recipe | None:
    """The recipe of a dataset, from one for all or one for each."""
    if recipe is None:
        return None
    if not isinstance(recipe, Mapping):
        raise UserError(f"a recipe must be a mapping with {', '.join(KEYS)}, or one for each dataset, not {recipe!r}")
    if any(isinstance(value, Mapping) for value in recipe.values()):
        if dataset not in recipe:
            raise UserError(f"no recipe for '{dataset}'; recipes were given for {', '.join(map(str, recipe))}")
        return recipe[dataset]  # type: ignore[return-value]
    return recipe


def facts_of(name: str, given: Sequence[int]) -> DatasetFacts:
    try:
        facts = DatasetFacts(*(int(value) for value in given))
        if min(facts) < 1:
            raise ValueError("all four are at least 1")
    except (TypeError, ValueError) as error:
        raise UserError(
            f"facts of '{name}' are (training images, image size, channels, classes), not {given!r} ({error})"
        ) from None
    return facts
