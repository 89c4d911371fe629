"""Whole collections: shards, a process that is killed, a cluster whose worker dies."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nngpt_ext import Predictor, RunResult, UserError
from nngpt_ext.predict.collection import COLUMNS, Job, score_collection

DATASETS = ("cifar-10", "mnist", "svhn")


@pytest.fixture(scope="module")
def codes(tmp_path_factory: pytest.TempPathFactory, lemur_sources: dict[str, str]) -> Path:
    """24 real networks, and one file that is none."""
    folder = tmp_path_factory.mktemp("codes")
    for nn in sorted(lemur_sources)[::80][:24]:
        (folder / f"{nn}.py").write_text(lemur_sources[nn], encoding="utf-8")
    (folder / "broken.py").write_text("def (")
    return folder


@pytest.fixture(scope="module")
def whole(run: RunResult, codes: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """All of it in one go."""
    out = tmp_path_factory.mktemp("out") / "p.parquet"
    found = score_collection(Predictor.from_run(run.output_dir), job(run), codes, out, shard=5)
    assert (found.networks, found.rows) == (24, 24 * 3)
    assert [one.nn for one in found.refused] == ["broken"]
    assert [one["nn"] for one in json.loads((out.parent / "p.parquet.refused.json").read_text())] == ["broken"]
    assert sorted(file.name for file in out.parent.iterdir()) == ["p.parquet", "p.parquet.refused.json"]
    return pd.read_parquet(out)


def job(run: RunResult) -> Job:
    return Job(str(run.adapter), {}, DATASETS, None)


def command(run: RunResult, codes: Path, out: Path, *more: str) -> list[str]:
    script = "from nngpt_ext.cli import main; main()"
    asked = ["score", "--run", run.output_dir, "--codes", codes, "--out", out, "--shard", "2", *more, *DATASETS]
    return [sys.executable, "-c", script, *map(str, asked)]


def same(one: pd.DataFrame, other: pd.DataFrame) -> None:
    """The same rows, whatever the engine grouped."""
    keys = ["nn", "dataset_1", "dataset_2"]
    one, other = (frame.sort_values(keys, ignore_index=True) for frame in (one, other))
    assert not one.duplicated(keys).any()
    pd.testing.assert_frame_equal(one, other, check_exact=False, atol=1e-4)


def test_rows_are_those_of_the_predictor(run: RunResult, codes: Path, whole: pd.DataFrame) -> None:
    assert list(whole.columns) == list(COLUMNS)
    row = whole.iloc[4]
    asked = Predictor.from_run(run.output_dir).compare(
        (codes / f"{row['nn']}.py").read_text(), row["dataset_1"], row["dataset_2"]
    )
    assert asked.log_odds == pytest.approx(row["log_odds"], abs=1e-4)
    assert (asked.model, asked.abstain) == (row["model"], row["abstain"])


def test_killed_in_the_middle_and_run_again(run: RunResult, codes: Path, whole: pd.DataFrame, tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    started = subprocess.Popen(command(run, codes, out), stderr=subprocess.DEVNULL)
    parts = tmp_path / "p.parquet.parts"
    deadline = time.monotonic() + 120
    while len(list(parts.glob("*.parquet"))) < 2:
        assert time.monotonic() < deadline
        assert started.poll() is None, "it was done before it could be killed"
        time.sleep(0.02)
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    assert not out.exists()
    kept = {file: file.stat().st_mtime_ns for file in parts.glob("0*.parquet")}
    again = subprocess.run(command(run, codes, out, "--json"), capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["rows"] == 24 * 3
    assert f"{len(kept)} of 12 shards are done" in again.stderr
    same(pd.read_parquet(out), whole)
    assert not parts.exists()
    # Done is done; another collection is not written over it.
    third = subprocess.run(command(run, codes, out), capture_output=True, text=True, check=True)
    assert "is complete" in third.stderr
    other = subprocess.run(command(run, codes, out, "places365"), capture_output=True, text=True)
    assert other.returncode == 2
    assert "is there and holds something else; give another --out" in other.stderr


def test_parts_of_another_collection_are_left_alone(run: RunResult, codes: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    parts = tmp_path / "p.parquet.parts"
    parts.mkdir()
    (parts / "plan.json").write_text('{"plan": "another"}')
    with pytest.raises(UserError, match="holds parts of another collection"):
        score_collection(Predictor.from_run(run.output_dir), job(run), codes, out)
    with pytest.raises(UserError, match="there is no folder"):
        score_collection(Predictor.from_run(run.output_dir), job(run), codes, tmp_path / "none" / "p.parquet")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.py").write_text("def (")
    with pytest.raises(UserError, match=r"holds no network that can be asked about; the first: .* is not Python"):
        score_collection(Predictor.from_run(run.output_dir), job(run), tmp_path / "bad", out)


@pytest.mark.slow
def test_on_a_ray_cluster_of_which_a_worker_is_killed(
    run: RunResult, codes: Path, whole: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray: Any = pytest.importorskip("ray")
    import threading

    import psutil

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    killed: list[int] = []
    parts = tmp_path / "p.parquet.parts"

    def kill_one() -> None:
        deadline = time.monotonic() + 240
        while time.monotonic() < deadline and len(list(parts.glob("0*.parquet"))) < 2:
            time.sleep(0.05)
        mine = psutil.Process(ray._private.worker._global_node.all_processes["raylet"][0].process.pid)
        for worker in mine.children(recursive=True):
            if "ShardScorer" in " ".join(worker.cmdline()):
                worker.kill()
                killed.append(worker.pid)
                return

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        found = score_collection(
            Predictor.from_run(run.output_dir), job(run), codes, tmp_path / "p.parquet", shard=2, engine="ray"
        )
    finally:
        thread.join()
        ray.shutdown()
    assert killed
    assert found.rows == 24 * 3
    same(pd.read_parquet(tmp_path / "p.parquet"), whole)
