"""Questions as tokens: each is rendered and tokenised as a whole, its options with their stop token separately."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nngpt_ext.errors import UserError
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.render import Code, Renderer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Example:
    """A question as token ids (int32): its prompt, and the answers to predict, each with the stop token at its end.

    To be scored it has both options, the first dataset offered first; to be trained on only the right one.
    """

    prompt: np.ndarray
    answers: tuple[np.ndarray, ...]


def training_example(question: Example, first_is_right: bool) -> Example:
    """The question with its right answer only."""
    return Example(question.prompt, (question.answers[0 if first_is_right else 1],))


class Encoder:
    """Turns questions about networks into tokens; each source is prepared once.

    Args:
        renderer: renders the prompt.
        sources: source text by network name.
        context: the largest number of tokens that the base model accepts.
        row_tokens: the largest number of tokens of a forward pass, if that is limited.
    """

    def __init__(
        self, renderer: Renderer, sources: Mapping[str, str], context: int, row_tokens: int | None = None
    ) -> None:
        self.renderer = renderer
        self.sources = sources
        self.context = context
        self.row_tokens = row_tokens
        self._codes: dict[str, Code] = {}
        self._options: dict[str, np.ndarray] = {}

    @property
    def longest(self) -> int:
        """The largest number of tokens that a question with an option may have."""
        return self.context if self.row_tokens is None else min(self.context, self.row_tokens)

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        return self.renderer.tokenizer

    def cut_networks(self) -> set[str]:
        """Networks seen so far whose source did not fit into the code budget."""
        return {name for name, code in self._codes.items() if code.cut}

    def option(self, dataset: str) -> np.ndarray:
        """The tokens of a dataset's name as an answer, with the stop token."""
        if dataset not in self._options:
            ids = self.tokenizer(self.renderer.inert(dataset), add_special_tokens=False)["input_ids"]
            self._options[dataset] = np.array([*ids, self.tokenizer.eos_token_id], dtype="int32")
        return self._options[dataset]

    def encode(self, questions: Iterable[Question]) -> list[Example]:
        """Encode questions.

        Raises:
            UserError: if a question with its source does not fit into the base model's context or a row.
        """
        asked = list(questions)
        if not asked:
            return []
        texts = [self.renderer.text(one, self._code(one.nn), self.sources.get(one.nn)) for one in asked]
        ids = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        result = []
        for question, prompt in zip(asked, ids, strict=True):
            options = self.option(question.dataset_1), self.option(question.dataset_2)
            length = len(prompt) + max(len(option) for option in options)
            if length > self.longest:
                now = f"data.code_tokens (now {self.renderer.code_tokens})"
                if length > self.context:
                    cure = f"the base model takes {self.context}; lower {now} by at least {length - self.context}"
                else:
                    cure = f"tuning.row_tokens is {self.row_tokens}; raise it to at least {length}, or lower {now}"
                raise UserError(f"a question about '{question.nn}' has {length} tokens and {cure}")
            result.append(Example(np.array(prompt, dtype="int32"), options))
        return result

    def _code(self, nn: str) -> str | None:
        if not self.renderer.template.needs("nn_code"):
            return None
        if nn not in self._codes:
            self._codes[nn] = self.renderer.code(self.sources[nn])
        return self._codes[nn].text
