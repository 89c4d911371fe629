"""The part of a run that needs torch: encode, tune, score."""

from __future__ import annotations

import platform
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from nngpt_ext.batches.rows import Example, scoring_example, training_example
from nngpt_ext.config import ResolvedConfig
from nngpt_ext.data.load import PairData
from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.evaluation.metrics import accuracy, log_loss
from nngpt_ext.io import file_digest, inside, replacing_folder, text_digest
from nngpt_ext.models.base import Base, adapted, check_base
from nngpt_ext.predict.adapter import Note, known_answer, read_note
from nngpt_ext.predict.question import filled_digest, given_texts
from nngpt_ext.progress import Progress
from nngpt_ext.prompts.template import Template
from nngpt_ext.registry import finetuners
from nngpt_ext.run_folder import ADAPTER, BASE_FILE, CHECKPOINTS, WEIGHTS
from nngpt_ext.scoring.calibration import fit_calibration, with_calibration
from nngpt_ext.scoring.predictions import (
    EncodedPairs,
    encode_pairs,
    group_by_network,
    predicted_pairs,
    questions_of,
)
from nngpt_ext.scoring.scorer import Budget, LocalScorer
from nngpt_ext.tuning.history import OnEpoch, Validation, read_history, select_epoch
from nngpt_ext.tuning.qlora import write_base_note


class Workbench:
    """A base model, its encoder and the data of one run."""

    def __init__(self, config: ResolvedConfig, template: Template, base: Base, data: PairData) -> None:
        self.config = config
        self.template = template
        self.base = base
        self.data = data
        tuning = config.tuning
        budget = Budget(config.data.code_tokens, config.data.compact_code, tuning.row_tokens, tuning.engine)
        self.scorer = LocalScorer(base, template, budget, data.facts)
        self.encoder = self.scorer.encoder(data.sources)
        self.training = self.examples(data.training)
        # Tokenised once, and all of them before anything is trained: a question that does not fit is told now.
        self._encoded: dict[str, EncodedPairs] = {
            part: encode_pairs(self.encoder, questions_of(data.part(part))) for part in ("validation", "test")
        }
        self.engine = self.scorer.check_engine(self._longest_group())

    @property
    def device_name(self) -> str:
        """The device that the run was computed on."""
        import torch

        return torch.cuda.get_device_name() if self.base.device.type == "cuda" else platform.machine() + " CPU"

    @property
    def cut(self) -> set[str]:
        """The networks whose sources were cut to the code budget."""
        return self.encoder.cut_networks()

    def examples(self, pairs: pd.DataFrame) -> list[list[Example]]:
        """Training examples of each network: every pair in both orders, next to each other."""
        questions = questions_of(pairs)
        first_is_right = (pairs["better_dataset"] == pairs["dataset_1"]).to_numpy()
        groups = []
        for numbers in group_by_network(pairs["nn"].tolist()):
            asked = [q for i in numbers for q in (questions[i], questions[i].turned())]
            right = [r for i in numbers for r in (first_is_right[i], not first_is_right[i])]
            encoded = self.encoder.encode(asked)
            groups.append([training_example(e, bool(r)) for e, r in zip(encoded, right, strict=True)])
        return groups

    def _longest_group(self) -> list[Example]:
        """The questions of the training network with the longest prompt, with both options."""
        pairs = self.data.training
        rows = group_by_network(pairs["nn"].tolist())
        longest = max(range(len(rows)), key=lambda i: len(self.training[i][0].prompt))
        asked = [q for question in questions_of(pairs.iloc[rows[longest]]) for q in (question, question.turned())]
        return [scoring_example(encoded) for encoded in self.encoder.encode(asked)]

    def tune(self, folder: Path, on_epoch: OnEpoch | None = None) -> Path:
        """Train the adapter of this run with the configured fine-tuner, which may find its own checkpoints there."""
        tuning = self.config.tuning
        checkpointing = tuning.gradient_checkpointing
        if checkpointing is None:
            checkpointing = self.base.device.type == "cuda"
        decided = tuning.model_copy(update={"engine": self.engine, "gradient_checkpointing": checkpointing})
        config, validation = self.config.model_copy(update={"tuning": decided}), Validation(self._validate, on_epoch)
        made = Path(finetuners.get(tuning.finetuner)(self.base, self.training, validation, config, folder))
        adapter = inside(folder, ADAPTER)
        if made.resolve() != adapter.resolve():  # a plugin's fine-tuner may keep it elsewhere
            with replacing_folder(adapter) as copy:
                shutil.copytree(made, copy, dirs_exist_ok=True)
        if not (adapter / BASE_FILE).is_file():
            write_base_note(adapter, self.base)
        check_base(adapter, self.base)
        return adapter

    def _validate(self, model: Any) -> dict[str, float]:
        predictions = self.predict(model, "validation", 0)
        first = predictions["better_dataset"] == predictions["dataset_1"]
        prior = pair_prior(self.data.part("train"), predictions)
        return {
            "accuracy": float(predictions["correct"].mean()),
            "log_loss": log_loss(predictions["probability_1"], first),
            "prior_accuracy": accuracy(prior, first),
            "prior_log_loss": log_loss(prior, first),
        }

    def predict(self, model: Any, part: str, epoch: int) -> pd.DataFrame:
        """Score the pairs of a part (`train`, `validation`, `test`) with a model; its questions are tokenised once."""
        pairs = self.data.part(part)
        if part not in self._encoded:
            self._encoded[part] = encode_pairs(self.encoder, questions_of(pairs))
        with Progress("scoring", len(pairs) * 2, unit="questions") as progress:
            odds = self.scorer.score(self._encoded[part], model, progress.advance)
        return predicted_pairs(odds, pairs, prompt=self.config.prompt, base_model=self.base.name, tuning_epoch=epoch)

    def score(self, folder: Path) -> tuple[pd.DataFrame, list[dict[str, Any]], int | None]:
        """Validation and test predictions at the selected epoch, the figures of all epochs, the selected one.

        The test pairs are scored only now, when the epoch is chosen.
        """
        history = read_history(folder)
        if not history:  # a fine-tuner that keeps none: its adapter is all there is
            with adapted(self.base, folder / ADAPTER) as model:
                return self._both(model, 0), [], None
        selected = select_epoch(history)
        epochs: list[dict[str, Any]] = []
        predictions: Sequence[pd.DataFrame] = ()
        for entry in history:
            figures = {k: entry[k] for k in ("epoch", "train_loss", "validation_accuracy", "validation_log_loss")}
            figures["test_accuracy"] = None
            chosen = entry["epoch"] == selected["epoch"]
            if chosen or self.config.tuning.test_every_epoch:
                with adapted(self.base, folder / CHECKPOINTS / entry["checkpoint"]) as model:
                    tested = self.predict(model, "test", entry["epoch"])
                    if chosen:
                        predictions = [self.predict(model, "validation", entry["epoch"]), tested]
                figures["test_accuracy"] = float(tested["correct"].mean())
            epochs.append(figures)
        return pd.concat(predictions, ignore_index=True), epochs, int(selected["epoch"])

    def _both(self, model: Any, epoch: int) -> pd.DataFrame:
        return pd.concat([self.predict(model, part, epoch) for part in ("validation", "test")], ignore_index=True)

    def adapter_hash(self, adapter: Path) -> str:
        """sha256 of the adapter's weights."""
        return file_digest(adapter / WEIGHTS)

    def describe(self, adapter: Path) -> None:
        """Write how the adapter answers questions beside it, and its answer to a control question."""
        config, data = self.config, self.data
        names = data.pairs.loc[data.pairs["split"] == "train", ["dataset_1", "dataset_2"]]
        note = Note(
            prompt=config.prompt if not config.prompt.endswith(".json") else self.template.name,
            system=self.template.system,
            text=self.template.prompt,
            columns=self.template.columns,
            code_tokens=config.data.code_tokens,
            compact_code=config.data.compact_code,
            epoch=config.data.epoch,
            row_tokens=config.tuning.row_tokens,
            datasets=sorted({str(name) for name in names.to_numpy().ravel()}),
            facts={name: asdict(facts) for name, facts in data.facts.items()},
        )
        with adapted(self.base, adapter) as model:
            note.model_copy(update={"known_answer": known_answer(model, self.base, note)}).save(adapter)

    def with_questions(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Predictions with what makes their questions: hashes of source and filled prompt, and what is given."""
        keys = ["nn", "dataset_1", "dataset_2"]
        questions = questions_of(predictions[keys].merge(self.data.pairs, on=keys, how="left", validate="one_to_one"))
        sources = self.data.sources
        hashes = {nn: text_digest(sources[nn]) for nn in predictions["nn"].unique()}
        given = [given_texts(self.template, question) for question in questions]
        return predictions.assign(
            source=predictions["nn"].map(hashes),
            prompt_sha256=[filled_digest(self.template, q, sources[q.nn], self.data.facts) for q in questions],
            given_1=[one for one, _ in given],
            given_2=[two for _, two in given],
        )


def calibrated(predictions: pd.DataFrame, adapter: Path, target: float) -> pd.DataFrame:
    """Fit the calibration on the validation pairs, write it beside the adapter, and add what it says.

    Without a validation pair there is no calibration, and the predictions stay as they are.
    """
    validation = predictions[predictions["split"] == "validation"]
    if validation.empty:
        return predictions
    first_wins = (validation["better_dataset"] == validation["dataset_1"]).to_numpy()
    found = fit_calibration(validation["log_odds"].to_numpy(), first_wins, validation["nn"].to_numpy(), target)
    found.save(adapter)
    return with_calibration(predictions, found, read_note(adapter).datasets)
