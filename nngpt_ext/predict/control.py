"""A known-answer test of an adapter: one fixed question, and what came out when the adapter was written.

Weights that were loaded wrongly, or changed since, answer everything without a sign of it. An adapter therefore
carries one question with its answer, and answers nothing before the question comes out as it did.
"""

from __future__ import annotations

from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.prompts.fields import Question
from nngpt_ext.scoring.scorer import LocalScorer

if TYPE_CHECKING:
    from nngpt_ext.models.base import Base
    from nngpt_ext.predict.adapter import Note

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
# Absolute, and relative to the known log-odds. On the same kind of device fp32 sums differ by 1e-5, with the number
# of threads or the CPU. bf16 has 8 bits: a summed log-probability may differ by 0.3 from one card or version of a
# kernel to the next (nngpt_ext.batches.engine.TOLERANCE), and log-odds are the difference of two. Other devices
# also round other weights to 4 bits.
SAME, OTHER = (1e-3, 1e-3), (0.6, 0.1)


class KnownAnswer(BaseModel):
    """The question, whole, so that it is the same in every version of the package; and its answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    source: str
    datasets: tuple[str, str]
    facts: dict[str, tuple[int, int, int, int]] = Field(description="as they were: a predictor may be given others")
    recipe: dict[str, Any]
    accuracies: tuple[float, float]
    log_odds: tuple[float, float] = Field(description="of the first dataset, in each order of the names")
    device: str = Field(description="the kind of device that computed it")
    dtype: str = Field(description="what it computed in")

    def ask(self, model: Any, base: Base, note: Note) -> np.ndarray:
        """The log-odds that come out now, shape (2,)."""
        facts = {name: DatasetFacts(*values) for name, values in self.facts.items()}
        # The plain engine: no other depends on the model, the device and the questions asked before.
        scorer = LocalScorer(base, note.template, replace(note.budget, engine="plain"), facts, model)
        question = Question.of(
            "network", *self.datasets, note.epoch, norm_acc=self.accuracies, recipe=(self.recipe, self.recipe)
        )
        odds: np.ndarray = scorer.log_odds([question], {"network": self.source})[0]
        return odds

    def is_answered_by(self, log_odds: np.ndarray, base: Base) -> bool:
        """Whether these log-odds, computed by this base model, are the known ones but for rounding."""
        same = (self.device, self.dtype) == _place(base) and self.dtype == "float32"
        absolute, relative = SAME if same else OTHER
        return bool(np.allclose(log_odds, self.log_odds, rtol=relative, atol=absolute))


def known_answer(model: Any, base: Base, note: Note) -> KnownAnswer:
    """The fixed question about an adapter's first two datasets, and its answer.

    Args:
        model: the base model with the adapter, which has just been written.
        base: the base model.
        note: what stands beside the adapter.
    """
    one, two = sorted(note.datasets)[:2]
    known = note.known_facts()
    device, dtype = _place(base)
    asked = KnownAnswer(
        source=SOURCE, datasets=(one, two), facts={name: astuple(known[name]) for name in (one, two) if name in known},
        recipe=RECIPE, accuracies=ACCURACIES, log_odds=(0.0, 0.0), device=device, dtype=dtype,
    )  # fmt: skip
    found = asked.ask(model, base, note).tolist()
    return KnownAnswer.model_validate(asked.model_dump() | {"log_odds": found})


def _place(base: Base) -> tuple[str, str]:
    """The kind of device that a base model is on, and the type that it computes in."""
    return base.device.type, str(base.model.dtype).removeprefix("torch.")
