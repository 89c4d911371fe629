"""Running a study: every cell an ordinary run, nothing loaded or computed twice, what fails kept apart."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from nngpt_ext import Predictor, UserError, run_task
from nngpt_ext.study import sweep
from nngpt_ext.study.grid import read_grid
from nngpt_ext.study.sweep import run_study
from nngpt_ext.tasks import pipeline
from tests.predict.conftest import older
from tests.study.conftest import CODE, COMMON, CUT, FOLDED_NEAR, FOLDED_STRICT, RANDOM, RECIPE, Studied, grid, written

DEEPSEEK = "code_only.deepseek-coder-7b.by_network.normalized.seed0"


@pytest.fixture
def copied(studied, tmp_path) -> Path:
    """A copy of the study's folder, to be changed."""
    shutil.copytree(studied.folder, tmp_path / "copy")
    return tmp_path / "copy"


def line(call, *arguments, **options) -> str:
    with pytest.raises(UserError) as told:
        call(*arguments, **options)
    assert "\n" not in str(told.value)
    return str(told.value)


def test_what_became_of_each_cell(studied):
    assert {cell.name: cell.status for cell in studied.study.cells} == {
        CODE: "finished", CUT: "failed", RECIPE: "finished", RANDOM: "finished", DEEPSEEK: "not run",
    }  # fmt: skip
    reasons = {cell.name: cell.reason for cell in studied.study.cells}
    assert "tuning.row_tokens is 64; raise it" in reasons[CUT]
    assert reasons[DEEPSEEK] == "needs a card & time"
    assert {path.name for path in studied.folder.iterdir()} == {
        "cells", "notes", "study.yaml", "study.json", "study.md", "index.html", "learning_curve.json",
    }  # fmt: skip


def test_a_cell_is_an_ordinary_run(studied, tmp_path):
    """The same as by itself, though in the study the base model had been through another run before."""
    config = {**COMMON, "prompt": "recipe", "model": {"base": "embedded"}}
    alone = run_task("dataset_compare", config, output_dir=tmp_path / "alone")
    mine = pd.read_parquet(studied.folder / "cells" / RECIPE / "predictions.parquet")
    pd.testing.assert_frame_equal(alone.predictions, mine)
    figures = next(cell.figures for cell in studied.study.cells if cell.name == RECIPE)
    assert figures.accuracy == alone.report.accuracy
    assert figures.skill == alone.report.skill


def test_base_model_and_records_are_loaded_once(tmp_path, monkeypatch):
    loads, reads = [], []
    base, records = pipeline.load_base, pipeline.read_records
    monkeypatch.setattr(pipeline, "load_base", lambda *a, **o: loads.append(a) or base(*a, **o))
    monkeypatch.setattr(pipeline, "read_records", lambda *a: reads.append(a[0].epoch) or records(*a))
    cells = [{"prompts": ["code_only"], "bases": ["embedded"], "labels": ["normalized", "percentile"]}]
    found = run_study(written(tmp_path, grid(cells=cells)), tmp_path / "out")
    assert [cell.status for cell in found.cells] == ["finished", "finished"]
    assert loads == [("embedded",)]
    assert reads == [5]


def test_finished_cells_are_not_repeated(studied, copied):
    before = {p: p.stat().st_mtime_ns for p in (copied / "cells").rglob("*") if p.is_file()}
    again = Studied(studied.file, copied, run_study(studied.file, copied, resume=True))
    kept = {p: t for p, t in before.items() if CUT not in str(p)}
    assert {p: p.stat().st_mtime_ns for p in kept} == kept
    statuses = {cell.name: cell.status for cell in again.study.cells}
    assert (statuses[CODE], statuses[CUT]) == ("finished", "failed")  # what failed was tried again


def test_what_is_missing_is_made_again_and_the_same(studied, copied):
    shutil.rmtree(copied / "cells" / RANDOM)
    (copied / "learning_curve.json").unlink()
    (copied / "index.html").unlink()
    again = Studied(studied.file, copied, run_study(studied.file, copied, resume=True))
    assert again.content == studied.content


@pytest.mark.slow
def test_a_cell_of_all_folds_is_their_pooled_run(folded, tmp_path):
    config = read_grid(folded.file).cells[1].config
    alone = run_task("dataset_compare", config.model_dump(), output_dir=tmp_path / "alone")
    mine = folded.folder / "cells" / FOLDED_STRICT
    pd.testing.assert_frame_equal(alone.predictions, pd.read_parquet(mine / "predictions.parquet"))
    assert {"fold-0", "fold-1", "report.json"} <= {path.name for path in mine.iterdir()}
    assert Predictor.from_run(mine / "fold-1").datasets
    own = folded.study.cells[1]
    assert (own.status, own.figures.accuracy, own.family_level) == ("finished", alone.report.accuracy, "strict")


@pytest.mark.slow
def test_cells_side_by_side(studied, folded, tmp_path):
    """The same, in processes: single runs, folds, and what fails."""
    content, folds = grid(learning_curve=[]), yaml.safe_load(folded.file.read_text(encoding="utf-8"))
    block = {**folds["cells"][0], "family_levels": ["near"], "settings": {"data": folds["common"]["data"]}}
    content["cells"].append(block)
    found = run_study(written(tmp_path, content), tmp_path / "out", workers=3)
    *single, pooled = found.cells
    assert [(cell.name, cell.status, cell.reason) for cell in single] == [
        (cell.name, cell.status, cell.reason) for cell in studied.study.cells
    ]
    for cell, other in zip(single, studied.study.cells, strict=True):
        if other.figures:  # which may have had two threads
            assert cell.figures.log_loss == pytest.approx(other.figures.log_loss, abs=1e-4)
    assert pooled.figures == folded.study.cells[0].figures


def test_finished_folds_are_not_repeated(folded, tmp_path):
    """Nor does it matter how many run at a time."""
    copied = tmp_path / "copy"
    shutil.copytree(folded.folder, copied)
    cell = copied / "cells" / FOLDED_NEAR
    for file in (
        cell / "report.json",
        cell / "run.json",
        cell / "fold-1" / "report.json",
        cell / "fold-1" / "run.json",
    ):
        file.unlink()
    before = (cell / "fold-0" / "report.json").stat().st_mtime_ns
    more = yaml.safe_load(folded.file.read_text(encoding="utf-8"))
    more["common"]["workers"] = 2
    again = Studied(folded.file, copied, run_study(written(tmp_path, more), copied, resume=True))
    assert again.content == folded.content
    assert (cell / "fold-0" / "report.json").stat().st_mtime_ns == before


def test_a_fold_that_fails_is_named(tmp_path):
    cells = [{"prompts": ["recipe"], "bases": ["embedded-small"], "splits": ["by_family"]}]
    common = {**COMMON, "data": {**COMMON["data"], "folds": 2}, "tuning": {"row_tokens": 64}, "workers": 1}
    file = written(tmp_path, grid(common=common, cells=cells, learning_curve=[]))
    (cell,) = run_study(file, tmp_path / "out").cells
    assert cell.status == "failed"
    assert cell.reason.startswith(f"folds 0, 1 in '{tmp_path / 'out' / 'cells' / FOLDED_NEAR}' failed: a question")


def test_keys_that_an_older_version_lacked_have_their_defaults(studied, copied):
    found = yaml.safe_load((copied / "study.yaml").read_text(encoding="utf-8"))
    for cell in found["cells"].values():
        for key in ("fold", "folds", "family_level", "family_cap"):
            del cell["data"][key]
        del cell["tuning"]["head"]
    written(copied, found)
    assert run_study(studied.file, copied, draw_only=True).cells == studied.study.cells


def test_drawing_runs_nothing(studied, copied):
    shutil.rmtree(copied / "cells" / CODE)
    (copied / "index.html").unlink()
    found = run_study(studied.file, copied, draw_only=True)
    statuses = {cell.name: cell.status for cell in found.cells}
    assert statuses == {CODE: "waiting", CUT: "failed", RECIPE: "finished", RANDOM: "finished", DEEPSEEK: "not run"}
    assert (copied / "index.html").is_file()
    assert not (copied / "cells" / CODE).exists()


def test_there_must_be_a_study_to_draw(studied, tmp_path):
    assert line(run_study, studied.file, tmp_path / "none", draw_only=True) == (
        f"there is no study in '{tmp_path / 'none'}' to draw; run it without draw_only"
    )
    assert not (tmp_path / "none").exists()


def test_a_damaged_cell_is_told_and_the_others_are_shown(studied, copied):
    (copied / "cells" / CODE / "predictions.parquet").write_text("x")
    found = run_study(studied.file, copied, draw_only=True)
    statuses = {cell.name: (cell.status, cell.reason) for cell in found.cells}
    assert statuses[CODE][0] == "failed"
    assert "predictions.parquet" in statuses[CODE][1]
    assert statuses[RECIPE][0] == "finished"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda cell: pd.read_parquet(cell / "predictions.parquet").drop(columns="margin"), "KeyError: 'margin'"),
        (lambda cell: pd.read_parquet(cell / "predictions.parquet").query("split != 'test'"), "ValueError"),
        (lambda cell: pd.concat([pd.read_parquet(cell / "predictions.parquet")] * 2), "MergeError"),
    ],
)
def test_however_a_cell_is_damaged_the_others_are_shown(studied, copied, damage, reason):
    cell = older(copied / "cells" / CODE)
    damage(cell).to_parquet(cell / "predictions.parquet")
    found = {c.name: c for c in run_study(studied.file, copied, draw_only=True).cells}
    assert found[CODE].status == "failed"
    assert reason in found[CODE].reason
    assert f"remove '{cell}' and continue" in found[CODE].reason
    assert found[RECIPE].status == "finished"


@pytest.mark.parametrize("name", ["predictions.parquet", "baselines.parquet", "hashes.json", "report.json"])
def test_changed_answers_about_random_trials_have_failed(studied, copied, name):
    """Numbers in another order have the same columns and types, so only a hash tells them from what was written."""
    cell = copied / "cells" / RANDOM
    if name.endswith("parquet"):
        table = pd.read_parquet(cell / name)
        numbers = table.select_dtypes("number").columns
        table[numbers] = table[numbers].to_numpy()[::-1]
        table.to_parquet(cell / name)
    else:
        text = (cell / name).read_text()
        place = next(i for i, letter in enumerate(text) if letter in "12345")
        (cell / name).write_text(f"{text[:place]}{int(text[place]) + 1}{text[place + 1 :]}")
    found = {cell.name: cell for cell in run_study(studied.file, copied, draw_only=True).cells}
    assert found[RANDOM].status == "failed"
    assert "changed or damaged after it was written" in found[RANDOM].reason
    assert str(cell) in found[RANDOM].reason
    assert found[RECIPE].status == "finished"


def test_a_cell_that_was_brought_from_elsewhere_must_be_of_this_config(studied, copied):
    """A finished folder of another machine is shown; one of other settings under its name is not."""
    config = copied / "cells" / CODE / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 1", "epochs: 7"))
    found = {cell.name: cell for cell in run_study(studied.file, copied, draw_only=True).cells}
    assert found[CODE].status == "failed"
    assert "belongs to another config (tuning.epochs 7 there, 1 now)" in found[CODE].reason
    assert found[RECIPE].status == "finished"


def test_a_run_that_failed_is_not_tried_twice(tmp_path, monkeypatch):
    """The cell that would ask it about random trials fails with it."""
    tried = []
    pipeline = sweep.run_pipeline
    monkeypatch.setattr(sweep, "run_pipeline", lambda *a, **o: tried.append(a[1].name) or pipeline(*a, **o))
    block = {"prompts": ["recipe"], "bases": ["embedded"], "tested_on": ["best", "random"]}
    block["settings"] = {"tuning": {"row_tokens": 64}}
    found = run_study(written(tmp_path, grid(cells=[block], learning_curve=[])), tmp_path / "out")
    assert [cell.status for cell in found.cells] == ["failed", "failed"]
    assert found.cells[1].reason == f"the run that this cell uses has failed: {RECIPE}"
    assert tried == [RECIPE]


def test_a_base_that_is_not_here_is_no_failure(tmp_path):
    (tmp_path / "empty").mkdir()
    cells = [{"prompts": ["code_only"], "bases": [str(tmp_path / "empty")]}]
    (cell,) = run_study(written(tmp_path, grid(cells=cells, learning_curve=[])), tmp_path / "out").cells
    assert (cell.status, cell.figures) == ("not run", None)
    assert "is not a model" in cell.reason


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"common": {**COMMON, "tuning": {"epochs": 2}}}, f"cells.{CODE}.tuning.epochs 1 there, 2 now, "),
        ({"learning_curve": [3]}, "learning_curve [3, 6] there, [3] now"),
        ({"cells": grid()["cells"][:3]}, f"only one of the two has {DEEPSEEK}"),
        (
            {"cells": [*grid()["cells"], {"prompts": ["metadata"], "bases": ["embedded"]}]},
            "only one of the two has metadata.embedded.by_network.normalized.seed0",
        ),
    ],
)
def test_another_config_says_what_differs(studied, tmp_path, changes, reason):
    before = (studied.folder / "study.yaml").read_text()
    told = line(run_study, written(tmp_path, grid(**changes)), studied.folder, resume=True)
    assert f"'{studied.folder}'" in told
    assert reason in told
    assert (studied.folder / "study.yaml").read_text() == before


def test_folders_that_are_not_free(studied, tmp_path):
    assert line(run_study, studied.file, studied.folder) == (
        f"'{studied.folder}' already holds this study; continue with resume=True, or give another one"
    )
    (tmp_path / "thesis.tex").touch()
    for place in (tmp_path, tmp_path / "thesis.tex"):
        assert f"'{place}' is neither a study nor an empty folder" in line(run_study, studied.file, place, resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_unknown_names_end_it_before_anything_is_there(tmp_path):
    file = written(tmp_path, grid(cells=[{"prompts": ["code_onyl"], "bases": ["embedded"]}]))
    assert "unknown prompt 'code_onyl'" in line(run_study, file, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_matplotlib_nothing_is_begun(studied, tmp_path, missing):
    missing("matplotlib")
    assert line(run_study, studied.file, tmp_path / "out").endswith("pip install 'matplotlib>=3.8'")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_killed_and_resumed_it_is_the_same(studied, tmp_path):
    out = tmp_path / "out"
    script = "import sys; from nngpt_ext.cli import main; sys.argv[0] = 'nngpt-ext'; main()"
    command = [sys.executable, "-c", script, "study", "--config", str(studied.file), "--out", str(out)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ)
    first, second = (out / "cells" / name for name in (CODE, RECIPE))
    limit = time.monotonic() + 300
    while not second.is_dir():
        assert process.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < limit
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (first / "report.json").is_file()
    assert not (second / "report.json").is_file()
    assert not (out / "index.html").exists()
    before = (first / "report.json").stat().st_mtime_ns
    done = subprocess.run([*command, "--resume", "--json"], capture_output=True, text=True, timeout=600, check=True)
    assert (first / "report.json").stat().st_mtime_ns == before
    assert json.loads(done.stdout)["cells"] == studied.content["cells"]
    assert Studied(studied.file, out, studied.study).content == studied.content


@pytest.mark.parametrize("name", ["cells", "notes", f"cells/{CODE}"])
@pytest.mark.parametrize("draw", [False, True])
def test_a_study_never_follows_a_link(studied, copied, tmp_path, name, draw):
    mine, place = tmp_path / "mine", copied / name
    place.rename(mine)
    (mine / "thesis.tex").write_text("mine")
    place.symlink_to(mine)
    (copied / "index.html").unlink()
    before = {p: p.stat().st_mtime_ns for p in (copied, *mine.rglob("*"))}
    assert line(run_study, studied.file, copied, resume=True, draw_only=draw) == (
        f"'{place}' leads to '{mine}', outside '{copied}'; remove the link, or give another folder"
    )
    assert {p: p.stat().st_mtime_ns for p in (copied, *mine.rglob("*"))} == before
