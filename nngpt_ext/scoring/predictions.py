"""Predictions: one row a pair, both orders of its names scored and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nngpt_ext.batches.encode import training_example
from nngpt_ext.errors import UserError
from nngpt_ext.prompts.fields import GIVEN, Question
from nngpt_ext.scoring.log_odds import log_odds
from nngpt_ext.scoring.logistic import logistic

if TYPE_CHECKING:
    import pandas as pd

    from nngpt_ext.batches.encode import Encoder, Example

# Log-odds are differences of sums over a few tokens. Larger ones, and those that are not finite, come from weights that
# are damaged or diverged, and even their sign means nothing.
LARGEST = 1e4
COLUMNS = (
    "nn", "epoch", "dataset_1", "dataset_2", "probability_1", "flipped", "predicted", "better_dataset", "correct",
    "margin", "prompt", "base_model", "tuning_epoch", "split", "log_odds",
)  # fmt: skip


def questions_of(pairs: pd.DataFrame) -> list[Question]:
    """The question of each pair, with the datasets in the pair's order and what its columns say of each."""
    names = [name for name in GIVEN if f"{name}_1" in pairs.columns]
    columns = [f"{name}_{side}" for name in names for side in (1, 2)]
    rows = pairs[["nn", "dataset_1", "dataset_2", "epoch", *columns]].itertuples(index=False, name=None)
    return [
        Question.of(nn, one, two, epoch, **{name: given[2 * i : 2 * i + 2] for i, name in enumerate(names)})
        for nn, one, two, epoch, *given in rows
    ]


def group_by_network(names: Sequence[str]) -> list[np.ndarray]:
    """Row numbers of each network, networks in the order in which they first appear."""
    numbers: dict[str, list[int]] = {}
    for i, name in enumerate(names):
        numbers.setdefault(name, []).append(i)
    return [np.array(rows) for rows in numbers.values()]


@dataclass(frozen=True)
class EncodedPairs:
    """Questions about pairs as tokens, by network, so that they are tokenised once and can be scored several times."""

    rows: list[np.ndarray]  # numbers of each network's pairs
    groups: list[list[Example]]  # its questions: the pairs as they are, then all of them with the datasets swapped
    pad: int


def encode_pairs(encoder: Encoder, questions: Sequence[Question]) -> EncodedPairs:
    """Encode questions in both orders of their datasets."""
    rows = group_by_network([question.nn for question in questions])
    groups = []
    for numbers in rows:
        asked = [questions[i] for i in numbers]
        groups.append(encoder.encode([*asked, *(question.turned() for question in asked)]))
    return EncodedPairs(rows, groups, int(encoder.tokenizer.pad_token_id))


def training_pairs(encoder: Encoder, questions: Sequence[Question], first_is_better: np.ndarray) -> list[list[Example]]:
    """What to train on: of each network both orders of every question, next to each other, with the right answer."""
    groups = []
    for numbers in group_by_network([question.nn for question in questions]):
        encoded = encoder.encode([q for i in numbers for q in (questions[i], questions[i].turned())])
        answers = [first for i in numbers for first in (first_is_better[i], not first_is_better[i])]
        groups.append([training_example(e, bool(first)) for e, first in zip(encoded, answers, strict=True)])
    return groups


def pair_log_odds(
    model: Any, encoded: EncodedPairs, *, row_tokens: int, engine: str = "shared", progress: Any = None
) -> np.ndarray:
    """Log-odds of dataset_1 in each order of the datasets, shape (questions, 2): the given one first.

    Questions that are in no row have zeros.
    """
    scored = log_odds(model, encoded.groups, row_tokens=row_tokens, pad=encoded.pad, engine=engine, advance=progress)
    result = np.zeros((1 + max((int(numbers.max()) for numbers in encoded.rows), default=-1), 2))
    for numbers, values in zip(encoded.rows, scored, strict=True):
        n = len(numbers)
        result[numbers, 0] = values[:n]
        result[numbers, 1] = -values[n:]  # dataset_1 is second there
    return result


def plausible(odds: Any) -> Any:
    """Whether log-odds (a number or an array) are finite and not larger than `LARGEST`."""
    return abs(odds) <= LARGEST


def predicted_pairs(
    odds: np.ndarray, pairs: pd.DataFrame, *, prompt: str, base_model: str, tuning_epoch: int
) -> pd.DataFrame:
    """Predictions from log-odds: one row a pair, in their order, with `COLUMNS`.

    `probability_1` is the logistic of the mean log-odds of the two orders; `flipped` means that they had different
    winners; a tie goes to dataset_1, as in labels.

    Args:
        odds: log-odds of dataset_1 in each order, shape (pairs, 2).
        pairs: columns of `build_pairs`, and `split`.
        prompt, base_model, tuning_epoch: of the model that computed them.

    Raises:
        UserError: if log-odds are not plausible.
    """
    bad = int((~plausible(odds)).any(axis=1).sum())
    if bad:
        raise UserError(
            f"the scores of {bad} of {len(odds)} pairs are not finite or not plausible after epoch {tuning_epoch}: "
            "training diverged, or the base model is damaged; lower tuning.learning_rate and start over in another "
            "folder"
        )
    mean = odds.mean(axis=1)
    frame = pairs[["nn", "epoch", "dataset_1", "dataset_2"]].reset_index(drop=True)
    frame["probability_1"] = logistic(mean)
    frame["flipped"] = (odds[:, 0] >= 0) != (odds[:, 1] >= 0)
    frame["predicted"] = np.where(mean >= 0, frame["dataset_1"], frame["dataset_2"])
    frame["better_dataset"] = pairs["better_dataset"].to_numpy()
    frame["correct"] = frame["predicted"] == frame["better_dataset"]
    frame["margin"] = pairs["margin"].to_numpy()
    frame["prompt"] = prompt
    frame["base_model"] = base_model
    frame["tuning_epoch"] = tuning_epoch
    frame["split"] = pairs["split"].to_numpy()
    frame["log_odds"] = mean  # more precise than a probability near 1
    return frame
