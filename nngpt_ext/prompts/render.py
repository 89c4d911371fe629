"""The renderer: turns a question about a network into text, for training and for scoring alike."""

from __future__ import annotations

import os.path
import re
from collections.abc import Mapping, Set
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import groupby
from typing import TYPE_CHECKING, Any

from nngpt_ext.compact import compact_code
from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.errors import UserError, parsing
from nngpt_ext.prompts.chat import chat_text, normal_forms, takes_system, text_markers
from nngpt_ext.prompts.fields import Question, Shown, column_values
from nngpt_ext.prompts.template import Messages, Template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class Code:
    """A source as it is shown: its text, whether it was truncated, and the number of tokens of the whole source."""

    text: str
    cut: bool
    tokens: int


class Renderer:
    """Fills one template for one tokenizer.

    Args:
        template: the prompt.
        tokenizer: provides the chat template, the tokens by which a source is truncated, and the special tokens
            and markers that text from outside must not contain.
        code_tokens: the largest number of source tokens to show.
        compact: whether comments and docstrings are removed first.
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
        # Includes chat markers: many tokenizers parse `<|User|>` without calling it special.
        added = {str(token): token.special for token in tokenizer.added_tokens_decoder.values()}
        specials = {text for text, special in added.items() if special or text[:1] + text[-1:] == "<>"}
        # Whitespace alone is ordinary text: with one more space it is still whitespace.
        specials = {text for text in specials | set(tokenizer.all_special_tokens) if text.strip()}
        # A token is recognised by what stands between its outer spaces: only that can be broken by a space.
        cores = {text.strip(" ") for text in specials | text_markers(tokenizer, specials)}
        self._normal = normal_forms(tokenizer)
        cores = {core for text in cores for core in (text, self._normalized(text)) if len(core) > 1}
        self._shown = lru_cache(maxsize=256)(self._code)  # of the networks whose questions are answered together
        with parsing(f"the special tokens of the tokenizer in '{tokenizer.name_or_path}' cannot be searched for"):
            self._marked = _first_characters(cores)
        self._gap = " " * (1 + max((len(run) for core in cores for run in re.findall(" +", core)), default=0))

    def code(self, source: str) -> Code:
        """The part of a source that a prompt shows, truncated by tokens."""
        return self._shown(source)

    def _code(self, source: str) -> Code:
        text = self.inert(compact_code(source) if self.compact else source.strip())
        encoded = self.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
        offsets = encoded["offset_mapping"]
        if len(offsets) <= self.code_tokens:
            return Code(text, False, len(offsets))
        return Code(text[: offsets[self.code_tokens - 1][1]] if self.code_tokens else "", True, len(offsets))

    def inert(self, text: str) -> str:
        """Break special tokens and the chat template's markers in text from outside by a space.

        No tokenizer or model then takes them for real ones.
        """
        broken = self._broken(text, " ")
        if self._starts(broken):  # `< a` is a token beside `<a`: insert more spaces than any token contains
            broken = self._broken(text, self._gap)
        return broken

    def _broken(self, text: str, gap: str) -> str:
        starts = self._starts(text)
        return "".join(c + gap if i in starts else c for i, c in enumerate(text)) if starts else text

    def _starts(self, text: str) -> set[int]:
        """Where a marker begins, as the text is or as the tokenizer normalises it."""
        starts = {found.start() for found in self._marked.finditer(text)}
        if self._normal is not None:
            forms = [self._normal(c) for c in text]
            places = [i for i, form in enumerate(forms) for _ in form]
            starts |= {places[found.start()] for found in self._marked.finditer("".join(forms))}
        return starts

    def _normalized(self, text: str) -> str:
        return text if self._normal is None else "".join(map(self._normal, text))

    def messages(self, question: Question, code: str | None, source: str | None = None) -> Messages:
        """Fill the template for one question.

        Args:
            question: the question.
            code: the part of the source to show, as `code()` returned it; None if the prompt shows no source.
            source: the whole source, for fields that are computed from it.

        Raises:
            UserError: for a dataset without facts, or if the question lacks a value that the template needs.
        """
        return self.template.fill(self._values(question, code, source))

    def _values(self, question: Question, code: str | None, source: str | None) -> dict[str, Any]:
        for dataset in (question.dataset_1, question.dataset_2):
            if self.template.needs_facts and dataset not in self.facts:
                raise UserError(f"no facts about dataset '{dataset}'; known: {', '.join(sorted(self.facts))}")
        values = column_values(Shown(question, source, code, self.facts), self.template.shown)
        return {k: self.inert(v) if isinstance(v, str) else v for k, v in values.items()}

    def text(self, question: Question, code: str | None, source: str | None = None) -> str:
        """The whole text before the answer, in the tokenizer's chat template if it has one."""
        return self._whole(self.messages(question, code, source))

    def line_texts(self, question: Question, code: str | None, source: str | None = None) -> tuple[str, str]:
        """`text` for each dataset's line alone, with a template that has a line."""
        one, other = map(self._whole, self.template.fill_lines(self._values(question, code, source)))
        return one, other

    def _whole(self, said: Messages) -> str:
        text = f"{said.system}\n\n{said.user}\n"
        if self.tokenizer.chat_template:
            text = chat_text(self.tokenizer, said.system, said.user, apart=self._takes_system)
        return text if text.startswith(self._begin) else self._begin + text

    @cached_property
    def _begin(self) -> str:
        return first_token(self.tokenizer)

    @cached_property
    def _takes_system(self) -> bool:
        return takes_system(self.tokenizer)


def first_token(tokenizer: Any) -> str:
    """The token with which a tokenizer begins a text by itself, for texts that are made without it; or ""."""
    return str(tokenizer.bos_token) if tokenizer("x")["input_ids"][:1] == [tokenizer.bos_token_id] else ""


def _first_characters(texts: Set[str]) -> re.Pattern[str]:
    """A pattern that finds the first character of each of the texts, even where they overlap."""
    groups = groupby(sorted(texts), key=lambda text: text[0])
    branches = [f"{re.escape(first)}(?={_any_of({text[1:] for text in alike})})" for first, alike in groups]
    return re.compile("|".join(branches) or "(?!)")


def _any_of(texts: Set[str]) -> str:
    """A pattern that matches where one of the texts begins.

    It is a tree of common prefixes, so thousands of reserved tokens take no longer than one.
    """
    if "" in texts:
        return ""
    branches = []
    for _, group in groupby(sorted(texts), key=lambda text: text[0]):
        alike = list(group)
        shared = os.path.commonprefix(alike)  # noqa: RUF071  of texts, not of paths
        branches.append(re.escape(shared) + _any_of({text[len(shared) :] for text in alike}))
    return f"(?:{'|'.join(branches)})"
