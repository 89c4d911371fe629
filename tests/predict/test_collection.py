"""Whole collections: shards, a process that is killed, a cluster whose worker dies."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nngpt_ext import Predictor, RunResult, UserError
from nngpt_ext.predict.cluster import ray_engine
from nngpt_ext.predict.collection import COLUMNS, Job, Parts, Scored, score_collection

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
    return Job(str(run.adapter), DATASETS)


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
    assert asked.probability == pytest.approx(row["calibrated_1"], abs=1e-5)
    assert 1 / (1 + math.exp(-asked.log_odds)) == pytest.approx(row["probability_1"], abs=1e-5)
    assert (whole["probability_1"] != whole["calibrated_1"]).all()


@pytest.mark.slow
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
    kept = sorted(parts.glob("0*.parquet"))
    for file in kept:  # what is done is not done again: it would not say so then
        pd.read_parquet(file).assign(model="kept").to_parquet(file)
    again = subprocess.run(command(run, codes, out, "--json"), capture_output=True, text=True, check=True)
    assert json.loads(again.stdout)["rows"] == 24 * 3
    assert f"{len(kept)} of 12 shards are done" in again.stderr
    found = pd.read_parquet(out)
    assert (found["model"] == "kept").sum() == len(kept) * 2 * 3
    same(found.assign(model=whole["model"].iloc[0]), whole)
    assert not parts.exists()
    # Done is done; another collection is not written over it.
    third = subprocess.run(command(run, codes, out), capture_output=True, text=True, check=True)
    assert "is complete" in third.stderr
    other = subprocess.run(command(run, codes, out, "places365"), capture_output=True, text=True)
    assert other.returncode == 2
    assert "is not the result of this command; give another " in other.stderr


def test_parts_of_another_collection_are_left_alone(run: RunResult, codes: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    parts = tmp_path / "p.parquet.parts"
    parts.mkdir()
    (parts / "plan.json").write_text('{"plan": "another", "shard": 20}')
    (parts / "000000.parquet").write_text("an hour of work")
    with pytest.raises(UserError, match="belongs to another collection"):
        score_collection(Predictor.from_run(run.output_dir), job(run), codes, out)
    with pytest.raises(UserError, match="there is no folder"):
        score_collection(Predictor.from_run(run.output_dir), job(run), codes, tmp_path / "none" / "p.parquet")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.py").write_text("def (")
    with pytest.raises(UserError, match=r"no network in '.*' can be scored; the first: .* is not Python"):
        score_collection(Predictor.from_run(run.output_dir), job(run), tmp_path / "bad", out)


class Killed(BaseException):
    """Ends a process in the middle, as far as the code in it can see."""


def score_some(run: RunResult, codes: Path, out: Path, **options: Any) -> Scored:
    return score_collection(Predictor.from_run(run.output_dir), job(run), codes, out, **options)


@pytest.fixture
def few(tmp_path: Path, lemur_sources: dict[str, str]) -> Path:
    """Three real networks, and one file that is none."""
    folder = tmp_path / "codes"
    folder.mkdir()
    for nn in sorted(lemur_sources)[::500][:3]:
        (folder / f"{nn}.py").write_text(lemur_sources[nn], encoding="utf-8")
    (folder / "broken.py").write_text("def (")
    return folder


def left(out: Path) -> list[str]:
    return sorted(file.name for file in out.parent.iterdir() if file.name.startswith(out.name))


def test_a_mistake_leaves_nothing_that_blocks_the_next_run(
    run: RunResult, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "p.parquet"
    predictor = Predictor.from_run(run.output_dir)
    with pytest.raises(UserError, match="a dataset's name must be printable text"):
        score_collection(predictor, replace(job(run), datasets=("mnist", "sv\nhn")), few, out)
    assert left(out) == []
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ray", None)
        with pytest.raises(UserError, match="Ray is not installed; type: "):
            ray_engine()
    assert left(out) == []
    with monkeypatch.context() as patch:  # a fault before the first shard is done
        patch.setattr(Predictor, "compare_many", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_some(run, few, out)
    assert left(out) == []
    assert score_some(run, few, out).rows == 9


def test_parts_in_which_nothing_is_done_are_taken_over(run: RunResult, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "p.parquet"
    parts = tmp_path / "p.parquet.parts"
    parts.mkdir()
    (parts / ".plan.json.x1").write_text("{")  # killed while it wrote the plan
    (parts / ".000000.parquet.x2").write_text("PAR1")
    assert score_some(run, few, out).rows == 9
    out.unlink()
    parts.mkdir()
    (parts / "plan.json").write_text('{"plan": "another", "shard": 20}')
    assert score_some(run, few, out).rows == 9
    assert left(out) == ["p.parquet", "p.parquet.refused.json"]


@pytest.mark.parametrize("moment", ["join", "remove"])
def test_killed_at_the_end_it_still_lists_what_was_refused(
    run: RunResult, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    out = tmp_path / "p.parquet"
    with monkeypatch.context() as patch:

        def killed(*_: object, **__: object) -> None:
            raise Killed

        patch.setattr(Parts, moment, killed)
        patch.setattr(Parts, "remove", killed)
        with pytest.raises(Killed):
            score_some(run, few, out)
    assert [one["nn"] for one in json.loads((tmp_path / "p.parquet.refused.json").read_text())] == ["broken"]
    assert (tmp_path / "p.parquet.parts").is_dir()
    (tmp_path / "p.parquet.refused.json").unlink()
    found = score_some(run, few, out)
    assert (found.rows, [one.nn for one in found.refused]) == (9, ["broken"])
    assert left(out) == ["p.parquet", "p.parquet.refused.json"]


def test_another_shard_size_goes_on_with_the_one_it_began_with(
    run: RunResult, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "p.parquet"
    with monkeypatch.context() as patch:
        patch.setattr(Parts, "join", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            score_some(run, few, out, shard=2)
    assert left(out) == ["p.parquet.parts", "p.parquet.refused.json"]
    with caplog.at_level("INFO", "nngpt_ext"):
        assert score_some(run, few, out, shard=1).rows == 9
    assert "2 of 2 shards are done" in caplog.text
    assert score_some(run, few, out, shard=3).rows == 9  # complete, whatever the size


def test_one_bad_recipe_is_one_refused_network(
    asking: Callable[[str], Path], tmp_path: Path, lemur_sources: dict[str, str]
) -> None:
    predictor = Predictor.from_pretrained(asking("recipe"))
    recipe = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": None, "transform": "norm_32"}
    names = sorted(lemur_sources)[::500][:4]
    given = [recipe, recipe | {"bach": 2}, {"mnist": recipe}, None]
    frame = pd.DataFrame({"nn": ["a", "b", "c", "d"], "nn_code": [lemur_sources[nn] for nn in names]})
    frame["recipe"] = [None if one is None else json.dumps(one) for one in given]
    frame.to_parquet(tmp_path / "codes.parquet")
    asked = Job(str(tmp_path), ("mnist", "svhn"))
    found = score_collection(predictor, asked, tmp_path / "codes.parquet", tmp_path / "o.parquet")
    assert pd.read_parquet(found.out)["nn"].tolist() == ["a"]
    assert [(one.nn, one.reason.split(":")[0]) for one in found.refused] == [(nn, f"'{nn}'") for nn in "bcd"]
    for one, reason in zip(
        found.refused, ("unknown bach", "no recipe for 'svhn'", "needs a recipe for 'mnist'"), strict=True
    ):
        assert reason in one.reason
    # A mistake in the recipe for all is the user's, and no network's.
    with pytest.raises(UserError, match="a recipe has unknown bach"):
        score_collection(
            predictor, replace(asked, recipe=given[1]), tmp_path / "codes.parquet", tmp_path / "p.parquet"
        )  # fmt: skip
    assert left(tmp_path / "p.parquet") == []


def test_a_network_without_a_structure_is_refused(asking: Callable[[str], Path], tmp_path: Path) -> None:
    adapter = asking("structure")
    predictor = Predictor.from_pretrained(adapter)
    codes = tmp_path / "codes"
    codes.mkdir()
    (codes / "bad.py").write_text("raise OSError('x')")
    (codes / "good.py").write_text((Path(__file__).parents[2] / "examples" / "alexnet.py").read_text())
    job = Job(str(adapter), ("mnist", "svhn"), structure="measure")
    found = score_collection(predictor, job, codes, tmp_path / "o.parquet")
    assert pd.read_parquet(found.out)["nn"].tolist() == ["good"]
    reason = "network 'bad' has no structure on 'mnist' (1x28x28, 10 classes): OSError: x"
    assert [(one.nn, one.reason) for one in found.refused] == [("bad", reason)]
    answer = predictor.compare((codes / "good.py").read_text(), "mnist", "svhn", structure="measure")
    assert pd.read_parquet(found.out)["log_odds"].tolist() == pytest.approx([answer.log_odds], abs=1e-5)
    # What is wrong with the structure for all is no network's mistake.
    with pytest.raises(UserError, match=r"^a structure is 'measure', or numbers"):
        score_collection(predictor, replace(job, structure="mesure"), codes, tmp_path / "p.parquet")
    with pytest.raises(UserError, match=r"the first: 'bad': prompt 'structure' needs a structure for 'mnist'"):
        score_collection(predictor, replace(job, structure=None), codes, tmp_path / "p.parquet")
    assert left(tmp_path / "p.parquet") == []


def test_what_a_kill_left_of_a_complete_collection_goes_with_the_next(
    run: RunResult, few: Path, tmp_path: Path
) -> None:
    score_some(run, few, tmp_path / "p.parquet")
    parts = tmp_path / ".p.parquet.parts.a1b2c3d4.tmp"  # the folder of the parts, while it was removed
    parts.mkdir()
    (parts / "000001.parquet").touch()
    os.utime(parts, (0, 0))
    score_some(run, few, tmp_path / "p.parquet")
    assert not parts.exists()


def test_parts_are_never_behind_a_link(run: RunResult, codes: Path, tmp_path: Path) -> None:
    mine, out = tmp_path / "mine", tmp_path / "out" / "p.parquet"
    mine.mkdir()
    out.parent.mkdir()
    (out.parent / "p.parquet.parts").symlink_to(mine)
    with pytest.raises(UserError, match=rf"^'.*p\.parquet\.parts' leads to '{mine}', outside '{out.parent}'"):
        score_collection(Predictor.from_run(run.output_dir), job(run), codes, out)
    assert not list(mine.iterdir())
    assert [file.name for file in out.parent.iterdir()] == ["p.parquet.parts"]


def test_parts_behind_a_link_beside_them(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "p.parquet.parts").symlink_to("kept")
    parts = Parts(tmp_path / "p.parquet", "plan")
    parts.claim(5)
    parts.remove()
    assert [file.name for file in tmp_path.iterdir()] == ["kept"]
