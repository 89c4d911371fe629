"""The one renderer: a question about a network becomes text, for training and for scoring alike."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Set
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

import jinja2

from nngpt_ext.errors import UserError
from nngpt_ext.lemur.facts import FACTS, DatasetFacts
from nngpt_ext.prompts.compact import compact_code
from nngpt_ext.prompts.markers import text_markers
from nngpt_ext.prompts.recipe import recipe_text
from nngpt_ext.prompts.template import Messages, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Question(NamedTuple):
    """A network and two datasets in the order in which they are offered, with what a prompt may show."""

    nn: str
    dataset_1: str
    dataset_2: str
    epoch: int | None = None
    norm_acc_1: float | None = None
    norm_acc_2: float | None = None
    recipe_1: Mapping[str, Any] | None = None
    recipe_2: Mapping[str, Any] | None = None

    def turned(self) -> Question:
        """The same question with the datasets in the other order."""
        return Question(
            self.nn, self.dataset_2, self.dataset_1, self.epoch,
            self.norm_acc_2, self.norm_acc_1, self.recipe_2, self.recipe_1,
        )  # fmt: skip


class Code(NamedTuple):
    """A source as it is shown: its text, and whether some of it was cut off."""

    text: str
    cut: bool


class Renderer:
    """Fills one template for one tokenizer.

    Args:
        template: the prompt.
        tokenizer: gives the chat template, the tokens by which a source is cut, and the special tokens
            and markers that text from outside must not contain.
        code_tokens: how many tokens of source are shown at most.
        compact: whether comments and docstrings are taken out first.
        facts: facts of datasets that LEMUR does not have.
    """

    def __init__(
        self,
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        *,
        code_tokens: int,
        compact: bool = True,
        facts: Mapping[str, DatasetFacts] | None = None,
    ) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self.code_tokens = code_tokens
        self.compact = compact
        self.facts = {**FACTS, **(facts or {})}
        self._takes_system: bool | None = None
        # Chat markers count too: many tokenizers parse `<|User|>` without calling it special.
        added = {str(token): token.special for token in tokenizer.added_tokens_decoder.values()}
        specials = {text for text, special in added.items() if special or text[:1] + text[-1:] == "<>"}
        # Blanks alone are ordinary text: a space more makes blanks again.
        specials = {text for text in specials | set(tokenizer.all_special_tokens) if text.strip()}
        # A token is found by what stands between its outer spaces: a space can break that only.
        cores = {text.strip(" ") for text in specials | text_markers(tokenizer, specials)}
        cores = {core for core in cores if len(core) > 1}
        self._marked = _first_characters(cores)
        self._gap = " " * (1 + max((len(run) for core in cores for run in re.findall(" +", core)), default=0))

    def code(self, source: str) -> Code:
        """The part of a source that a prompt shows, cut by tokens."""
        text = self.inert(compact_code(source) if self.compact else source.strip())
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        if len(offsets) <= self.code_tokens:
            return Code(text, False)
        return Code(text[: offsets[self.code_tokens - 1][1]] if self.code_tokens else "", True)

    def inert(self, text: str) -> str:
        """Break special tokens and the chat template's markers in text from outside by a space.

        Then no tokenizer parses them as such, and no model reads them so.
        """
        broken = self._marked.sub(r"\g<0> ", text)
        if self._marked.search(broken):  # `< a` is a token beside `<a`: more spaces then than any token holds
            broken = self._marked.sub(rf"\g<0>{self._gap}", text)
        return broken

    def messages(self, question: Question, code: str | None) -> Messages:
        """Fill the template for one question; `code` as `code()` gave it.

        Raises:
            UserError: for a dataset without facts, and for what the template needs and the question lacks.
        """
        values: dict[str, Any] = {
            "nn": question.nn,
            "nn_code": code,
            "epoch": question.epoch,
            "dataset": question.dataset_1,
            "dataset_2": question.dataset_2,
            "norm_acc": question.norm_acc_1,
            "norm_acc_2": question.norm_acc_2,
        }
        sides = ((1, question.dataset_1, question.recipe_1), (2, question.dataset_2, question.recipe_2))
        for i, dataset, recipe in sides:
            if self.template.needs(f"recipe_{i}") and recipe is not None:
                try:
                    values[f"recipe_{i}"] = recipe_text(recipe)
                except UserError as error:
                    raise UserError(f"network '{question.nn}' on '{dataset}': {error}") from None
            fact = self.facts.get(dataset)
            if fact is not None:
                values[f"num_train_images_{i}"] = fact.train_images
                values[f"img_size_{i}"] = fact.image_size
                values[f"num_channels_{i}"] = fact.channels
                values[f"num_classes_{i}"] = fact.classes
            elif self.template.needs_facts(i):
                raise UserError(f"no facts about dataset '{dataset}'; known: {', '.join(sorted(self.facts))}")
        return self.template.fill({k: self.inert(v) if isinstance(v, str) else v for k, v in values.items()})

    def text(self, question: Question, code: str | None) -> str:
        """The whole text before the answer: by the tokenizer's chat template, or plainly where it has none."""
        system, user = self.messages(question, code)
        if not self.tokenizer.chat_template:
            return f"{system}\n\n{user}\n"
        if self._takes_system is None:
            self._takes_system = self._shows_system()
        if not self._takes_system:
            return self._chat([{"role": "user", "content": f"{system}\n\n{user}"}])
        return self._chat([{"role": "system", "content": system}, {"role": "user", "content": user}])

    def _chat(self, messages: list[dict[str, str]]) -> str:
        return str(self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))

    def _shows_system(self) -> bool:
        """Whether the chat template takes a system message: some refuse it (Gemma), some leave it out."""
        try:
            return "the-system" in self._chat(
                [{"role": "system", "content": "the-system"}, {"role": "user", "content": "the-user"}]
            )
        except (jinja2.TemplateError, ValueError):
            return False


def _first_characters(texts: Set[str]) -> re.Pattern[str]:
    """Finds the first character of each of the texts, also where they lie across one another."""
    groups = groupby(sorted(texts), key=lambda text: text[0])
    branches = [f"{re.escape(first)}(?={_any_of({text[1:] for text in alike})})" for first, alike in groups]
    return re.compile("|".join(branches) or "(?!)")


def _any_of(texts: Set[str]) -> str:
    """A pattern that matches where one of the texts begins.

    It is a tree of what they share, so thousands of reserved tokens cost no more than one.
    """
    if "" in texts:
        return ""
    branches = []
    for _, group in groupby(sorted(texts), key=lambda text: text[0]):
        alike = list(group)
        shared = os.path.commonprefix(alike)  # noqa: RUF071 (character by character is what is wanted)
        branches.append(re.escape(shared) + _any_of({text[len(shared) :] for text in alike}))
    return f"(?:{'|'.join(branches)})"
