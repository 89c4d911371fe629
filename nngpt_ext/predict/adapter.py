"""An adapter's folder: what stands beside the weights so that the adapter can answer questions."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.errors import UserError
from nngpt_ext.io import digest, file_digest, write_text
from nngpt_ext.models.identity import read_identity
from nngpt_ext.predict.calibration import Calibration, read_calibration
from nngpt_ext.predict.control import KnownAnswer
from nngpt_ext.prompts.template import Template, checked
from nngpt_ext.run_folder import BASE_FILE, BASE_FOLDER, RECORD, SETTINGS, TASK, WEIGHTS
from nngpt_ext.scoring.scorer import Budget

# What PEFT writes there and no answer depends on: where the base was, who wrote it, what is off when asked.
_IDLE = {"base_model_name_or_path", "revision", "peft_version", "inference_mode", "lora_dropout"}
UNCALIBRATED = ""
FactValues = dict[str, int]


class Note(BaseModel):
    """`task.json` in an adapter's folder: how its questions are asked."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    prompt: str
    system: str
    text: str
    columns: dict[str, str]
    code_tokens: int = Field(ge=0)
    compact_code: bool
    epoch: int = Field(ge=1, description="of the trials that it was trained on")
    row_tokens: int = Field(ge=64)
    datasets: list[str] = Field(description="the datasets it was trained on")
    facts: dict[str, FactValues] = Field({}, description="about the datasets of its records; empty in older adapters")
    known_answer: KnownAnswer | None = Field(None, description="None in adapters of older versions: not checked")

    @property
    def template(self) -> Template:
        """The prompt."""
        return Template(self.prompt, self.system, self.text, self.columns)

    @property
    def prompt_hash(self) -> str:
        """What decides a prompt beside the question: template, budget and epoch."""
        template = self.template
        return digest(
            [template.system, template.prompt, template.columns, self.code_tokens, self.compact_code, self.epoch]
        )

    @property
    def budget(self) -> Budget:
        """How much of a source is shown, and how questions are computed."""
        return Budget(self.code_tokens, self.compact_code, self.row_tokens)

    def known_facts(self) -> dict[str, DatasetFacts]:
        """Facts about the datasets of its records; LEMUR's where an older version left none."""
        return {name: DatasetFacts(**values) for name, values in self.facts.items()} or dict(LEMUR_FACTS)

    def save(self, folder: Path) -> None:
        """Write it beside an adapter."""
        write_text(folder / TASK, self.model_dump_json(indent=2) + "\n")


class AdapterFiles:
    """The small files of an adapter's folder, read and checked; the model is not loaded.

    Attributes:
        weights_sha256: of the weights file.
        hash: what decides its answers beside prompt and calibration: its weights, how they are applied (alpha,
            rank, targets, …), the base model (its weights, and what `models.identity` compares beside them), and
            whether that is loaded in 4 bits.

    Raises:
        UserError: for a folder without an adapter, and for each damaged file.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / SETTINGS).is_file() or not (folder / WEIGHTS).is_file():
            raise UserError(f"no adapter in '{folder}': it needs {SETTINGS} and {WEIGHTS}")
        self.note = read_note(folder)
        base = _json(folder / BASE_FILE)
        try:
            self.base_model, self.base_sha256 = str(base["base_model"]), str(base["base_sha256"])
            self.base_identity = read_identity(base)
            self.load_in_4bit = bool(base["load_in_4bit"])
        except (KeyError, TypeError) as error:
            raise _damaged(folder / BASE_FILE, error) from None
        self.calibration: Calibration | None = read_calibration(folder)
        self.weights_sha256 = file_digest(folder / WEIGHTS)
        decides = [self.weights_sha256, _settings(folder / SETTINGS), self.base_sha256, self.load_in_4bit]
        # An adapter of an older version keeps its hash, and with it its answers in a store.
        self.hash = digest([*decides, self.base_identity] if self.base_identity else decides)

    def unseen(self, datasets: Iterable[str]) -> tuple[str, ...]:
        """Those of some datasets that the adapter was not trained on."""
        return tuple(name for name in datasets if name not in self.note.datasets)

    def abstains(self, probability: float, datasets: Iterable[str]) -> bool:
        """Whether an answer with this calibrated probability abstains: unseen datasets, or below the threshold."""
        below = self.calibration is None or bool(self.calibration.abstains(probability))
        return below or bool(self.unseen(datasets))

    def check_run(self, folder: Path) -> None:
        """See that the adapter is the one that a finished run in `folder` left.

        Raises:
            UserError: when its weights are others, or the run's record is missing or damaged.
        """
        record = _json(folder / RECORD)
        try:
            known = str(record["adapter_sha256"])
        except (KeyError, TypeError) as error:
            raise _damaged(folder / RECORD, error) from None
        if known != self.weights_sha256:
            raise UserError(
                f"'{self.folder / WEIGHTS}' is not what the run wrote (sha256 {self.weights_sha256[:12]}…, its "
                f"{RECORD} has {known[:12]}…); run the task again, or give the adapter's folder, not the run's"
            )

    @property
    def model(self) -> str:
        """Which model answers: base model and the beginning of the adapter's hash."""
        return f"{self.base_model}+{self.hash[:12]}"

    @property
    def base_place(self) -> str:
        """Where the base model is: beside the adapter, or where the run found it."""
        beside = self.folder / BASE_FOLDER
        return str(beside) if (beside / "config.json").is_file() else self.base_model

    @property
    def threshold(self) -> float | None:
        """The confidence below which it abstains; None where it always does."""
        return None if self.calibration is None else self.calibration.threshold

    def question_key(self, source: str, filled: str) -> str:
        """The store's key of a question: the source as given, the filled prompt, the adapter and its calibration.

        Args:
            source: sha256 of the source.
            filled: sha256 of the filled prompt without the source.
        """
        return digest([source, filled, self.note.prompt_hash, self.hash, self.calibration_hash])

    @property
    def calibration_hash(self) -> str:
        """The calibration's hash; empty where there is none."""
        return self.calibration.hash if self.calibration else UNCALIBRATED


def read_note(folder: Path) -> Note:
    """The note beside an adapter.

    Raises:
        UserError: when it is missing or damaged.
    """
    file = folder / TASK
    content = _json(file)
    try:
        note = Note.model_validate(content)
        checked(note.template)
    except ValueError as error:  # pydantic's, and UserError
        raise _damaged(file, error) from None
    return note


def _settings(file: Path) -> dict[str, Any]:
    """How the weights are applied. What is unset is left out, and lists, which PEFT makes of sets, are sorted."""
    found = _json(file)
    if not isinstance(found, dict):
        raise _damaged(file, TypeError("it is no mapping"))
    return {
        name: sorted(value, key=str) if isinstance(value, list) else value
        for name, value in found.items()
        if name not in _IDLE and value is not None
    }


def _json(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"'{file.parent}' was not written by this version: it has no {file.name}; run the task again"
        ) from None
    except (OSError, ValueError) as error:
        raise _damaged(file, error) from None


def _damaged(file: Path, error: Exception) -> UserError:
    reason = " ".join(str(error).split())[:200]
    return UserError(f"'{file}' is damaged ({type(error).__name__}: {reason}); fetch or train the adapter again")


def with_calibration(predicted: pd.DataFrame, calibration: Calibration, trained: Collection[str]) -> pd.DataFrame:
    """Predictions with `calibrated_1`, and `abstain` by the threshold and the datasets that the adapter was trained on.

    Args:
        predicted: with `dataset_1`, `dataset_2` and `log_odds`.
        calibration: of the adapter.
        trained: the datasets that it was trained on.
    """
    probability = calibration.probability(predicted["log_odds"].to_numpy())
    seen = predicted[["dataset_1", "dataset_2"]].isin(list(trained)).all(axis=1).to_numpy()
    return predicted.assign(calibrated_1=probability, abstain=calibration.abstains(probability) | ~seen)


def stored_rows(predicted: pd.DataFrame, adapter: Path) -> pd.DataFrame:
    """Rows for the prediction store from a run's predictions.parquet.

    Args:
        predicted: with `source`, `prompt_sha256`, `given_1`, `given_2` and `log_odds` beside DESIGN.md's columns.
        adapter: the adapter's folder.

    Raises:
        UserError: for a damaged adapter, and for predictions of an older version.
    """
    files = AdapterFiles(adapter)
    missing = sorted({"source", "prompt_sha256", "given_1", "given_2", "log_odds"} - set(predicted.columns))
    if missing:
        raise UserError(f"the run's predictions.parquet has no {', '.join(missing)}; run the task again")
    rows = predicted.assign(
        adapter=files.hash, calibration=files.calibration_hash, prompt_hash=files.note.prompt_hash, abstain=True
    )
    if files.calibration is not None:
        rows = with_calibration(rows, files.calibration, files.note.datasets)
    rows["question"] = [
        files.question_key(source, filled) for source, filled in zip(rows["source"], rows["prompt_sha256"], strict=True)
    ]
    return rows
