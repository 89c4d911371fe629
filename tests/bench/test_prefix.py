"""The benchmark of shared prefixes runs on real questions, and says what it should."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from trl import SFTTrainer
from typer.testing import CliRunner

from nngpt_ext.batches.rows import Example
from nngpt_ext.bench import training
from nngpt_ext.bench.command import app
from nngpt_ext.bench.material import lengths, material, with_questions
from nngpt_ext.bench.prefix import _check_equal, bench_prefix
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import load_base


def example(prefix: int, own: int) -> Example:
    return Example(np.array([5] * prefix + [6] * own, dtype="int32"), (np.array([7, 1], dtype="int32"),))


def test_lengths_by_hand() -> None:
    # Two networks: 3 questions of 4 + 1 tokens behind 10, and 2 of 1 + 1 behind 20; the stop is only predicted.
    groups = [
        [Example(np.array([1] * 10 + [n] * 4, dtype="int32"), example(1, 1).answers) for n in (2, 3, 4)],
        [Example(np.array([1] * 20 + [n], dtype="int32"), example(1, 1).answers) for n in (2, 3)],
    ]
    found = lengths(groups)
    assert (found.networks, found.questions, found.prefix_tokens, found.own_tokens) == (2, 2.5, 15, 3.5)
    assert found.once == 10 + 3 * 5 + 20 + 2 * 2
    assert found.bound == (3 * 15 + 2 * 22) / found.once


def test_material_is_real_pairs_in_both_orders() -> None:
    found = material(load_base("embedded"), "code_only", 3, 50)
    assert len(found.groups) == len(found.training) == 3
    for group, answered in zip(found.groups, found.training, strict=True):
        assert len(group) % 2 == 0
        for asked, turned in zip(group[::2], group[1::2], strict=True):
            assert [o.tolist() for o in asked.options] == [o.tolist() for o in turned.options[::-1]]
        for one, taught in zip(group, answered, strict=True):
            assert taught.answers[0].tolist() in [option.tolist() for option in one.options]
    many = with_questions(found, 50, 2)
    assert [len(group) for group in many.groups] == [len(group) for group in many.training] == [50, 50]


@pytest.mark.parametrize("asked", [{"networks": 1}, {"rounds": 0}, {"device": "cuda"}, {"base": "nothing"}])
def test_what_cannot_be_measured_is_one_line(asked: dict) -> None:
    with pytest.raises(UserError) as caught:
        bench_prefix(**asked)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("batch", [4, 16])
def test_what_trl_is_said_to_have_done_it_did(batch: int, monkeypatch: pytest.MonkeyPatch) -> None:
    found = material(load_base("embedded"), "metadata_only", 2, 0)
    examples = [example for group in found.training for example in group][:10]
    seen: list[int] = []
    step = SFTTrainer.training_step

    def counted(self: SFTTrainer, model: object, inputs: dict, *rest: object) -> object:
        seen.append(len(inputs["input_ids"]))
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(SFTTrainer, "training_step", counted)
    work = training.trl(found, examples, batch)
    steps = 2
    assert work.examples == sum(seen) * (steps - 1) // steps
    assert set(seen) == {batch}


def test_what_computes_something_else_is_not_timed() -> None:
    _check_equal(9e-6, 0, torch.float32)
    _check_equal(1e-2, 3, torch.bfloat16)
    for difference, winners in ((2e-5, 0), (0.0, 1), (float("nan"), 0)):
        with pytest.raises(RuntimeError, match="nothing is timed"):
            _check_equal(difference, winners, torch.float32)


def test_a_question_longer_than_a_row_is_one_line() -> None:
    with pytest.raises(UserError, match=r"tuning\.row_tokens is 64"):
        material(load_base("embedded"), "code_only", 2, 200, row_tokens=64)


@pytest.mark.slow
def test_it_measures() -> None:
    arguments = ["prefix", "--networks", "3", "--code-tokens", "64", "--rounds", "1", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    found = json.loads(result.stdout[result.stdout.index("{") :])
    for figures in (found, found["recipe"]):
        assert figures["loss_difference"] < 1e-5
        assert figures["gradient_relative_error"] < 1e-5
        assert figures["probability_max_difference"] < 1e-4
        assert figures["winners"]["different"] == 0
        assert figures["training_ratio"] > 0  # how large is a matter of what else the machine does
        assert figures["scoring_ratio"] > 0
        assert figures["bound"] > 2
        assert [row["questions"] for row in figures["by_questions"]] == [4, 20, 42, 200]
        assert {"shared", "TRL, padding-free packing"} < set(figures["training"])
        assert len(figures["training"]) == 6  # four batch sizes
        assert figures["training_ratio"] > 2  # of a bound near ten, on a busy machine too
    assert found["prompt"] == "code_only"
