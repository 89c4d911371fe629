"""The types that users see: a client program under `mypy --strict`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CLIENT = """
from datetime import datetime
from pathlib import Path

from nngpt_ext import (
    Comparison, PredictionStore, Predictor, Query, Ranking, RunResult, Template, register_prompt, run_task,
)
from nngpt_ext.host import tune_main
from nngpt_ext.scoring.scorer import Scorer

register_prompt("mine")(Template("mine", "system", "{a} or {b}?", {"a": "dataset", "b": "dataset_2"}))
result = run_task("dataset_compare", config="task.yaml", prompt="mine", output_dir="runs/a")
reveal_type(result.report.per_dataset)
reveal_type(result.report.accuracy.value)
reveal_type(result.predictions)
reveal_type(tune_main(llm_conf="x.json").report.skill.value)


def another(name: str) -> RunResult[object]:
    return run_task(name)


def used(scorer: Scorer) -> None:
    predictor = Predictor.from_run("runs/a", store="sqlite:///p.db", facts={"flowers": (1020, 224, 3, 102)})
    predictor = Predictor.from_pretrained(Path("adapter"), revision=None, base="embedded")
    predictor = Predictor("adapter", scorer=scorer)
    c: Comparison = predictor.compare("code", "mnist", "svhn", recipe={"lr": 0.1, "batch": 64})
    reveal_type(c.probability)
    reveal_type(c.winner)
    for c in predictor.compare_many([Query("code", "mnist", "svhn", nn="mine")]):
        print(c.confidence, c.abstain)
    r: Ranking = predictor.rank("code", datasets=None, recipe={"mnist": {"lr": 0.1}, "svhn": {"lr": 0.2}})
    reveal_type(r.datasets)
    reveal_type(predictor.adapter_hash)
    with PredictionStore.open("sqlite:///p.db") as store:
        rows = store.query(nn="AlexNet", dataset="mnist", adapter_hash="ab", since=datetime(2026, 1, 1))
        reveal_type(rows)
"""
TYPES = [
    "DataFrame", "float", "DataFrame", "float", "float", "str", "tuple[str, ...]", "str", "DataFrame",
]  # fmt: skip
WRONG = """
from nngpt_ext import Predictor

Predictor.from_run("runs/a", bsae="embedded")
Predictor.from_run("runs/a").adapter
"""


def checked(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    if find_spec("mypy") is None or find_spec("pandas-stubs") is None:
        pytest.skip("needs mypy and pandas-stubs: pip install 'nngpt-ext[dev]'")
    (folder / "client.py").write_text(text)
    command = [sys.executable, "-m", "mypy", "--strict", "--follow-imports=silent", "--config-file=", "client.py"]
    # The package is found beside the client, wherever it is installed.
    (folder / "nngpt_ext").symlink_to(ROOT / "nngpt_ext")
    env = {**os.environ, "MYPY_CACHE_DIR": str(folder / "cache")}
    return subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_a_client_program(tmp_path: Path) -> None:
    done = checked(CLIENT, tmp_path)
    assert done.returncode == 0, done.stdout
    found = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert [re.sub(r"(\w+\.)+(?=\w)", "", one) for one in found] == TYPES  # without the modules


@pytest.mark.slow
def test_mistakes_are_seen(tmp_path: Path) -> None:
    said = checked(WRONG, tmp_path).stdout
    assert 'Unexpected keyword argument "bsae" for "from_run" of "Predictor"' in said
    assert '"Predictor" has no attribute "adapter"' in said


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "nngpt_ext" / "py.typed").is_file()
