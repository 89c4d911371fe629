"""The task `dataset_compare`: on which of two datasets does a network reach the higher accuracy?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import setting
from nngpt_ext.registry import register_task
from nngpt_ext.tasks.protocol import RunResult
from nngpt_ext.tuning.history import OnEpoch
from nngpt_ext.tuning.ranks import one_process, size

if TYPE_CHECKING:
    from nngpt_ext.evaluation.report import Report


@register_task("dataset_compare")
class DatasetCompare:
    """Fine-tune a base model on LEMUR's pairs and report how well it answers.

    Listing tasks imports this module, so `run` imports everything heavy.
    """

    name = "dataset_compare"
    Config = TaskConfig

    def run(
        self, config: TaskConfig, output_dir: Path, resume: bool = False, on_epoch: OnEpoch | None = None
    ) -> RunResult[Report]:
        """Run all stages from records to report, for each fold of a split with folds; a finished run is returned."""
        if size() == 1:
            one_process("run_task", "type: torchrun --nproc-per-node N -m nngpt_ext run dataset_compare …")
        if config.data.all_folds:
            from nngpt_ext.tasks.folds import run_folds

            one_process("a run of all folds", f"give each one fold, such as {setting('data.fold', '0')}")
            return run_folds(config, Path(output_dir), resume, on_epoch)
        from nngpt_ext.tasks.pipeline import run_pipeline

        return run_pipeline(config, Path(output_dir), resume, on_epoch=on_epoch)
