"""An adapter's folder: the files beside its weights, its control question, and how it is loaded.

Weights that were loaded wrongly, or damaged later, still answer every question. An adapter is therefore stored with
one fixed question and its answer, the control question, and is used only if it gives that answer again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import astuple, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator
from scipy.special import expit

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.errors import UserError
from nngpt_ext.io import digest, file_digest, write_text
from nngpt_ext.models.base import check_base, load_base, with_trained_adapter
from nngpt_ext.models.identity import read_base_note
from nngpt_ext.networks.structure import Structure
from nngpt_ext.prompts.fields import Question
from nngpt_ext.prompts.template import Template, checked
from nngpt_ext.quiet import without_widgets
from nngpt_ext.run_folder import (
    ADAPTER,
    BASE_FILE,
    BASE_FOLDER,
    RECORD,
    SETTINGS,
    TASK,
    WEIGHTS,
    check_adapter,
    no_adapter,
    read_adapter_file,
    read_record,
)
from nngpt_ext.scoring.calibration import read_calibration
from nngpt_ext.scoring.lines import read_prior
from nngpt_ext.scoring.scorer import Budget, LocalScorer
from nngpt_ext.settings import Stage

if TYPE_CHECKING:
    from nngpt_ext.models.base import Base

SOURCE = """\
import torch.nn as nn


class Net(nn.Module):
    def __init__(self, in_shape, out_shape):
        super().__init__()
        self.layers = nn.Sequential(nn.Conv2d(in_shape[1], 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.classifier = nn.Linear(8, out_shape[0])

    def forward(self, x):
        return self.classifier(self.layers(x))
"""
RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": None, "transform": "norm_32"}
ACCURACIES = (0.75, 0.5)
# Absolute tolerance, and tolerance relative to the known log-odds. On one kind of device, fp32 sums differ by 1e-5 with
# the number of threads or the CPU. A bf16 log-probability may differ by 0.3 (nngpt_ext.batches.engine.TOLERANCE), and
# log-odds are the difference of two. Other devices also round some weights to 4 bits differently.
SAME, OTHER = (1e-3, 1e-3), (0.6, 0.1)
# Keys that PEFT writes to adapter_config.json and that change no answer.
_IDLE = {"base_model_name_or_path", "revision", "peft_version", "inference_mode", "lora_dropout"}


class KnownAnswer(Stage):
    """The control question, stored whole so that it is the same in every version of the package, and its answer."""

    source: str
    datasets: tuple[str, str]
    facts: dict[str, tuple[int, int, int, int]] = Field(description="of the two datasets when the adapter was written")
    recipe: dict[str, Any]
    accuracies: tuple[float, float]
    structure: dict[str, int] = Field({"parameters": 314, "layers": 2, "last_map": 30}, description="of `SOURCE`")
    log_odds: tuple[float, float] = Field(description="of the first dataset, in each order of the names")
    device: str = Field(description="kind of device that computed them")
    dtype: str = Field(description="data type that they were computed in")

    def ask(self, model: Any, base: Base, note: Note) -> np.ndarray:
        """The log-odds that the model computes now, shape (2,)."""
        facts = {name: DatasetFacts(*values) for name, values in self.facts.items()}
        # The plain engine does not depend on the model, the device or earlier questions.
        scorer = LocalScorer(base, note.template, replace(note.budget, engine="plain"), facts, model)
        question = Question.of(
            "network", *self.datasets, note.epoch, norm_acc=self.accuracies, recipe=(self.recipe,) * 2,
            structure=(Structure(**self.structure),) * 2,
        )  # fmt: skip
        return np.asarray(scorer.log_odds([question], {"network": self.source})[0])

    def is_answered_by(self, log_odds: np.ndarray, base: Base) -> bool:
        """Whether log-odds computed on this base model equal the known ones up to rounding."""
        same = (self.device, self.dtype) == _place(base) and self.dtype == "float32"
        absolute, relative = SAME if same else OTHER
        return bool(np.allclose(log_odds, self.log_odds, rtol=relative, atol=absolute))


def known_answer(model: Any, base: Base, note: Note) -> KnownAnswer:
    """The control question about an adapter's first two datasets, with the answer of `model`, the base with it."""
    one, two = sorted(note.datasets)[:2]
    known = note.known_facts()
    device, dtype = _place(base)
    control = KnownAnswer(
        source=SOURCE, datasets=(one, two), facts={name: astuple(known[name]) for name in (one, two) if name in known},
        recipe=RECIPE, accuracies=ACCURACIES, log_odds=(0.0, 0.0), device=device, dtype=dtype,
    )  # fmt: skip
    return control.model_copy(update={"log_odds": tuple(control.ask(model, base, note).tolist())})


def _place(base: Base) -> tuple[str, str]:
    """The kind of device of a base model, and the data type that it computes in."""
    return base.device.type, str(base.model.dtype).removeprefix("torch.")


class Note(Stage):
    """`task.json` in an adapter's folder: how its questions are asked."""

    prompt: str
    system: str
    text: str
    columns: dict[str, str]
    line: str | None = Field(None, description="a dataset's line; None if answers are names (tuning.head)")
    offset: Literal["none", "pair_prior", "kind_prior"] = "none"
    code_tokens: int = Field(ge=0)
    compact_code: bool
    epoch: int = Field(ge=1, description="epoch of the trials that it was trained on")
    row_tokens: int = Field(ge=64)
    datasets: list[str] = Field(description="the datasets that it was trained on")
    facts: dict[str, dict[str, int]] = Field({}, description="of the datasets in its records; empty in older adapters")
    known_answer: KnownAnswer | None = Field(None, description="None in older adapters, which are not checked")

    @model_validator(mode="after")
    def _check_template(self) -> Note:
        checked(self.template)
        return self

    @property
    def template(self) -> Template:
        """The prompt."""
        return Template(self.prompt, self.system, self.text, self.columns, self.line)

    @property
    def prompt_hash(self) -> str:
        """Hash of everything but the question that a prompt depends on: template, budget and epoch."""
        text = [self.system, self.text, self.columns, self.code_tokens, self.compact_code, self.epoch]
        return digest(text if self.line is None else [*text, self.line])

    @property
    def budget(self) -> Budget:
        """How much of a source is shown, and how questions are computed."""
        return Budget(self.code_tokens, self.compact_code, self.row_tokens)

    def known_facts(self) -> dict[str, DatasetFacts]:
        """Facts about the datasets in its records; LEMUR's for an older adapter, which stores none."""
        return {name: DatasetFacts(**values) for name, values in self.facts.items()} or dict(LEMUR_FACTS)

    def save(self, folder: Path) -> None:
        """Write it to an adapter's folder."""
        write_text(folder / TASK, self.model_dump_json(indent=2) + "\n")


def read_note(folder: Path) -> Note:
    """Read `task.json` in an adapter's folder.

    Raises:
        UserError: if it is missing or damaged.
    """
    return read_adapter_file(folder, TASK, Note)


class AdapterFiles:
    """The small files of an adapter's folder, read and checked; the model is not loaded.

    Attributes:
        note, base, calibration, prior: `task.json`, `nngpt_ext.json`, `calibration.json` and `prior.json` or None.
        weights_sha256: hash of the weights file.
        hash: hash of everything that decides its answers except prompt and calibration: its weights, how they are
            applied (alpha, rank, targets, …), the base model (its weights, and what `models.identity` compares
            beside them), and whether that is loaded in 4 bits.

    Raises:
        UserError: for a folder without an adapter, and for each file that is damaged or not the one that was written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        if not (folder / SETTINGS).is_file() or not (folder / WEIGHTS).is_file():
            raise no_adapter(folder)
        self.base = read_base_note(folder)
        check_adapter(folder, self.base.files)
        self.note, self.calibration = read_note(folder), read_calibration(folder)
        self.prior = None if self.note.offset == "none" else read_prior(folder)
        self.weights_sha256 = self.base.files.get(WEIGHTS) or file_digest(folder / WEIGHTS)
        applied = {
            name: sorted(value, key=str) if isinstance(value, list) else value  # PEFT makes its lists from sets
            for name, value in read_adapter_file(folder, SETTINGS, dict[str, Any]).items()
            if name not in _IDLE and value is not None
        }
        # An older adapter, which has neither, keeps its hash, and with it its answers in a store.
        more = [part for part in (self.prior and self.prior.hash, self.base.base_identity) if part]
        self.hash = digest([self.weights_sha256, applied, self.base.base_sha256, self.base.load_in_4bit, *more])

    def unseen(self, datasets: Iterable[str]) -> tuple[str, ...]:
        """The given datasets that the adapter was not trained on."""
        return tuple(name for name in datasets if name not in self.note.datasets)

    def probability(self, log_odds: float) -> float:
        """Probability of the first dataset, calibrated if there is a calibration."""
        return float(expit(log_odds) if self.calibration is None else self.calibration.probability(log_odds))

    def abstains(self, log_odds: float, datasets: Iterable[str]) -> bool:
        """Whether an answer abstains, because a dataset is unseen or the confidence is below the threshold."""
        below = self.calibration is None or self.calibration.abstains(self.probability(log_odds))
        return bool(below) or bool(self.unseen(datasets))

    def check_run(self, folder: Path) -> None:
        """Check that the adapter is the one that the finished run in `folder` wrote.

        Raises:
            UserError: if its files differ, or the run's record is missing or damaged.
        """
        # That file has the hashes of the adapter's others, which were checked.
        record = read_record(folder, ("adapter_sha256",), checked=[f"{ADAPTER}/{BASE_FILE}"])
        known = str(record["adapter_sha256"])
        if known != self.weights_sha256:
            raise UserError(
                f"'{self.folder / WEIGHTS}' is not what the run wrote (sha256 {self.weights_sha256[:12]}…, its "
                f"{RECORD} has {known[:12]}…); run the task again, or give the adapter's folder, not the run's"
            )

    @property
    def model(self) -> str:
        """Which model answers: base model and the first digits of the adapter's hash."""
        return f"{self.base.base_model}+{self.hash[:12]}"

    @property
    def base_place(self) -> str:
        """Where the base model is: in the adapter's folder, or where the run found it."""
        beside = self.folder / BASE_FOLDER
        return str(beside) if (beside / "config.json").is_file() else self.base.base_model

    def question_key(self, source: str, filled: str) -> str:
        """A question's key in the store, from the sha256 of its source and of the filled prompt without the source."""
        return digest([source, filled, self.note.prompt_hash, self.hash, self.calibration_hash])

    @property
    def calibration_hash(self) -> str:
        """The calibration's hash; empty without calibration."""
        return self.calibration.hash if self.calibration else ""


def load_scorer(files: AdapterFiles, base: str, facts: Mapping[str, DatasetFacts]) -> LocalScorer:
    """Load the base model with the adapter, and check the answer to its control question.

    Later questions may be about the datasets in `facts`.

    Raises:
        UserError: for an unreachable or a different base, a damaged adapter, and a different answer to the control
            question than when the adapter was written.
    """
    without_widgets()
    loaded = load_base(base, load_in_4bit=files.base.load_in_4bit)
    check_base(files.folder, loaded)
    try:
        model = with_trained_adapter(loaded, files.folder)
    except UserError:
        raise
    except Exception as error:  # safetensors, PEFT and torch raise many types
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"the adapter in '{files.folder}' is damaged ({type(error).__name__}: {reason}); fetch or train it again"
        ) from None
    known = files.note.known_answer
    if known is not None:
        found = known.ask(model, loaded, files.note)
        if not known.is_answered_by(found, loaded):
            now, then = (", ".join(f"{value:.6g}" for value in values) for values in (found, known.log_odds))
            raise UserError(
                f"the adapter in '{files.folder}' answers its control question with log-odds {now}; when it was "
                f"written ({known.device}, {known.dtype}) they were {then}: its files or the loaded model are damaged; "
                "restart Python, and if that does not help, fetch or train the adapter again"
            )
    return LocalScorer(loaded, files.note.template, files.note.budget, facts, model, files.prior)
