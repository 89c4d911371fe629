"""The embedded model's card."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def card(
    size: str, parameters: int, used: int, found: int, stages: Sequence[Any], state: dict[str, Any], device: str
) -> str:
    """The card as Markdown: data, tokens, time, curve, skills, and what the model is not."""
    lines: list[str] = []
    for stage in stages:
        curve = [entry[1:] for entry in state["curve"] if entry[0] == stage.name]
        picked = sorted({round(k * (len(curve) - 1) / 4) for k in range(5)}) if curve else []
        lines += [f"| {stage.name} | {curve[i][0]:,} | {curve[i][1]:.3f} |" for i in picked]
    skills = [
        f"| {name} | " + " | ".join(f"{value:.3f}" for value in figures.values()) + " |"
        for name, figures in state["skills"]
    ]
    kinds = list(state["skills"][-1][1]) if state["skills"] else []
    curve_table, skill_table = "\n".join(lines), "\n".join(skills)
    return f"""---
license: mit
library_name: transformers
pipeline_tag: text-generation
---
# The embedded base model of nngpt_ext: `{size}`

A Llama of {parameters:,} parameters with its own byte-level BPE tokenizer, trained from scratch, so that the task
`dataset_compare` runs where there is neither a model hub nor a GPU.

- **Data**: {used:,} PyTorch sources of LEMUR (nn-dataset 2.1.2, MIT), chosen from the {found:,} that are in no
  pair at any epoch by leaving out near-duplicates (`corpus.json` holds the first 16 hex digits of their sha256),
  and questions made up at random in the wording of the built-in prompts: which of two decimals is larger, which
  recipe has the larger value, which recipe suits its dataset better by rules that were invented for the purpose
  (`Landscape`; they are not LEMUR's). No accuracy of LEMUR was in its training.
- **Training**: {state["tokens"] / 1e6:.1f} M tokens in {state["seconds"] / 60:.0f} minutes ({device}):
  `python -m nngpt_ext.models.build_embedded --size {size}`. Sources first, then questions with the loss on the
  answers only: bare ones, then whole prompts behind a source.
- **What it is not**: a language model to talk to or to write code with. It is a start for fine-tuning on this task.
  What it says of a dataset before fine-tuning is invented.

| stage | step | training loss |
|---|---|---|
{curve_table}

Share of fresh made-up questions answered rightly after each stage (`code_only` has no right answer: half is all):

| stage | {" | ".join(kinds)} |
|---|{"---|" * len(kinds)}
{skill_table}
"""
