"""`compare`, `rank` and `score` from the shell."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nngpt_ext import Predictor, RunResult
from nngpt_ext.cli import app
from tests.predict.conftest import older

ALEXNET = Path(__file__).parents[2] / "examples" / "alexnet.py"


def asked(*arguments: object) -> str:
    found = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert found.exit_code == 0
    return found.stdout


def test_compare_and_its_complement(run: RunResult) -> None:
    base = ("compare", "--run", run.output_dir, "--code", ALEXNET, "--json")
    one, other = (json.loads(asked(*base, *names)) for names in (("mnist", "svhn"), ("svhn", "mnist")))
    assert abs(one["probability"] + other["probability"] - 1) < 1e-9
    assert one["winner"] == other["winner"]
    assert one["nn"] == "alexnet"
    assert set(one["prior"]) == {"probability", "log_odds", "abstain"}
    found = Predictor.from_run(run.output_dir).compare(ALEXNET.read_text(), "mnist", "svhn")
    assert found.log_odds == pytest.approx(one["log_odds"], abs=1e-5)


def test_compare_in_words_from_an_adapters_folder(run: RunResult) -> None:
    said = asked("compare", "--run", run.output_dir / "adapter", "--code", ALEXNET, "mnist", "svhn")
    assert re.search(r"^P\(mnist\) = 0\.\d{3}; without the source code 0\.\d{3}$", said, re.MULTILINE)


def test_what_is_said_of_the_threshold(run: RunResult, tmp_path: Path) -> None:
    adapter = older(shutil.copytree(run.output_dir / "adapter", tmp_path / "adapter"))
    calibration = json.loads((adapter / "calibration.json").read_text())
    for threshold, words in (
        (None, " % confident; this adapter has no threshold, so all its answers abstain)"),
        (0.5, " % confident; this adapter answers from 50.0 %)"),
        (1.0, " % confident; this adapter abstains below 100.0 %)"),
    ):
        (adapter / "calibration.json").write_text(json.dumps(calibration | {"threshold": threshold}))
        assert words in asked("compare", "--run", adapter, "--code", ALEXNET, "mnist", "svhn")


def test_accuracies_for_a_prompt_that_shows_them(asking: Callable[[str], Path]) -> None:
    base = ("compare", "--run", asking("normalized_accuracy"), "--code", ALEXNET, "--json", "mnist", "svhn")
    low, high = (
        json.loads(asked(*base, "--accuracies", json.dumps({"mnist": value, "svhn": 0.5}))) for value in (0.1, 0.9)
    )
    assert low["log_odds"] != high["log_odds"]
    assert low["prior"] != high["prior"]


def test_rank(run: RunResult) -> None:
    found = json.loads(asked("rank", "--run", run.output_dir, "--code", ALEXNET, "--json"))
    assert len(found["comparisons"]) == len(found["datasets"]) * (len(found["datasets"]) - 1) // 2
    said = asked("rank", "--run", run.output_dir, "--code", ALEXNET, *found["datasets"])
    assert said.startswith("1. ")
    assert ("The ranking is consistent." in said) == (found["intransitive"] == 0)
    assert "The ranking is" not in asked("rank", "--run", run.output_dir, "--code", ALEXNET, "mnist", "svhn")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "--run", "{run}", "--code", "{tmp}/none.py", "mnist", "svhn"], "cannot read '"),
        (["compare", "--run", "{run}", "--code", "{tmp}/bad.py", "mnist", "svhn"], "bad.py' is not Python (line 1"),
        (["compare", "--run", "{run}", "--code", "{alexnet}", "mnist", "mnist"], "'mnist' is compared with itself"),
        (["compare", "--run", "{run}", "--code", "{alexnet}", "mnist", "x", "--facts", "x=1,2"], "facts of 'x' are"),
        (["rank", "--run", "{tmp}", "--code", "{alexnet}"], "no run"),
        (["rank", "--run", "{run}", "--code", "{alexnet}", "--recipe", "lr=1"], "the recipe is not JSON"),
        (["rank", "--run", "{run}", "--code", "{alexnet}", "mnist"], "two datasets or more"),
        (["rank", "--run", "{run}", "--code", "{alexnet}", "--accuracies", "3"], "the value of --accuracies must be a"),
        (["rank", "--run", "{run}", "--code", "{alexnet}", "--facts", "1,2,3,4"], "facts are of a dataset with a name"),
        (["score", "--run", "{run}", "--codes", "{tmp}", "--out", "{tmp}/o", "--engine", "rya"], "engine 'rya'"),
        (["score", "--run", "{run}", "--codes", "{tmp}/none", "--out", "{tmp}/o"], "there is no '"),
        (["score", "--run", "{run}", "--codes", "{run}", "--out", "{tmp}/o", "mnist", " "], "a dataset's name must be"),
        (["score", "--run", "{run}", "--codes", "{run}", "--out", "{tmp}/o", "mnist"], "two datasets or more"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line_and_exit_code_2(
    run: RunResult, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "bad.py").write_text("def (")
    filled = [text.format(run=run.output_dir, tmp=tmp_path, alexnet=ALEXNET) for text in arguments]
    done = subprocess.run(
        [sys.executable, "-c", "from nngpt_ext.cli import main; main()", *filled], capture_output=True, text=True
    )
    assert done.returncode == 2
    error = done.stderr.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in done.stderr
    assert [file.name for file in tmp_path.iterdir()] == ["bad.py"]
