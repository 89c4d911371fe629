"""Questions as tokens: each is rendered and tokenised as a whole, its options with their stop token separately."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
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

    To be scored it has both options, the first dataset offered first; to be trained on only the right one. A dataset's
    line has the stop token as its only answer. That adds no token to a row, because stop tokens are only predicted, and
    it is predicted where the line is scored: at the prompt's last token.
    """

    prompt: np.ndarray
    answers: tuple[np.ndarray, ...]

    @property
    def parts(self) -> tuple[Example, ...]:
        """What a row must contain for it."""
        return (self,)


@dataclass(frozen=True, eq=False)
class LinePair:
    """Two lines of a network to train on.

    Attributes:
        better, worse: the line of the dataset that the network does better on, and the other.
        offset: what is added to the difference of their scores: log-odds that `better` is the better one.
    """

    better: Example
    worse: Example
    offset: float = 0.0

    @property
    def parts(self) -> tuple[Example, ...]:
        """What a row must contain for it."""
        return (self.better, self.worse)


def training_example(question: Example, first_is_right: bool) -> Example:
    """The question with its right answer only."""
    return Example(question.prompt, (question.answers[0 if first_is_right else 1],))


_APART = 32  # characters around a cut that texts must share: more than a tokenizer looks behind or ahead
_FEW = 4  # texts that are not worth cutting


def token_ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    """The tokens of texts, of which those about one network share most: that part is tokenised once.

    They are cut at the beginning of a line, if the tokenizer has a boundary of words there: no token reaches over it,
    whatever follows. Two texts are also tokenised whole, in case the tokenizer begins every text with something.
    """
    shared = os.path.commonprefix(list(texts))  # noqa: RUF071  of texts, not of paths
    cut = shared.rfind("\n", 0, max(0, len(shared) - _APART)) + 1
    behind = shared[cut : cut + _APART]  # white space might be lost at the beginning of a text
    if (
        len(texts) > _FEW
        and cut > _APART
        and behind.strip()
        and _splits_there(tokenizer, shared[cut - _APART : cut + _APART])
    ):
        first, last, head, *tails = _ids(
            tokenizer, [texts[0], texts[-1], shared[:cut], *(text[cut:] for text in texts)]
        )
        if head + tails[0] == first and head + tails[-1] == last:
            return [head + tail for tail in tails]
    return _ids(tokenizer, texts)


def _splits_there(tokenizer: PreTrainedTokenizerBase, text: str) -> bool:
    """Whether a word of the tokenizer begins in the middle of a text."""
    words = getattr(getattr(tokenizer, "backend_tokenizer", None), "pre_tokenizer", None)
    return words is not None and any(start == _APART for _, (start, _) in words.pre_tokenize_str(text))


def _ids(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str]) -> list[list[int]]:
    found: list[list[int]] = tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
    return found


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

    def source_tokens(self) -> dict[str, int]:
        """The number of tokens of each of these networks' sources."""
        return {name: code.tokens for name, code in self._codes.items()}

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
        texts = [self.renderer.text(one, self._code(one.nn), self.sources.get(one.nn)) for one in asked]
        answers = [(self.option(one.dataset_1), self.option(one.dataset_2)) for one in asked]
        return self._examples([one.nn for one in asked], texts, answers)

    def encode_lines(self, questions: Sequence[Question]) -> tuple[list[Example], np.ndarray]:
        """Encode the lines of questions about one network, each once.

        Returns:
            The lines, in text order, so that it does not matter how a question orders its datasets; and the numbers of
            each question's two lines, the first dataset's first, shape (questions, 2).

        Raises:
            UserError: as `encode`.
        """
        texts = [self.renderer.line_texts(one, self._code(one.nn), self.sources.get(one.nn)) for one in questions]
        number = {text: i for i, text in enumerate(sorted({text for pair in texts for text in pair}))}
        stop = np.array([self.tokenizer.eos_token_id], dtype="int32")
        lines = self._examples([questions[0].nn] * len(number), list(number), [(stop,)] * len(number))
        return lines, np.array([[number[text] for text in pair] for pair in texts])

    def _examples(
        self, networks: Sequence[str], texts: Sequence[str], answers: Sequence[tuple[np.ndarray, ...]]
    ) -> list[Example]:
        if not texts:
            return []
        ids = token_ids(self.tokenizer, texts)
        result = []
        for nn, prompt, options in zip(networks, ids, answers, strict=True):
            length = len(prompt) + max(len(option) for option in options)
            if length > self.longest:
                now = f"data.code_tokens (now {self.renderer.code_tokens})"
                if length > self.context:
                    cure = f"the base model takes {self.context}; lower {now} by at least {length - self.context}"
                else:
                    cure = f"tuning.row_tokens is {self.row_tokens}; raise it to at least {length}, or lower {now}"
                raise UserError(f"a question about '{nn}' has {length} tokens and {cure}")
            result.append(Example(np.array(prompt, dtype="int32"), options))
        return result

    def _code(self, nn: str) -> str | None:
        if not self.renderer.template.needs("nn_code"):
            return None
        if nn not in self._codes:
            self._codes[nn] = self.renderer.code(self.sources[nn])
        return self._codes[nn].text
