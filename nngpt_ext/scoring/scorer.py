"""From questions to log-odds: render, tokenise, check the engine, score both orders of the datasets."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from nngpt_ext.batches.encode import Encoder, Example
from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.errors import UserError
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.prompts.template import Template
from nngpt_ext.scoring.lines import EncodedLines, KindOf, Prior, encode_lines, line_log_odds, line_pairs
from nngpt_ext.scoring.predictions import EncodedPairs, encode_pairs, pair_log_odds, plausible, training_pairs

if TYPE_CHECKING:
    from nngpt_ext.batches.rows import Group
    from nngpt_ext.models.base import Base

Encoded = EncodedPairs | EncodedLines


def of_networks(encoded: Encoded, numbers: Sequence[int]) -> Encoded:
    """The questions about some of the networks, given by their numbers in `encoded.groups`."""
    names = [name for name in ("rows", "groups", "sides") if hasattr(encoded, name)]
    kept: dict[str, Any] = {name: [getattr(encoded, name)[i] for i in numbers] for name in names}
    return replace(encoded, **kept)


Advance = Callable[[int], None]


class Scorer(Protocol):
    """Whatever turns questions into log-odds."""

    def log_odds(
        self, questions: Sequence[Question], sources: Mapping[str, str], advance: Advance | None = None
    ) -> np.ndarray:
        """Log-odds of each question's first dataset, shape (questions, 2): as given, and with the datasets swapped.

        Args:
            questions: those about one network share its source's prefix, in whatever order they come.
            sources: source text by the questions' `nn`.
            advance: called with the number of questions just scored.

        Raises:
            UserError: for a question that cannot be rendered or does not fit, and for scores that are not finite.
        """


@dataclass(frozen=True)
class Budget:
    """How much of a source is shown, and how questions are computed.

    Attributes:
        code_tokens: tokens of source at most.
        compact: whether comments and docstrings are removed first.
        row_tokens: tokens of a forward pass at most.
        engine: the preferred engine, a name in `nngpt_ext.batches.engine.ENGINES`.
    """

    code_tokens: int
    compact: bool
    row_tokens: int
    engine: str = "shared"


class LocalScorer:
    """A scorer on a base model in this process; threads may share it and take turns.

    Args:
        base: the base model.
        template: the prompt; one with a line has each dataset's line scored, by a model with a scoring head.
        budget: how much is shown and how it is computed.
        facts: facts about all datasets in the questions.
        model: the base with an adapter; by default the base alone.
        prior: log-odds that are added to those of two lines.
        kind_of: the kind of a network by its source, for a prior of kinds.
    """

    def __init__(
        self,
        base: Base,
        template: Template,
        budget: Budget,
        facts: Mapping[str, DatasetFacts],
        model: Any = None,
        prior: Prior | None = None,
        kind_of: KindOf | None = None,
    ) -> None:
        self.base, self.budget, self.prior, self.kind_of = base, budget, prior, kind_of
        self.model = base.model if model is None else model
        self.renderer = Renderer(
            template, base.tokenizer, code_tokens=budget.code_tokens, compact=budget.compact, facts=facts
        )
        self._engine: str | None = None
        self._lock = threading.RLock()

    def encoder(self, sources: Mapping[str, str]) -> Encoder:
        """An encoder for questions about these networks; it prepares each source once."""
        return Encoder(self.renderer, sources, self.base.context, self.budget.row_tokens)

    @property
    def lines(self) -> bool:
        """Whether each dataset's line is scored."""
        return self.renderer.template.line is not None

    def encode(
        self, questions: Sequence[Question], sources: Mapping[str, str], encoder: Encoder | None = None
    ) -> Encoded:
        """Questions as tokens, so that they are tokenised once and can be scored several times."""
        encoder = encoder or self.encoder(sources)
        with self._lock:  # a fast tokenizer cannot be used by two threads at once
            if self.lines:
                return encode_lines(encoder, questions, self.prior, self.kind_of)
            return encode_pairs(encoder, questions)

    def training(self, questions: Sequence[Question], first_is_better: np.ndarray, encoder: Encoder) -> Sequence[Group]:
        """The training examples of each network; `first_is_better` has the answers, shape (questions,)."""
        if self.lines:
            return line_pairs(encode_lines(encoder, questions, self.prior, self.kind_of), first_is_better)
        return training_pairs(encoder, questions, first_is_better)

    def source_tokens(self, source: str) -> int | None:
        """The number of tokens of a source, of which a question shows the first ones; None if it shows none."""
        with self._lock:
            return self.renderer.code(source).tokens if self.renderer.template.needs("nn_code") else None

    def check_engine(self, group: Sequence[Example], training: bool = False) -> str:
        """The engine that is exact on this model, determined with the first group that is given.

        The base model's engine is also that of its adapters, because an untrained adapter changes nothing.

        Raises:
            UserError: if the model cannot compute a question, or sees the answers that it scores.
        """
        from nngpt_ext.batches.engine import checked_engine
        from nngpt_ext.batches.plain import check_causal

        if self._engine is None:
            reach = min(self.base.context, self.budget.row_tokens)
            pad = int(self.base.tokenizer.pad_token_id)  # type: ignore[arg-type]
            if group and not self.lines:  # a line's score has no answer to see
                check_causal(self.model, group[0], pad)
            self._engine = checked_engine(
                self.model, group, pad, self.budget.engine, reach, training, self.budget.row_tokens
            )
        return self._engine

    def score(self, encoded: Encoded, model: Any = None, advance: Advance | None = None) -> np.ndarray:
        """Log-odds of encoded questions, shape (questions, 2).

        Args:
            encoded: as `encode` returned them.
            model: another model on the same base; by default the scorer's own.
            advance: called with the number of questions just scored.
        """
        if not encoded.groups:
            return np.empty((0, 2))
        with self._lock:
            longest = max(encoded.groups, key=lambda group: len(group[0].prompt))
            engine = self.check_engine(longest)
            chosen = self.model if model is None else model
            row_tokens = self.budget.row_tokens
            if isinstance(encoded, EncodedLines):
                return line_log_odds(chosen, encoded, row_tokens=row_tokens, engine=engine, progress=advance)
            return pair_log_odds(chosen, encoded, row_tokens=row_tokens, engine=engine, progress=advance)

    def log_odds(
        self, questions: Sequence[Question], sources: Mapping[str, str], advance: Advance | None = None
    ) -> np.ndarray:
        """See `Scorer.log_odds`."""
        odds = self.score(self.encode(questions, sources), advance=advance)
        if not plausible(odds).all():
            raise UserError(
                "the model's scores are not finite numbers: its weights are damaged; train or fetch it again"
            )
        return odds
