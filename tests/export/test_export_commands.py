"""`nngpt-ext export lm-eval --check` and what it needs; the pages of docs/ run the other commands."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nngpt_ext import RunResult, UserError, cli
from nngpt_ext.export.harness import check_text


def test_check_without_lm_eval_names_the_command(
    run: RunResult, tmp_path: Path, missing: Callable[[str], None]
) -> None:
    missing("lm_eval")
    arguments = ["export", "lm-eval", "--run", str(run.output_dir), "--out", str(tmp_path / "task"), "--check"]
    done = CliRunner().invoke(cli.app, arguments)
    assert isinstance(done.exception, UserError)
    assert "pip install 'lm-eval<0.5,>=0.4.13'" in str(done.exception)
    assert not (tmp_path / "task").exists()


@pytest.mark.slow
def test_check(run: RunResult, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    out = str(tmp_path / "task")
    arguments = ["export", "lm-eval", "--run", str(run.output_dir), "--out", out, "--check", "--json"]
    done = CliRunner().invoke(cli.app, arguments, catch_exceptions=False)
    found = json.loads(done.stdout)["check"]
    assert found["questions"] == 2 * run.report.n_test_pairs
    assert found["different_answers"] == 0
    assert 0 < found["largest_difference"] < 1e-4
    assert found["lm_eval"] == pytest.approx(found["accuracy"])
    assert found["accuracy"]["pairs"] == pytest.approx(run.report.accuracy.value)


def test_the_text_of_a_check_has_both_sides() -> None:
    accuracies = {"straight": 0.5, "turned": 0.25, "pairs": 0.75}
    found = {
        "questions": 7746, "accuracy": accuracies, "lm_eval": accuracies, "different_answers": 0,
        "largest_difference": 1.6e-5, "seconds": 43.0, "lm_eval_seconds": 1231.0,
    }  # fmt: skip
    first, *rest = check_text(found).splitlines()
    assert first.startswith("7,746 questions, 0 answered differently by lm_eval; log-odds differ by 1.6e-05 at most")
    assert rest[2] == "  both orders averaged: lm_eval 0.7500, nngpt-ext 0.7500"
