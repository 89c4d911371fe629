"""`bench predict` ranks test networks of a run, compares with slower ways, and prints its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from benchmarks.predict import ONE, RANK, SAMPLED, bench_predict, predict_text
from nngpt_ext import Predictor, RunResult, UserError
from nngpt_ext.cli import app
from tests.predict.conftest import run

__all__ = ["run"]

PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "results" / "predict-cpu.json"


@pytest.mark.slow
def test_predict(run: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    ranked: set[str | None] = set()
    real = Predictor.rank_many

    def noted(self: Predictor, networks: Any, *more: Any, **named: Any) -> Any:
        given = list(networks)
        ranked.update(nn for _, nn in given)
        return real(self, given, *more, **named)

    monkeypatch.setattr(Predictor, "rank_many", noted)
    arguments = ["bench", "predict", "--run", str(run.output_dir), "--networks", "2", "--rounds", "1", "--json"]
    printed = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    found = json.loads(printed[printed.index("{") :])
    n = len(json.loads((run.output_dir / "adapter" / "task.json").read_text())["datasets"])
    assert found["pairs"] == 2 * n * (n - 1) // 2
    rates = found["pairs_per_second"]
    assert set(rates) == {RANK, ONE, SAMPLED}
    assert found["against_one_question"] == pytest.approx(rates[RANK] / rates[ONE])
    assert found["against_generation"] == pytest.approx(rates[RANK] / rates[SAMPLED])
    tested = run.predictions.loc[run.predictions["split"] == "test", "nn"]
    assert ranked == set(sorted(tested.unique())[:2])


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"has no run$"):
        bench_predict(tmp_path)


def test_the_text_has_each_way_and_the_ratios() -> None:
    lines = predict_text(json.loads(PUBLISHED.read_text())).splitlines()
    assert [line[2:].split("  ")[0] for line in lines[1:4]] == [RANK, ONE, SAMPLED]
    assert "one question at a time and" in lines[-1]
