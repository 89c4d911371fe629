"""The one renderer: a question about a network becomes text, for training and for scoring alike."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import jinja2

from nngpt_ext.errors import UserError
from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.networks.compact import compact_code
from nngpt_ext.prompts.fields import Question, Shown, column_values
from nngpt_ext.prompts.markers import text_markers
from nngpt_ext.prompts.template import Messages, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Code:
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
        facts: facts about datasets by name.
    """

    def __init__(
        self,
        template: Template,
        tokenizer: PreTrainedTokenizerBase,
        *,
        code_tokens: int,
        compact: bool = True,
        facts: Mapping[str, DatasetFacts],
    ) -> None:
        self.template = template
        self.tokenizer = tokenizer
        self.code_tokens = code_tokens
        self.compact = compact
        self.facts = facts
        self._takes_system: bool | None = None
        # Chat markers count too: many tokenizers parse `<|User|>` without calling it special.
        added = {str(token): token.special for token in tokenizer.added_tokens_decoder.values()}
        specials = {text for text, special in added.items() if special or text[:1] + text[-1:] == "<>"}
        specials |= set(tokenizer.all_special_tokens)
        texts = {text for text in specials | text_markers(tokenizer, specials) if len(text) > 1}
        # Sorted, so that the longest of several that begin alike is met first.
        longest_first = sorted(map(re.escape, sorted(texts)), key=len, reverse=True)
        self._marked = re.compile("|".join(longest_first) or "(?!)")

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
        while self._marked.search(text):  # again, for one may have lain across another
            text = self._marked.sub(lambda found: f"{found[0][0]} {found[0][1:]}", text)
        return text

    def messages(self, question: Question, code: str | None, source: str | None = None) -> Messages:
        """Fill the template for one question.

        Args:
            question: what is asked.
            code: the part of the source to show, as `code()` gave it; None where the prompt shows none.
            source: the whole source, for fields that are made of it.

        Raises:
            UserError: for a dataset without facts, and for what the template needs and the question lacks.
        """
        for dataset in (question.dataset_1, question.dataset_2):
            if self.template.needs_facts and dataset not in self.facts:
                raise UserError(f"no facts about dataset '{dataset}'; known: {', '.join(sorted(self.facts))}")
        values = column_values(Shown(question, source, code, self.facts), set(self.template.columns.values()))
        return self.template.fill({k: self.inert(v) if isinstance(v, str) else v for k, v in values.items()})

    def text(self, question: Question, code: str | None, source: str | None = None) -> str:
        """The whole text before the answer: by the tokenizer's chat template, or plainly where it has none."""
        said = self.messages(question, code, source)
        system, user = said.system, said.user
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
