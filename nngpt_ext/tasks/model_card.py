"""The model card beside an adapter."""

from __future__ import annotations

from nngpt_ext.config import TaskConfig
from nngpt_ext.evaluation.report import Report


def model_card(report: Report, config: TaskConfig) -> str:
    """Markdown with what the adapter answers, how it was trained and how well it does."""
    low, high = report.accuracy.ci95
    skill_low, skill_high = report.skill.ci95
    lora = config.model.lora
    return f"""---
base_model: {config.model.base}
library_name: peft
tags: [nngpt_ext, dataset_compare]
---
# {report.task}: {report.prompt}

A LoRA adapter (PEFT) for `{config.model.base}`. It reads a network's PyTorch source and names the one of two
image-classification datasets on which the network reaches the higher normalised accuracy.

- Trained on draws from {report.n_train_pairs:,} pairs of LEMUR, split `{report.split}`, prompt `{report.prompt}`,
  rank {lora.r}, alpha {lora.alpha}, dropout {lora.dropout}, learning rate {config.tuning.learning_rate},
  epoch {report.selected_epoch} of {config.tuning.epochs} by validation.
- Test accuracy {report.accuracy.value:.3f} (95 % interval over networks {low:.3f} to {high:.3f}) on
  {report.n_test_pairs:,} pairs of {report.n_test_networks:,} networks. The pair prior, which never sees the network,
  scores {report.baselines["pair_prior"].accuracy:.3f} there: skill {report.skill.value:+.3f}
  ({skill_low:+.3f} to {skill_high:+.3f}).

`nngpt_ext.json` holds the sha256 of the base model that it belongs to; on another base it means nothing.
"""
