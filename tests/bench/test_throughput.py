"""`bench prefix` and `bench predict` run on real questions, and print what they should."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from nngpt_ext import Predictor, RunResult, UserError
from nngpt_ext.bench.throughput import (
    ONE,
    QUESTIONS,
    RANK,
    SAMPLED,
    PrefixSettings,
    bench_predict,
    bench_prefix,
    check_equal,
)
from nngpt_ext.cli import app
from tests.predict.conftest import run

__all__ = ["run"]


def bench(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["bench", *arguments, "--rounds", "1", "--json"], catch_exceptions=False)
    return dict(json.loads(result.stdout[result.stdout.index("{") :]))


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
    found = bench("prefix", "--networks", "3", "--code-tokens", "64")
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


@pytest.mark.slow
def test_predict(run: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked: set[str | None] = set()
    real = Predictor.rank_many

    def noted(self: Predictor, networks: Any, *more: Any, **named: Any) -> Any:
        given = list(networks)
        ranked.update(nn for _, nn in given)
        return real(self, given, *more, **named)

    monkeypatch.setattr(Predictor, "rank_many", noted)
    found = bench("predict", "--run", str(run.output_dir), "--networks", "2")
    n = len(json.loads((run.output_dir / "adapter" / "task.json").read_text())["datasets"])
    assert found["pairs"] == 2 * n * (n - 1) // 2
    rates = found["pairs_per_second"]
    assert set(rates) == {RANK, ONE, SAMPLED}
    assert found["against_one_question"] == pytest.approx(rates[RANK] / rates[ONE])
    assert found["against_generation"] == pytest.approx(rates[RANK] / rates[SAMPLED])
    tested = run.predictions.loc[run.predictions["split"] == "test", "nn"]
    assert ranked == set(sorted(tested.unique())[:2])


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no finished run in"):
        bench_predict(tmp_path)
