"""What became of each epoch, and which is kept."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HISTORY = "history.json"


def select_epoch(history: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The epoch with the highest validation accuracy; among equals the lowest log loss, then the earliest."""
    return min(history, key=lambda e: (-e["validation_accuracy"], e["validation_log_loss"], e["epoch"]))


def read_history(output_dir: Path) -> list[dict[str, Any]]:
    """One entry an epoch: epoch, step, checkpoint, train_loss, validation_accuracy, validation_log_loss, seconds, …"""
    file = output_dir / "checkpoints" / HISTORY
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else []
