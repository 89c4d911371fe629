"""From checked questions to answers: those in the store are found, the others are computed and kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.models.base import LOADING
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.predict.answers import Comparison
from nngpt_ext.predict.calibration import logistic
from nngpt_ext.predict.question import CheckedQuery
from nngpt_ext.predict.store import PredictionStore
from nngpt_ext.quiet import without_widgets

if TYPE_CHECKING:
    from nngpt_ext.predict.model import AdaptedModel

log = logging.getLogger(__name__)

Row = Mapping[str, Any]  # by the store's columns


class Answerer:
    """Answers questions about one adapter; its model is loaded with the first that the store does not answer.

    Args:
        files: of the adapter.
        base: where the base model is.
        store: answers in it are not computed again, new ones go there.
        facts: of all datasets that are asked about.
    """

    def __init__(
        self, files: AdapterFiles, base: str, store: PredictionStore | None, facts: Mapping[str, DatasetFacts]
    ) -> None:
        self._files, self._base, self._store, self._facts = files, base, store, facts
        self.loaded: AdaptedModel | None = None
        self._said = False

    def __call__(self, asked: Sequence[CheckedQuery]) -> list[Comparison]:
        """The answers, in the order of the questions.

        Raises:
            UserError: when the model cannot be loaded, is damaged, or the store cannot be used.
        """
        if not asked:
            return []
        self._say_if_it_always_abstains()
        stored = self._store.find(one.key for one in asked) if self._store is not None else []
        corrected = self._corrected(stored)  # an older version may have stored another `abstain`
        rows = {str(row["question"]): row for row in [*stored, *corrected]}
        new = self._compute(list({one.key: one for one in reversed(asked) if one.key not in rows}.values())[::-1])
        rows |= {str(row["question"]): row for row in new}
        if self._store is not None:
            self._store.add_rows([*corrected, *new, *_labels(asked, rows, [*stored, *new])])
        return [self._comparison(one, rows[one.key]) for one in asked]

    def _say_if_it_always_abstains(self) -> None:
        if self._files.threshold is None and not self._said:
            self._said = True
            found = self._files.calibration
            why = "has no calibration" if found is None else f"never reached {found.target} on validation"
            log.warning("the adapter %s: every answer abstains", why)

    def _corrected(self, stored: Sequence[Row]) -> list[Row]:
        """Those of stored rows whose `abstain` is not what the adapter's files say, with the right one."""
        right = [
            self._files.abstains(self._probability(row["log_odds"]), (row["dataset_1"], row["dataset_2"]))
            for row in stored
        ]
        return [{**row, "abstain": own} for row, own in zip(stored, right, strict=True) if own != row["abstain"]]

    def _compute(self, asked: Sequence[CheckedQuery]) -> list[dict[str, Any]]:
        if not asked:
            return []
        with LOADING:  # the libraries are imported here; and no two threads load one adapter twice
            if self.loaded is None:
                without_widgets()
                from nngpt_ext.predict.model import AdaptedModel

                self.loaded = AdaptedModel(self._files, self._base, self._facts)
        sources = {one.source: one.query.nn_code for one in asked}
        odds = self.loaded.scorer.log_odds([one.question for one in asked], sources)
        note, calibration, rows = self._files.note, self._files.calibration, []
        for one, (straight, turned) in zip(asked, odds, strict=True):
            mean = float((straight + turned) / 2)
            names = one.question.dataset_1, one.question.dataset_2
            rows.append(
                {
                    "question": one.key, "nn": one.name, "source": one.source, "epoch": note.epoch,
                    "dataset_1": one.question.dataset_1, "dataset_2": one.question.dataset_2,
                    "given_1": one.given[0], "given_2": one.given[1], "log_odds": mean,
                    "probability_1": float(logistic(mean)),
                    "calibrated_1": None if calibration is None else self._probability(mean),
                    "flipped": bool((straight >= 0) != (turned >= 0)),
                    "abstain": self._files.abstains(self._probability(mean), names),
                    "predicted": one.question.dataset_1 if mean >= 0 else one.question.dataset_2,
                    "prompt": note.prompt, "prompt_hash": note.prompt_hash, "adapter": self._files.hash,
                    "calibration": self._files.calibration_hash, "base_model": self._files.base_model,
                }
            )  # fmt: skip
        return rows

    def _probability(self, log_odds: float) -> float:
        calibration = self._files.calibration
        return float(calibration.probability(log_odds) if calibration else logistic(log_odds))

    def _comparison(self, one: CheckedQuery, row: Row) -> Comparison:
        same = one.query.dataset_1 == row["dataset_1"]
        odds = float(row["log_odds"])
        probability = self._probability(odds)
        return Comparison(
            dataset_1=one.query.dataset_1,
            dataset_2=one.query.dataset_2,
            winner=str(row["predicted"]),
            probability=probability if same else 1.0 - probability,
            log_odds=odds if same else -odds,
            flipped=bool(row["flipped"]),
            abstain=bool(row["abstain"]),
            model=self._files.model,
            nn=one.name,
            unseen=self._files.unseen((one.query.dataset_1, one.query.dataset_2)),
        )


def _labels(asked: Sequence[CheckedQuery], rows: Mapping[str, Row], stored: Sequence[Row]) -> list[dict[str, Any]]:
    """Copies of rows under the names by which their networks are asked about, where these are new.

    What a run knows of its own network under its own name, the true answer and the part it is in, stays there.
    """
    named = {(row["question"], row["nn"]) for row in stored}
    new = dict.fromkeys((one.key, one.query.nn) for one in asked if one.query.nn)
    return [{**rows[key], "nn": nn, "better_dataset": None, "split": None} for key, nn in new if (key, nn) not in named]
