"""One optimiser step: the same gradients whatever the engine, the rows, checkpointing, or the device's memory."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from nngpt_ext.batches.encode import Example, training_example
from nngpt_ext.batches.engine import ENGINES, checked_engine
from nngpt_ext.batches.tensors import answer_log_probs, plain_batch
from nngpt_ext.config import DecidedConfig, ResolvedLora, TaskConfig
from nngpt_ext.models.base import Base
from nngpt_ext.tuning import trainer as training
from nngpt_ext.tuning.history import Validation
from nngpt_ext.tuning.lora import with_adapter
from nngpt_ext.tuning.trainer import train
from tests import models_made
from tests.batches.asked import encoded
from tests.tuning.stepping import Stepping, mean_by_hand, relative

LORA = ResolvedLora(r=4, alpha=8, dropout=0.0)


def config(dropout: float = 0.0, **changes: Any) -> DecidedConfig:
    """Settings of two epochs with a small adapter; changes are of `tuning`."""
    tuning = {
        "epochs": 2, "learning_rate": 1e-3, "examples_per_step": 100, "warmup": 0.0, "gradient_checkpointing": False,
        **changes,
    }  # fmt: skip
    lora = {"r": LORA.r, "alpha": LORA.alpha, "dropout": dropout}
    return TaskConfig.model_validate({"model": {"lora": lora}, "tuning": tuning}).resolved(Path()).decided()


UNMEASURED = Validation(lambda _: {"accuracy": 0.5, "log_loss": 0.7, "prior_accuracy": 0.5})


def groups_of(base: Base) -> list[list[Example]]:
    """Three networks of unequal length and number of questions."""
    asked = [encoded(base, nn, pairs, "recipe") for nn, pairs in (("AlexNet", 3), ("VGG", 1), ("ResNet", 6))]
    return [[training_example(one, i % 3 == 0) for i, one in enumerate(group)] for group in asked]


@pytest.fixture(params=[False, True], ids=["fp32", "nf4"])
def base(request: pytest.FixtureRequest) -> Base:
    return models_made.base("llama", load_in_4bit=request.param)


@pytest.fixture
def stepped(base: Base, tmp_path: Path) -> Iterator[Stepping]:
    """Takes a step with a random adapter."""
    torch.manual_seed(0)
    groups = groups_of(base)
    with with_adapter(base, LORA) as model:
        yield Stepping(base, model, groups, groups[0], 20, partial(config, epochs=1), tmp_path)


def by_hand(model: Any, groups: list[list[Example]]) -> tuple[float, torch.Tensor]:
    """The mean over examples of the sum over an answer's tokens, one example at a time."""
    examples = [example for group in groups for example in group]
    return mean_by_hand(model, examples, lambda one: -answer_log_probs(model, plain_batch([one], 0)).sum())


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("row_tokens", [64, 300, 4096])
def test_the_loss_is_a_mean_over_examples(stepped: Stepping, engine: str, row_tokens: int) -> None:
    loss, gradient = stepped(engine=engine, row_tokens=row_tokens)
    right, expected = by_hand(stepped.model, stepped.groups)
    assert loss == pytest.approx(right, rel=1e-5)
    assert relative(gradient, expected) <= 1e-5


def test_gradient_checkpointing_changes_nothing(stepped: Stepping) -> None:
    without = stepped()[1]
    assert relative(stepped(gradient_checkpointing=True)[1], without) <= 1e-5


@pytest.mark.parametrize("engine", ["shared", "plain"])
def test_out_of_memory_halves_the_rows(stepped: Stepping, engine: str, monkeypatch: Any, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger="nngpt_ext")
    expected = stepped(engine=engine)
    sizes = []

    class Full(torch.autograd.Function):
        """Runs out of memory backwards, when some gradients are computed already."""

        @staticmethod
        def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
            return x.clone()

        @staticmethod
        def backward(ctx: Any, _: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
            raise torch.OutOfMemoryError

    def short(model: Any, batch: Any) -> torch.Tensor:
        sizes.append(batch.n_answers)
        scores = answer_log_probs(model, batch)
        return Full.apply(scores) if batch.n_answers > 6 else scores

    monkeypatch.setattr(training, "answer_log_probs", short)
    loss, gradient = stepped(engine=engine)
    assert max(sizes) > 6
    assert loss == pytest.approx(expected[0], rel=1e-5)
    assert relative(gradient, expected[1]) <= 1e-5
    lines = [m for m in caplog.messages if m.startswith("out of memory: continuing with")]
    assert 1 <= len(lines) <= 3
    assert len(set(lines)) == len(lines)


def test_one_example_that_does_not_fit_is_a_fault(stepped: Stepping, monkeypatch: Any) -> None:
    def never(model: Any, batch: Any) -> torch.Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(training, "answer_log_probs", never)
    with pytest.raises(torch.OutOfMemoryError):
        stepped()


@pytest.mark.parametrize("checkpointing", [False, True])
def test_engines_train_alike(base: Base, tmp_path: Path, checkpointing: bool) -> None:
    groups = groups_of(base)
    losses, weights = {}, {}
    for engine in ENGINES:
        settings = config(engine=engine, examples_per_step=8, gradient_checkpointing=checkpointing)
        checked_engine(base.model, groups[0], 0, engine)
        folder = tmp_path / engine
        history = train(base, groups, UNMEASURED, settings, folder / "checkpoints")
        losses[engine] = [entry["train_loss"] for entry in history]
        file = folder / "checkpoints" / history[-1]["checkpoint"] / "adapter_model.safetensors"
        weights[engine] = torch.cat([w.flatten() for _, w in sorted(load_file(file).items())])
    for engine in ("shared", "masked"):
        assert losses[engine] == pytest.approx(losses["plain"], rel=1e-4)
        assert relative(weights[engine], weights["plain"]) < 1e-2  # Adam divides rounding by rounding
