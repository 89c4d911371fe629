"""Without the libraries that load language models: what works all the same, and what the rest says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from nngpt_ext.light import MODELS, absent, check_whole, needed

# As in an environment where they were never installed, except that their metadata are there.
WITHOUT = f"""
import sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
PathFinder.find_spec = classmethod(
    lambda cls, name, *more: None if name.split(".")[0] in {(*MODELS, "torchvision")} else find(name, *more)
)
"""
NO_MODEL = (
    "a light installation loads no language model: accelerate, bitsandbytes, datasets, peft, safetensors, tokenizers, "
    "torch, transformers and trl are not installed; type: "
)


def python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, cwd=folder)


def shell(*words: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return python(f"sys.argv = {['nngpt-ext', *words]!r}\nfrom nngpt_ext.cli import main\nmain()", folder)


def test_here_nothing_is_absent() -> None:
    assert absent() == []
    assert check_whole() == "their libraries are installed"


def test_what_it_needs_is_everything_else() -> None:
    light = {re.split(r"[^\w.-]", line)[0] for line in needed()}
    assert not light & set(MODELS)
    assert {"numpy", "pandas", "pyarrow", "pydantic", "rich", "scikit-learn", "sqlalchemy", "typer"} <= light
    assert all(" " not in line and ";" not in line for line in needed())  # a shell splits them at white space


def test_the_list_is_printed_without_any_library(tmp_path: Path) -> None:
    """-S leaves site-packages out: as after `pip install --no-deps`, there are the package and its metadata only."""
    (tmp_path / "nngpt_ext-0.dist-info").mkdir()
    own = str(metadata.distribution("nngpt-ext").metadata)
    (tmp_path / "nngpt_ext-0.dist-info" / "METADATA").write_text(own, encoding="utf-8")
    path = os.pathsep.join(map(str, (tmp_path, Path(__file__).parents[1])))
    command = [sys.executable, "-S", "-m", "nngpt_ext.light"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": path})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == needed()


def test_a_store_can_be_queried(tmp_path: Path) -> None:
    done = python(
        "from nngpt_ext import PredictionStore\n"
        "print(len(PredictionStore.open('sqlite:///a.db').query(dataset='mnist', min_confidence=0.9)))",
        tmp_path,
    )
    assert (done.returncode, done.stdout.strip()) == (0, "0"), done.stderr


@pytest.mark.parametrize("words", [["--help"], ["tasks"], ["pairs"], ["examples"]])
def test_commands_that_work(words: list[str], tmp_path: Path) -> None:
    done = shell(*words, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ["run", "dataset_compare", "--set", "model.base=embedded", "--out", "run"],
        ["study", "--config", "examples/study_quick.yaml", "--out", "study"],
        ["host", "status"],
    ],
)
def test_commands_that_say_what_to_install(words: list[str], tmp_path: Path) -> None:
    assert shell("examples", folder=tmp_path).returncode == 0
    done = shell(*words, folder=tmp_path)
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last[: 7 + len(NO_MODEL)]) == (2, f"error: {NO_MODEL}"), done.stderr
    assert "install" in last
    assert "torch>=2.6" in last
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "study").exists()


def test_in_python_too(tmp_path: Path) -> None:
    done = python(
        "from nngpt_ext import UserError, run_task\n"
        "try:\n    run_task('dataset_compare', model={'base': 'embedded'}, config={}, output_dir='run')\n"
        "except UserError as error:\n    print(error)",
        tmp_path,
    )
    assert done.stdout.startswith(NO_MODEL), done.stderr


def test_doctor_says_it_once(tmp_path: Path) -> None:
    done = shell("doctor", folder=tmp_path)
    assert done.returncode == 1, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("broken")]
    assert line.startswith(f"broken  language models: {NO_MODEL}")
    assert "traceback" not in (done.stdout + done.stderr).lower()


def test_one_that_is_missing_alone_is_no_light_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nngpt_ext.light.MODELS", ("torch", "nothing_of_this_name"))
    assert absent() == ["nothing_of_this_name"]
    assert check_whole() == "their libraries are installed"
