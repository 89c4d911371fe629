"""The fine-tuner `qlora`: LoRA on a 4-bit base, through TRL's SFTTrainer and PEFT.

Its entry point imports this module, so `fit` imports torch and the libraries on it.
"""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nngpt_ext.config import DecidedConfig
from nngpt_ext.errors import UserError
from nngpt_ext.io import inside, replacing_folder, write_text
from nngpt_ext.registry import register_finetuner
from nngpt_ext.run_folder import ADAPTER, BASE_FILE, CHECKPOINTS
from nngpt_ext.tuning.history import ADAPTER_FILES, Validation, select_epoch
from nngpt_ext.tuning.ranks import of_first

if TYPE_CHECKING:
    from nngpt_ext.batches.rows import Group
    from nngpt_ext.models.base import Base

log = logging.getLogger(__name__)


@register_finetuner("qlora")
def fit(
    base: Base,
    examples: Sequence[Group],
    validation: Validation,
    config: DecidedConfig,
    output_dir: Path,
) -> Path:
    """Train an adapter and select the epoch that is best on validation.

    Args:
        base: a frozen base model.
        examples: a network's training examples: answers, the two orders of a pair next to each other, or, with
            `tuning.head` lines, pairs of lines.
        validation: scores the model after each epoch.
        config: of the run, with `tuning.engine` and `tuning.gradient_checkpointing` decided for this base.
        output_dir: the run's folder, for `checkpoints/checkpoint-<step>/` (one an epoch), `checkpoints/history.json`
            and `adapter/`. Training continues from the checkpoints that are there.

    Returns:
        The adapter's folder, in PEFT's layout.

    Raises:
        UserError: if there are no examples, or a link leads out of `output_dir`.
    """
    from nngpt_ext.tuning.trainer import train

    if not examples:
        raise UserError("the split leaves no training pairs; use more networks or another split")
    checkpoints, adapter = inside(output_dir, CHECKPOINTS), inside(output_dir, ADAPTER)
    checkpoints.mkdir(parents=True, exist_ok=True)
    history = train(base, examples, validation, config, checkpoints)
    best = select_epoch(history)
    log.info("epoch %d of %d is best on validation", best["epoch"], len(history))
    of_first(lambda: _write_adapter(adapter, checkpoints / best["checkpoint"], base))
    return adapter


def _write_adapter(adapter: Path, checkpoint: Path, base: Base) -> None:
    with replacing_folder(adapter) as folder:
        for file in checkpoint.iterdir():
            if file.name in ADAPTER_FILES:
                shutil.copy2(file, folder / file.name)
        base.tokenizer.save_pretrained(folder)
        write_base_note(folder, base)


def write_base_note(folder: Path, base: Base) -> None:
    """Record beside an adapter which base it belongs to."""
    note = {
        "base_model": base.name, "base_sha256": base.sha256, "base_identity": dict(base.identity),
        "load_in_4bit": base.load_in_4bit,
    }  # fmt: skip
    write_text(folder / BASE_FILE, json.dumps(note, indent=2) + "\n")
