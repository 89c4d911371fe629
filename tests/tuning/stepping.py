"""One optimiser step of a trainer, and the same gradients computed by hand, one item at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.engine import checked_engine
from nngpt_ext.batches.rows import Group
from nngpt_ext.config import DecidedConfig
from nngpt_ext.models.base import Base, quiet_transformers
from nngpt_ext.tuning.plan import make_plan
from nngpt_ext.tuning.trainer import AnswerTrainer

Stepped = tuple[float, torch.Tensor]  # the loss, and all gradients in one vector


class Stepping:
    """Takes one step with a model over a base, all of whose trained weights are random.

    Args:
        groups: the training examples of each network, which are one step.
        asked: the examples with which the engine is checked.
        n_examples: how many the step has.
        settings: of a run, from changes of `tuning`.
    """

    def __init__(
        self, base: Base, model: Any, groups: Sequence[Group], asked: Sequence[Example], n_examples: int,
        settings: Callable[..., DecidedConfig], folder: Path,
    ) -> None:  # fmt: skip
        self.base, self.model, self.groups = base, model, groups
        self._asked, self._n_examples, self._settings, self._folder = asked, n_examples, settings, folder
        for name, parameter in model.named_parameters():
            if "lora_B" in name or ".score." in name:  # zeros at first: every gradient of an A would be zero
                torch.nn.init.normal_(parameter, std=0.05)

    def __call__(self, **changes: Any) -> Stepped:
        settings = self._settings(**changes)
        engine = settings.tuning.engine
        assert checked_engine(self.base.model, self._asked, 0, engine) == engine
        plan = make_plan(self.groups, settings)
        assert len(plan.steps) == 1
        with quiet_transformers():
            made = AnswerTrainer(self.base, self.model, self.groups, plan, settings, self._folder)
        for parameter in self.model.parameters():
            parameter.grad = None
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        loss = float(made.training_step(self.model, {"step": 0}))
        assert made.n_examples == self._n_examples
        return loss, torch.cat([p.grad.flatten() for p in self.model.parameters() if p.requires_grad])


def mean_by_hand(model: Any, items: Iterable[Any], loss_of: Callable[[Any], torch.Tensor]) -> Stepped:
    """The mean over items of a loss, and its gradients."""
    trained, every = [p for p in model.parameters() if p.requires_grad], list(items)
    total, losses = [torch.zeros_like(p) for p in trained], []
    for item in every:
        loss = loss_of(item)
        losses.append(loss.item())
        for one, gradient in zip(total, torch.autograd.grad(loss, trained), strict=True):
            one += gradient / len(every)
    return sum(losses) / len(losses), torch.cat([one.flatten() for one in total])


def relative(one: torch.Tensor, other: torch.Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()
