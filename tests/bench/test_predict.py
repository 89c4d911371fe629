"""`bench predict` on a small real run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nngpt_ext import Predictor, RunResult, UserError
from nngpt_ext.bench.predict import ONE, RANK, SAMPLED, bench_predict
from nngpt_ext.cli import app
from tests.predict.conftest import run

__all__ = ["run"]


@pytest.mark.slow
def test_it_measures(run: RunResult, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: set[str | None] = set()
    real = Predictor.rank_many

    def noted(self: Predictor, networks: Any, *more: Any, **named: Any) -> Any:
        given = list(networks)
        asked.update(nn for _, nn in given)
        return real(self, given, *more, **named)

    monkeypatch.setattr(Predictor, "rank_many", noted)
    arguments = ["bench", "predict", "--run", str(run.output_dir), "--networks", "2", "--rounds", "1", "--json"]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    found = json.loads(result.stdout[result.stdout.index("{") :])
    n = len(json.loads((run.output_dir / "adapter" / "task.json").read_text())["datasets"])
    assert found["pairs"] == 2 * n * (n - 1) // 2
    rates = found["pairs_per_second"]
    assert set(rates) == {RANK, ONE, SAMPLED}
    assert found["against_one_question"] == pytest.approx(rates[RANK] / rates[ONE])
    tested = run.predictions.loc[run.predictions["split"] == "test", "nn"]  # the run's own, few as they are
    assert asked - {None} == set(sorted(tested.unique())[:2])
    assert found["against_generation"] == pytest.approx(rates[RANK] / rates[SAMPLED])


def test_a_folder_without_a_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no finished run"):
        bench_predict(tmp_path)
