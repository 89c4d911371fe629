"""One optimiser step on pairs of lines: the gradients of the Bradley–Terry loss, whatever the engine and the rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from nngpt_ext.batches.encode import LinePair
from nngpt_ext.batches.engine import ENGINES, checked_engine
from nngpt_ext.batches.rows import distinct, halves, pack, tokens_of
from nngpt_ext.batches.tensors import line_scores, plain_batch
from nngpt_ext.models.base import Base
from nngpt_ext.scoring.lines import Prior, encode_lines, line_pairs
from nngpt_ext.tuning import trainer as training
from nngpt_ext.tuning.history import checkpoint_files
from nngpt_ext.tuning.lora import with_adapter
from nngpt_ext.tuning.trainer import train
from tests import models_made
from tests.batches.asked import encoder, questions
from tests.tuning.stepping import Stepping, mean_by_hand, relative
from tests.tuning.test_trainer import LORA, UNMEASURED, config

PRIOR = Prior(log_odds={"celeba-gender": {"cifar-10": 1.5, "cifar-100": -0.75}})


def groups_of(base: Base) -> list[list[LinePair]]:
    """Three networks with 21, 1 and 6 pairs."""
    asked = [q for nn, n in (("AlexNet", 21), ("VGG", 1), ("ResNet", 6)) for q in questions(nn, n)[::2]]
    encoded = encode_lines(encoder(base, lines=True), asked, PRIOR)
    return line_pairs(encoded, np.arange(len(asked)) % 3 == 0)


@pytest.fixture(params=[False, True], ids=["fp32", "nf4"])
def base(request: pytest.FixtureRequest) -> Base:
    return models_made.base("llama", load_in_4bit=request.param)


@pytest.fixture
def stepped(base: Base, tmp_path: Path) -> Iterator[Stepping]:
    """Takes a step with a random adapter and head."""
    torch.manual_seed(0)
    groups, settings = groups_of(base), partial(config, epochs=1, head="lines", offset="pair_prior")
    with with_adapter(base, LORA, "lines") as model:
        yield Stepping(base, model, groups, distinct(groups[0]), 28, settings, tmp_path)


def by_hand(model: Any, groups: list[list[LinePair]]) -> tuple[float, torch.Tensor]:
    """The mean over pairs of −log of the logistic of offset and difference, one line at a time."""

    def loss(pair: LinePair) -> torch.Tensor:
        better, worse = (line_scores(model, plain_batch([line], 0))[0] for line in pair.parts)
        return torch.log(1 + torch.exp(-(pair.offset + better - worse)))

    return mean_by_hand(model, [pair for group in groups for pair in group], loss)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("row_tokens", [64, 300, 4096])
def test_the_loss_is_a_mean_over_pairs(stepped: Stepping, engine: str, row_tokens: int) -> None:
    loss, gradient = stepped(engine=engine, row_tokens=row_tokens)
    right, expected = by_hand(stepped.model, stepped.groups)
    assert loss == pytest.approx(right, rel=1e-6)
    assert relative(gradient, expected) <= 5e-6
    assert float(expected.norm()) > 1e-2


def test_gradient_checkpointing_changes_nothing(stepped: Stepping) -> None:
    without = stepped()[1]
    assert relative(stepped(gradient_checkpointing=True)[1], without) <= 1e-6


def test_out_of_memory_halves_the_pairs(stepped: Stepping, monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger="nngpt_ext")
    expected = stepped()
    sizes = []

    def short(model: Any, batch: Any) -> torch.Tensor:
        sizes.append(batch.n_answers)
        if batch.n_answers > 5:
            raise torch.OutOfMemoryError
        return line_scores(model, batch)

    monkeypatch.setattr(training, "line_scores", short)
    loss, gradient = stepped()
    assert max(sizes) > 5
    assert loss == pytest.approx(expected[0], rel=1e-6)
    assert relative(gradient, expected[1]) <= 5e-6
    assert any(m.startswith("out of memory: continuing with") for m in caplog.messages)


def test_rows_keep_their_limit_though_pairs_share_lines() -> None:
    base = models_made.base("llama")
    groups = groups_of(base)
    whole = [[g, *range(len(group))] for g, group in enumerate(groups)]
    assert [len(distinct(group)) for group in groups] == [7, 2, 7]
    alone = sum(len(line.prompt) for group in groups for line in distinct(group))
    assert tokens_of(groups, whole, share=False) == alone
    assert tokens_of(groups, whole) < alone / 3
    for row in pack(groups, 400):
        # A network's pairs that are divided repeat lines: then a row may be too long, and the trainer halves it.
        assert tokens_of(groups, row) <= 400 or all(tokens_of(groups, half) <= 400 for half in halves(row))
    assert sorted((g, e) for row in pack(groups, 400) for g, *pairs in row for e in pairs) == [
        (g, e) for g, group in enumerate(groups) for e in range(len(group))
    ]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_engines_train_alike(base: Base, tmp_path: Path, checkpointing: bool) -> None:
    groups = groups_of(base)
    losses, weights = {}, {}
    for engine in ENGINES:
        settings = config(engine=engine, examples_per_step=8, gradient_checkpointing=checkpointing, head="lines")
        checked_engine(base.model, distinct(groups[0]), 0, engine)
        folder = tmp_path / engine
        history = train(base, groups, UNMEASURED, settings, folder / "checkpoints")
        losses[engine] = [entry["train_loss"] for entry in history]
        assert [entry["examples"] for entry in history] == [28, 28]
        place = folder / "checkpoints" / history[-1]["checkpoint"]
        assert history[-1]["files"] == checkpoint_files(place)
        found = load_file(place / "adapter_model.safetensors")
        assert found["base_model.model.score.weight"].shape == (1, 64)
        weights[engine] = torch.cat([w.flatten() for _, w in sorted(found.items())])
    for engine in ("shared", "masked"):
        assert losses[engine] == pytest.approx(losses["plain"], rel=1e-4)
        assert relative(weights[engine], weights["plain"]) < 1e-2  # Adam divides rounding by rounding


def test_one_step_trains_the_head_alone(base: Base, tmp_path: Path) -> None:
    """With a head of zeros no gradient reaches the LoRA weights, and that is no fault."""
    settings = config(epochs=1, head="lines")
    history = train(base, groups_of(base), UNMEASURED, settings, tmp_path / "checkpoints")
    found = load_file(tmp_path / "checkpoints" / history[0]["checkpoint"] / "adapter_model.safetensors")
    assert found["base_model.model.score.weight"].any()
    assert not any(w.any() for name, w in found.items() if "lora_B" in name)
