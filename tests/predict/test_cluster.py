"""Collections on a real Ray cluster of this machine, with two workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import psutil
import pytest

from nngpt_ext import PredictionStore, Predictor, RunResult, UserError
from nngpt_ext.networks.codes import Network, read_codes
from nngpt_ext.predict import cluster
from nngpt_ext.predict.cluster import ray_engine, score_remotely
from nngpt_ext.predict.collection import Job, score_collection

from .test_collection import codes, job, same, whole

__all__ = ["codes", "whole"]


@pytest.fixture(scope="module")
def ray(monkeypatch_module: pytest.MonkeyPatch) -> Iterator[Any]:
    for name, value in cluster._ALONE.items():
        monkeypatch_module.setenv(name, value)
    monkeypatch_module.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parents[2]), *sys.path]))
    ray: Any = pytest.importorskip("ray")
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    assert ray.nodes()[0]["NodeManagerAddress"] == "127.0.0.1"
    yield ray
    ray.shutdown()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


def workers(ray: Any) -> list[psutil.Process]:
    """The processes of this cluster that score."""
    mine = psutil.Process(ray._private.worker._global_node.all_processes["raylet"][0].process.pid)
    return [worker for worker in mine.children(recursive=True) if "ray::score_remotely" in " ".join(worker.cmdline())]


@pytest.mark.slow
def test_a_worker_is_killed_and_nothing_is_lost(
    ray: Any, run: RunResult, codes: Path, whole: pd.DataFrame, tmp_path: Path
) -> None:
    killed: list[int] = []
    over = threading.Event()
    parts = tmp_path / "p.parquet.parts"

    def kill_one() -> None:
        while not over.is_set() and len(list(parts.glob("0*.parquet"))) < 2:  # however slow the machine is
            time.sleep(0.05)
        while not over.is_set() and not killed:  # a worker may be idle at that moment
            for worker in workers(ray)[:1]:
                worker.kill()
                killed.append(worker.pid)

    thread = threading.Thread(target=kill_one)
    thread.start()
    try:
        found = score_collection(
            Predictor.from_run(run.output_dir), job(run), codes, tmp_path / "p.parquet", shard=2, engine=ray_engine()
        )
    finally:
        over.set()
        thread.join()
    assert killed
    assert found.rows == 24 * 3
    same(pd.read_parquet(tmp_path / "p.parquet"), whole)
    assert not parts.exists()


def deadly(job: str, networks: Sequence[Network], target: Path) -> None:
    """Scores all shards but one, at which its worker dies every time."""
    if target.name == "000001.parquet":
        os.kill(os.getpid(), signal.SIGKILL)
    score_remotely(job, networks, target)


@pytest.mark.slow
def test_a_shard_that_kills_its_workers_is_given_up(
    ray: Any, run: RunResult, codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "score_remotely", deadly)
    out, predictor = tmp_path / "p.parquet", Predictor.from_run(run.output_dir)
    with pytest.raises(UserError, match=r"^3 workers died, one after the other, at the shard of '") as error:
        score_collection(predictor, job(run), codes, out, shard=12, engine=ray_engine())
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert score_collection(predictor, job(run), codes, out, shard=12, engine=ray_engine()).rows == 24 * 3


@pytest.mark.slow
def test_a_mistake_that_a_worker_meets_is_one_line(ray: Any, run: RunResult, codes: Path, tmp_path: Path) -> None:
    asked = replace(job(run), base="no-such-base")
    with pytest.raises(UserError, match=r"^unknown base model 'no-such-base'") as error:
        score_collection(Predictor.from_run(run.output_dir), asked, codes, tmp_path / "p.parquet", engine=ray_engine())
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_store_is_where_the_user_stands(
    ray: Any, run: RunResult, codes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    asked = replace(job(run), store="sqlite:///here.db", datasets=("mnist", "svhn"))
    score_collection(Predictor.from_run(run.output_dir), asked, codes, Path("p.parquet"), engine=ray_engine())
    with PredictionStore.open(f"sqlite:///{tmp_path / 'here.db'}") as store:
        assert len(store.query()) == 24


def test_the_job_names_whole_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").mkdir()
    asked = Job("run/adapter", ("a", "b"), base="base", store="sqlite:///a/p.db")
    made = cluster._everywhere(asked)
    assert made.adapter == str(tmp_path / "run" / "adapter")
    assert (made.store, made.base) == (f"sqlite:///{tmp_path}/a/p.db", str(tmp_path / "base"))
    made = cluster._everywhere(replace(asked, base="embedded", store=None))
    assert (made.store, made.base) == (None, "embedded")


def test_a_worker_scores_a_shard(run: RunResult, codes: Path, tmp_path: Path) -> None:
    networks = [one for one in read_codes(codes) if isinstance(one, Network)][:2]
    score_remotely(json.dumps(asdict(job(run))), networks, tmp_path / "000003.parquet")
    assert pd.read_parquet(tmp_path / "000003.parquet")["nn"].tolist() == [one.nn for one in networks for _ in "abc"]


def test_without_ray_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"Ray is not installed; type: .*pip install 'ray>=2\.40'$"):
        ray_engine()


def test_what_ray_writes_is_kept_from_the_results() -> None:
    script = """
import os
from nngpt_ext.quiet import output_on_stderr
with output_on_stderr():
    os.write(1, b"a worker died\\n")  # as C++ does
    print("so it did")
print("result")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("result\n", "a worker died\nso it did\n")
