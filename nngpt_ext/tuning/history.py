"""The epochs of a training: how each is validated, which one is selected, and from which one training continues."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat
from pydantic_core import from_json

from nngpt_ext.errors import UserError
from nngpt_ext.io import file_digest
from nngpt_ext.run_folder import CHECKPOINTS, HISTORY, SETTINGS, WEIGHTS

log = logging.getLogger(__name__)

ADAPTER_FILES = (SETTINGS, WEIGHTS)
_STATE_FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")

OnEpoch = Callable[[Sequence[Mapping[str, Any]]], None]


@dataclass(frozen=True)
class Validation:
    """What a fine-tuner learns about the validation pairs: a model's figures on them, nothing more.

    Attributes:
        score: returns a model's `accuracy` and `log_loss` and, on the same pairs, the pair prior's `prior_accuracy` and
            `prior_log_loss` (losses in nats).
        on_epoch: the user's function, which `epoch_ended` calls.
    """

    score: Callable[[Any], dict[str, float]]
    on_epoch: OnEpoch | None = None

    def epoch_ended(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Report to the user that a tuning epoch is over.

        Args:
            history: an entry for each epoch so far, with `epoch`, `train_loss`, and each figure of `score` as
                `validation_<figure>`.
        """
        try:
            if self.on_epoch is not None:
                self.on_epoch(history)
        except Exception:  # a plot that fails must not end a training
            log.warning("on_epoch failed; training continues", exc_info=True)


def select_epoch(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The epoch with the highest validation accuracy; among equals the lowest log loss, then the earliest."""
    return min(history, key=lambda e: (-e["validation_accuracy"], e["validation_log_loss"], e["epoch"]))


class _Entry(BaseModel):
    """The values of an epoch's entry that scoring and resuming depend on; there are more."""

    model_config = ConfigDict(strict=True)

    epoch: int
    step: int
    checkpoint: str
    examples: int
    train_loss: float
    validation_accuracy: float = Field(ge=0.0, le=1.0)
    validation_log_loss: FiniteFloat
    files: dict[str, str] = {}  # a plugin may leave it out; training does not continue without it


def read_history(output_dir: Path) -> list[dict[str, Any]]:
    """One entry an epoch: epoch, step, checkpoint, train_loss, validation_accuracy, validation_log_loss, seconds, …

    `files` has the sha256 of each file of the checkpoint. If the file is damaged, a warning is logged and the entries
    before the damage are returned.

    Raises:
        UserError: if the file cannot be read.
    """
    file = output_dir / CHECKPOINTS / HISTORY
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read '{file}': {error}") from None
    entries: list[dict[str, Any]] = []
    try:
        for entry in from_json(text, allow_partial=True):
            _Entry.model_validate(entry)
            entries.append(entry)
        from_json(text)  # raises if it is cut behind whole entries
    except (TypeError, ValueError):
        log.warning("'%s' is damaged from epoch %d on; its later entries are ignored", file, len(entries) + 1)
    return entries


def checkpoint_files(checkpoint: Path) -> dict[str, str]:
    """The sha256 of each file of a checkpoint, for its entry's `files`."""
    return {file.name: file_digest(file) for file in sorted(checkpoint.iterdir()) if file.is_file()}


def usable_entries(
    history: Iterable[dict[str, Any]], checkpoints: Path, epoch_ends: Sequence[int]
) -> list[dict[str, Any]]:
    """The entries up to the last one from which training can continue; a line is logged for each that is dropped.

    Earlier epochs are only scored, so their adapters must be undamaged. Training continues from the last one, whose
    files must all be undamaged unless it ends the training.

    Args:
        history: of the training so far.
        checkpoints: the folder of the checkpoints.
        epoch_ends: the number of steps after which each epoch ends.
    """
    usable: list[dict[str, Any]] = []
    for number, (entry, step) in enumerate(zip(history, epoch_ends, strict=False), 1):
        if (entry["epoch"], entry["step"], entry["checkpoint"]) != (number, step, f"checkpoint-{step}"):
            fault: str | None = f"'{checkpoints / HISTORY}' has an entry of another training"
        else:
            fault = _fault(entry, checkpoints, ADAPTER_FILES)
        if fault is not None:
            _dropped(number, fault)
            break
        usable.append(entry)
    while 0 < len(usable) < len(epoch_ends):
        fault = _fault(usable[-1], checkpoints, [*ADAPTER_FILES, *_STATE_FILES, *usable[-1].get("files", ())])
        if fault is None:
            break
        _dropped(len(usable), fault)
        usable.pop()
    return usable


def _dropped(epoch: int, fault: str) -> None:
    log.warning("%s: training is repeated from epoch %d on", fault, epoch)


def _fault(entry: dict[str, Any], checkpoints: Path, names: Iterable[str]) -> str | None:
    """The first of these files of a checkpoint that is missing or was changed, as a phrase, or None."""
    for name in names:
        file = checkpoints / entry["checkpoint"] / name
        if not file.is_file():
            return f"'{file}' is missing"
        if "files" not in entry:
            return f"'{checkpoints / HISTORY}' has no hash of '{file}', because an older version wrote it"
        if file_digest(file) != entry["files"].get(name):
            return f"'{file}' is damaged"
    return None
