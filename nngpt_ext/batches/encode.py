"""Questions as tokens: rendered and tokenised whole, the options and their stop token beside them."""

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
class Encoded:
    """One question: its prompt and the possible answers, as token ids (int32).

    `options[0]` is the first dataset offered; each option ends with the stop token.
    """

    prompt: np.ndarray
    options: tuple[np.ndarray, np.ndarray]


class Encoder:
    """Turns questions about networks into tokens; each source is prepared once.

    Args:
        renderer: renders the prompt.
        sources: network name to source text.
        context: how many tokens the base model takes at most.
        row_tokens: how many tokens a forward pass may have, if that is bounded.
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
        """How many tokens a question with an option may have at most."""
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

    def encode(self, questions: Iterable[Question]) -> list[Encoded]:
        """Encode questions.

        Raises:
            UserError: when a question with its source does not fit into the base model's context or a row.
        """
        asked = list(questions)
        texts = [
            self.renderer.text(question, self._code(question.nn), self.sources.get(question.nn)) for question in asked
        ]
        if not texts:
            return []
        ids = self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
        result = []
        for question, prompt in zip(asked, ids, strict=True):
            options = self.option(question.dataset_1), self.option(question.dataset_2)
            length = len(prompt) + max(len(option) for option in options)
            if length > self.context:
                raise UserError(
                    f"a question about '{question.nn}' has {length} tokens and the base model takes {self.context}; "
                    f"lower data.code_tokens (now {self.renderer.code_tokens}) by at least {length - self.context}"
                )
            if self.row_tokens is not None and length > self.row_tokens:
                raise UserError(
                    f"a question about '{question.nn}' has {length} tokens and tuning.row_tokens is "
                    f"{self.row_tokens}; raise it to at least {length}, or lower data.code_tokens "
                    f"(now {self.renderer.code_tokens})"
                )
            result.append(Encoded(np.array(prompt, dtype="int32"), options))
        return result

    def _code(self, nn: str) -> str | None:
        if not self.renderer.template.needs("nn_code"):
            return None
        if nn not in self._codes:
            self._codes[nn] = self.renderer.code(self.sources[nn])
        return self._codes[nn].text
