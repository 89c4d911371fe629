"""What makes two questions the same: hashes under which predictions are stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.prompts.recipe import recipe_text
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.template import Template

SIDES = (1, 2)


def digest(content: Any) -> str:
    """sha256 of a value as JSON with sorted keys, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def prompt_hash(template: Template, *, code_tokens: int, compact: bool, epoch: int | None) -> str:
    """What decides a prompt's text beside the network and the datasets."""
    return digest([template.system, template.prompt, template.columns, code_tokens, compact, epoch])


def shown(template: Template, question: Question, facts: Mapping[str, DatasetFacts]) -> tuple[str, str]:
    """What the prompt shows of each side beside the dataset's name, as text: recipe, accuracy, facts.

    Recipes that are written alike are alike. Facts count only where they are not those that LEMUR's datasets
    have. A template that shows none of them gives two empty texts.
    """
    texts = []
    sides = (
        (question.dataset_1, question.recipe_1, question.norm_acc_1, "norm_acc"),
        (question.dataset_2, question.recipe_2, question.norm_acc_2, "norm_acc_2"),
    )
    for i, (dataset, recipe, accuracy, column) in zip(SIDES, sides, strict=True):
        parts = []
        if template.needs(f"recipe_{i}") and recipe is not None:
            parts.append(recipe_text(recipe))
        if template.needs(column) and accuracy is not None:
            parts.append(f"accuracy {accuracy!r}")
        if template.needs_facts(i) and facts.get(dataset) != LEMUR_FACTS.get(dataset):
            parts.append(f"facts {tuple(facts[dataset])}" if dataset in facts else "no facts")
        texts.append("; ".join(parts))
    return texts[0], texts[1]


def question_hash(
    source: str, datasets: tuple[str, str], given: tuple[str, str], prompt: str, adapter: str, calibration: str
) -> str:
    """The key of a question: hashes of source, prompt, adapter and calibration, and what stands on each side.

    The order of the datasets does not count.
    """
    sides = sorted(zip(datasets, given, strict=True))
    return digest([source, sides, prompt, adapter, calibration])
