"""An adapter's folder: the files beside its weights, and how it is loaded and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.errors import UserError, typed
from nngpt_ext.io import digest, file_digest
from nngpt_ext.models.base import check_base, is_hub_id, load_base, with_trained_adapter
from nngpt_ext.models.identity import read_base_note
from nngpt_ext.models.presets import preset
from nngpt_ext.quiet import without_widgets
from nngpt_ext.run_folder import (
    ADAPTER,
    BASE_FILE,
    BASE_FOLDER,
    BASIS,
    RECORD,
    SETTINGS,
    WEIGHTS,
    check_adapter,
    no_adapter,
    read_adapter_file,
    read_record,
)
from nngpt_ext.scoring.basis import Seen, read_seen
from nngpt_ext.scoring.calibration import read_calibration
from nngpt_ext.scoring.lines import read_prior
from nngpt_ext.scoring.logistic import logistic
from nngpt_ext.scoring.note import read_note
from nngpt_ext.scoring.scorer import LocalScorer

# Keys that PEFT writes to adapter_config.json and that change no answer.
_IDLE = {"base_model_name_or_path", "revision", "peft_version", "inference_mode", "lora_dropout"}


class AdapterFiles:
    """The small files of an adapter's folder, read and checked; the model is not loaded.

    Attributes:
        note, base, calibration, prior: `task.json`, `nngpt_ext.json`, `calibration.json` and `prior.json` or None.
        kinds: `basis.json` if answers depend on it: it tells the kind of a network for a kind prior; else None.
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
        self.kinds = read_adapter_file(folder, BASIS, Seen) if self.note.offset == "kind_prior" else None
        self.weights_sha256 = self.base.files.get(WEIGHTS) or file_digest(folder / WEIGHTS)
        applied = {
            name: sorted(value, key=str) if isinstance(value, list) else value  # PEFT makes its lists from sets
            for name, value in read_adapter_file(folder, SETTINGS, dict[str, Any]).items()
            if name not in _IDLE and value is not None
        }
        # An older adapter, which has none of these, keeps its hash, and with it its answers in a store.
        found = (self.prior and self.prior.hash, self.kinds and self.kinds.hash, self.base.base_identity)
        more = [part for part in found if part]
        self.hash = digest([self.weights_sha256, applied, self.base.base_sha256, self.base.load_in_4bit, *more])

    @cached_property
    def seen(self) -> Seen | None:
        """`basis.json`; None for an older adapter."""
        return self.kinds or read_seen(self.folder)

    def unseen(self, datasets: Iterable[str]) -> tuple[str, ...]:
        """The given datasets that it was not trained on; none if it was tested on datasets held out from training."""
        tested = self.calibration is not None and self.calibration.unseen
        return () if tested else tuple(name for name in datasets if name not in self.note.datasets)

    def probability(self, log_odds: float) -> float:
        """Probability of the first dataset, calibrated if there is a calibration."""
        return float(logistic(log_odds) if self.calibration is None else self.calibration.probability(log_odds))

    def abstains(self, log_odds: float, datasets: Iterable[str]) -> bool:
        """Whether an answer abstains, because a dataset is unseen or the confidence is below the threshold."""
        below = self.calibration is None or self.calibration.abstains(self.probability(log_odds))
        return bool(below) or bool(self.unseen(datasets))

    @property
    def why_it_abstains(self) -> str | None:
        """Why every answer abstains; None if not every one does."""
        if self.calibration is None:
            return "the adapter has no calibration: every answer abstains"
        never = f"the adapter never reached {self.calibration.target} on validation: every answer abstains"
        return never if self.calibration.threshold is None else None

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
    location = preset(base).location
    if base == files.base.base_model and not is_hub_id(location) and not Path(location).exists():
        raise UserError(
            f"the adapter in '{files.folder}' was trained on the base model '{base}', which is not there; if it moved, "
            f"give its place: {typed('--base PLACE', 'base=PLACE')}"
        )
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
    kind_of = None if files.kinds is None else files.kinds.kind_of
    return LocalScorer(loaded, files.note.template, files.note.budget, facts, model, files.prior, kind_of)
