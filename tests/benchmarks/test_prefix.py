"""`bench prefix` runs on real questions, times nothing if results differ, and prints its figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from benchmarks.prefix import QUESTIONS, PrefixSettings, bench_prefix, check_equal, prefix_text
from nngpt_ext import UserError
from nngpt_ext.cli import app

PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "results" / "prefix-cpu.json"


@pytest.mark.parametrize("wrong", [{"device": "cuda"}, {"device": "tpu"}, {"base": "nothing"}])
def test_what_cannot_be_measured_is_one_line(wrong: dict[str, str]) -> None:
    if wrong.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UserError) as caught:
        bench_prefix(PrefixSettings(**wrong))
    assert "\n" not in str(caught.value)


def test_nothing_is_timed_if_results_differ() -> None:
    check_equal(9e-6, 0, torch.float32)
    check_equal(1e-2, 3, torch.bfloat16)
    for difference, winners in ((2e-5, 0), (0.0, 1), (float("nan"), 0)):
        with pytest.raises(RuntimeError, match="nothing is timed"):
            check_equal(difference, winners, torch.float32)


@pytest.mark.slow
def test_prefix() -> None:
    arguments = ["bench", "prefix", "--networks", "3", "--code-tokens", "64", "--rounds", "1", "--json"]
    printed = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    found = json.loads(printed[printed.index("{") :])
    assert found["prompt"] == "code_only"
    for figures in (found, found["recipe"]):
        assert figures["loss_difference"] < 1e-5
        assert figures["gradient_relative_error"] < 1e-5
        assert figures["probability_max_difference"] < 1e-4
        assert figures["winners"]["different"] == 0
        assert figures["training_ratio"] > 2  # of a bound near ten, on a busy machine too
        assert figures["scoring_ratio"] > 0
        assert figures["bound"] > 2
        assert [row["questions"] for row in figures["by_questions"]] == list(QUESTIONS)
        assert {"shared", "TRL, padding-free packing"} < set(figures["training"])
        assert len(figures["training"]) == 6  # four batch sizes


def test_the_text_has_the_figures_of_every_prompt() -> None:
    lines = prefix_text(json.loads(PUBLISHED.read_text())).splitlines()
    assert [line.split(":")[0] for line in lines if not line.startswith(" ")] == ["code_only", "recipe"]
    assert lines[1].startswith("  training 26.7× one example a row (142% of the bound 18.8×), scoring 30.8×")
    assert "0 of 922 winners differ" in lines[2]
    assert sum("questions a network (bound" in line for line in lines) == 2 * len(QUESTIONS)
