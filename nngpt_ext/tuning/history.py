"""The epochs of a training: how each is validated, which one is kept, and from which one training can go on."""

from __future__ import annotations

import json
import logging
import math
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.io import file_digest
from nngpt_ext.run_folder import CHECKPOINTS, HISTORY, SETTINGS, WEIGHTS

log = logging.getLogger(__name__)

ADAPTER_FILES = (SETTINGS, WEIGHTS)
_STATE_FILES = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
_TYPES: dict[str, tuple[type, ...]] = {
    "epoch": (int,), "step": (int,), "checkpoint": (str,), "examples": (int,), "train_loss": (int, float),
    "validation_accuracy": (int, float), "validation_log_loss": (int, float),
}  # fmt: skip


OnEpoch = Callable[[Sequence[Mapping[str, Any]]], None]


@dataclass(frozen=True)
class Validation:
    """How a fine-tuner sees the validation pairs: as figures of a model, nothing more.

    Attributes:
        score: gives a model's `accuracy` and `log_loss` and, on the same pairs, the pair prior's `prior_accuracy` and
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
        except Exception:  # a plot that fails is no reason to lose a training
            log.warning("on_epoch failed; training goes on", exc_info=True)


def select_epoch(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The epoch with the highest validation accuracy; among equals the lowest log loss, then the earliest."""
    return min(history, key=lambda e: (-e["validation_accuracy"], e["validation_log_loss"], e["epoch"]))


def read_history(output_dir: Path) -> list[dict[str, Any]]:
    """One entry an epoch: epoch, step, checkpoint, train_loss, validation_accuracy, validation_log_loss, seconds, …

    `files` holds the sha256 of each file of the checkpoint. Of a damaged file the entries before the damage are
    returned, and a line is logged.

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
        start = text.find("{")
        while start >= 0:
            entry, end = json.JSONDecoder().raw_decode(text, start)
            if not _is_entry(entry):
                break
            entries.append(entry)
            start = text.find("{", end)
        content = json.loads(text)
        whole = isinstance(content, list) and len(content) == len(entries)
    except (ValueError, RecursionError):
        whole = False
    if not whole:
        log.warning("'%s' is damaged from epoch %d on; its later entries are ignored", file, len(entries) + 1)
    return entries


def _is_entry(found: dict[str, Any]) -> bool:
    if not all(isinstance(found.get(name), kind) for name, kind in _TYPES.items()):
        return False
    if not (0.0 <= found["validation_accuracy"] <= 1.0 and math.isfinite(found["validation_log_loss"])):
        return False
    files = found.get("files", {})
    return isinstance(files, dict) and all(isinstance(digest, str) for digest in files.values())


def checkpoint_files(checkpoint: Path) -> dict[str, str]:
    """The sha256 of each file of a checkpoint, for its entry's `files`."""
    return {file.name: file_digest(file) for file in sorted(checkpoint.iterdir()) if file.is_file()}


def usable_entries(
    history: Iterable[dict[str, Any]], checkpoints: Path, epoch_ends: Sequence[int]
) -> list[dict[str, Any]]:
    """The entries up to the last from which training can go on; a line is logged for each that is dropped.

    Earlier epochs are only scored, so their adapters must be whole. Training goes on from the last one, unless it is
    the last of all: every file of it must be whole.

    Args:
        history: of the training so far.
        checkpoints: the folder of the checkpoints.
        epoch_ends: the number of steps after which each epoch ends.
    """
    kept: list[dict[str, Any]] = []
    for number, (entry, step) in enumerate(zip(history, epoch_ends, strict=False), 1):
        if (entry["epoch"], entry["step"], entry["checkpoint"]) != (number, step, f"checkpoint-{step}"):
            fault: str | None = f"'{checkpoints / HISTORY}' has an entry of another training"
        else:
            fault = _fault(entry, checkpoints, ADAPTER_FILES)
        if fault is not None:
            _dropped(number, fault)
            break
        kept.append(entry)
    while 0 < len(kept) < len(epoch_ends):
        fault = _fault(kept[-1], checkpoints, [*ADAPTER_FILES, *_STATE_FILES, *kept[-1].get("files", ())])
        if fault is None:
            break
        _dropped(len(kept), fault)
        kept.pop()
    return kept


def _dropped(epoch: int, fault: str) -> None:
    log.warning("%s: training is repeated from epoch %d on", fault, epoch)


def _fault(entry: dict[str, Any], checkpoints: Path, names: Iterable[str]) -> str | None:
    """The first of these files of a checkpoint that is not as it was written, or None."""
    digests = entry.get("files")
    for name in names:
        file = checkpoints / entry["checkpoint"] / name
        if not file.is_file():
            return f"'{file}' is missing"
        try:
            whole = _is_readable(file) if digests is None else file_digest(file) == digests.get(name)
        except OSError:
            whole = False
        if not whole:
            return f"'{file}' is damaged"
    return None


def _is_readable(file: Path) -> bool:
    """Whether a file can be read to its end; for checkpoints of a version that wrote no hashes."""
    from safetensors import SafetensorError, safe_open

    try:
        if file.suffix == ".json":
            return isinstance(json.loads(file.read_bytes()), dict)
        if file.suffix == ".safetensors":
            with safe_open(file, framework="np"):
                return True
        with zipfile.ZipFile(file) as parts:  # as torch.save writes it
            return parts.testzip() is None
    except (OSError, ValueError, zipfile.BadZipFile, SafetensorError):
        return False
