"""`tuning.head: lines`: a score for each dataset's line, and log-odds as the difference of two.

The order of the datasets cannot matter: the log-odds of (a, b) are exactly those of (b, a) with the other sign. The
model is that of Bradley and Terry (1952), with a prior's log-odds as an offset where `tuning.offset` has one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field, FiniteFloat

from nngpt_ext.batches.encode import LinePair
from nngpt_ext.io import digest, write_text
from nngpt_ext.prompts.fields import Question
from nngpt_ext.run_folder import PRIOR, read_adapter_file
from nngpt_ext.scoring.log_odds import scores
from nngpt_ext.scoring.predictions import group_by_network
from nngpt_ext.settings import Stage

if TYPE_CHECKING:
    from nngpt_ext.batches.encode import Encoder, Example


KindOf = Callable[[str], str | None]  # the kind of a network, by its source


class Prior(Stage):
    """`prior.json` in an adapter's folder: what a prior of the training pairs says of each dataset pair.

    Attributes:
        log_odds: the pair prior's, of the first dataset, by both datasets in text order.
        kinds: the same of the kind prior, for each kind of network in training; empty for the pair prior alone.
    """

    log_odds: dict[str, dict[str, FiniteFloat]]
    kinds: dict[str, dict[str, dict[str, FiniteFloat]]] = Field(default_factory=dict)

    def of(self, question: Question, kind: str | None = None) -> float:
        """The log-odds of the question's first dataset; 0 for a dataset pair that training did not have."""
        one, two = question.dataset_1, question.dataset_2
        found = self.kinds.get(kind or "", self.log_odds).get(min(one, two), {}).get(max(one, two), 0.0)
        return found if one < two else -found

    @property
    def hash(self) -> str:
        """Hash of all log-odds."""
        return digest([self.log_odds, self.kinds])

    def save(self, folder: Path) -> None:
        """Write it to an adapter's folder."""
        write_text(folder / PRIOR, self.model_dump_json(indent=2) + "\n")


def read_prior(folder: Path) -> Prior:
    """Read `prior.json` in an adapter's folder.

    Raises:
        UserError: if it is missing or damaged.
    """
    return read_adapter_file(folder, PRIOR, Prior)


@dataclass(frozen=True)
class EncodedLines:
    """Questions as the lines of their datasets, by network; `nngpt_ext.scoring.predictions.EncodedPairs` for lines."""

    rows: list[np.ndarray]  # numbers of each network's questions
    groups: list[list[Example]]  # its lines, each once
    sides: list[np.ndarray]  # of its questions the numbers of both lines, shape (questions, 2)
    offsets: np.ndarray  # log-odds of the first dataset that are added, shape (questions,)
    pad: int


def encode_lines(
    encoder: Encoder, questions: Sequence[Question], prior: Prior | None = None, kind_of: KindOf | None = None
) -> EncodedLines:
    """Encode the lines of questions; the log-odds of a `prior` for the network's kind are added to their scores'."""
    rows = group_by_network([question.nn for question in questions])
    encoded = [encoder.encode_lines([questions[i] for i in numbers]) for numbers in rows]
    networks = {question.nn for question in questions} if prior is not None and prior.kinds else ()
    kinds = {nn: kind_of(encoder.sources[nn]) for nn in networks} if kind_of is not None else {}
    offsets = np.array([0.0 if prior is None else prior.of(question, kinds.get(question.nn)) for question in questions])
    return EncodedLines(
        rows, [lines for lines, _ in encoded], [sides for _, sides in encoded], offsets,
        int(encoder.tokenizer.pad_token_id),  # type: ignore[arg-type]
    )  # fmt: skip


def line_log_odds(
    model: Any, encoded: EncodedLines, *, row_tokens: int, engine: str = "shared", progress: Any = None
) -> np.ndarray:
    """Log-odds of dataset_1, shape (questions, 2): the same in both orders of the datasets, zeros if in no row."""
    found = scores(
        model, encoded.groups, row_tokens=row_tokens, pad=encoded.pad, engine=engine, head="lines", advance=progress
    )
    result = np.zeros((len(encoded.offsets), 2))
    for numbers, sides, values in zip(encoded.rows, encoded.sides, found, strict=True):
        difference = values[sides[:, 0], 0] - values[sides[:, 1], 0] + encoded.offsets[numbers]
        result[numbers] = difference[:, None]
    return result


def line_pairs(encoded: EncodedLines, first_is_better: np.ndarray) -> list[list[LinePair]]:
    """What to train on: of each network its questions, with the line of the better dataset first."""
    return [
        [
            LinePair(lines[side[0 if first else 1]], lines[side[1 if first else 0]], offset if first else -offset)
            for side, first, offset in zip(
                sides, first_is_better[numbers], encoded.offsets[numbers].tolist(), strict=True
            )
        ]
        for numbers, lines, sides in zip(encoded.rows, encoded.groups, encoded.sides, strict=True)
    ]
