"""Published runs beside each other on the same pairs."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.versus import RUNS, answers, compare

PUBLISHED = RUNS.parent / "pretraining.json"


def test_the_published_comparison_is_that_of_the_published_runs() -> None:
    found = compare(["smollm2-near", "smollm2-random-near", "families-near"], "near")
    assert json.loads(json.dumps(found)) == json.loads(PUBLISHED.read_text(encoding="utf-8"))


def test_only_pairs_that_all_runs_answer_are_compared(tmp_path: Path) -> None:
    whole = pd.read_parquet(RUNS / "families-near" / "fold-0" / "predictions.parquet")
    tested = whole[whole["split"] == "test"]
    pd.concat([whole[whole["split"] != "test"], tested.iloc[5:]]).to_parquet(tmp_path / "predictions.parquet")
    found = compare([str(tmp_path), "families-near"], "near")
    assert found["n_test_pairs"] == len(tested) - 5
    one, other = (found["accuracy"][run]["value"] for run in (str(tmp_path), "families-near"))
    assert one == other == pytest.approx(answers(str(tmp_path)).mean(), abs=1e-4)
    assert found[f"{tmp_path} minus"]["families-near"]["value"] == 0


def test_a_baseline_answers_as_in_the_run_of_that_fold() -> None:
    found = compare(["families-near", "kind_prior"], "near", [0])
    report = json.loads((RUNS / "families-near" / "fold-0" / "report.json").read_text(encoding="utf-8"))
    assert found["n_test_pairs"] == report["n_test_pairs"]
    assert found["accuracy"]["kind_prior"]["value"] == pytest.approx(
        report["baselines"]["kind_prior"]["accuracy"], abs=1e-4
    )
