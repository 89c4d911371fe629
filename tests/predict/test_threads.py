"""Many threads ask at once: each gets the answer that it would get alone, in cold processes too."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngpt_ext import PredictionStore, Predictor, Query, RunResult
from nngpt_ext.lemur.unpaired import source_hash
from tests.predict.askers import THREADS, questions

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def alone(run: RunResult) -> list[float]:
    """What one thread is answered."""
    predictor = Predictor.from_run(run.output_dir)
    return [predictor.compare(*one).log_odds for one in questions()]


def at_once(run: Path, predictors: int) -> Any:
    """What the threads of a fresh process are answered."""
    command = [sys.executable, "-m", "tests.predict.askers", str(run), str(predictors)]
    # One thread of arithmetic each, as in this process: the same sums in the same order.
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout)


@pytest.mark.parametrize("predictors", [1, 2])
def test_threads_of_a_cold_process_are_answered_as_one_alone(run: RunResult, alone: list[float], predictors: int) -> None:
    found = at_once(run.output_dir, predictors)
    np.testing.assert_allclose(found, [alone] * THREADS, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_twenty_cold_processes(run: RunResult, alone: list[float]) -> None:
    for number in range(20):
        found = at_once(run.output_dir, (1, 2, THREADS)[number % 3])
        np.testing.assert_allclose(found, [alone] * THREADS, rtol=0, atol=1e-9)
