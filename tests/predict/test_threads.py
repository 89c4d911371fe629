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
from nngpt_ext.io import text_digest
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
def test_threads_of_a_cold_process(run: RunResult, alone: list[float], predictors: int) -> None:
    found = at_once(run.output_dir, predictors)
    np.testing.assert_allclose(found, [alone] * THREADS, rtol=0, atol=1e-9)


@pytest.mark.slow
def test_twenty_cold_processes(run: RunResult, alone: list[float]) -> None:
    for number in range(20):
        found = at_once(run.output_dir, (1, 2, THREADS)[number % 3])
        np.testing.assert_allclose(found, [alone] * THREADS, rtol=0, atol=1e-9)


def test_a_source_is_never_taken_for_another(run: RunResult) -> None:
    asker = Predictor.from_run(run.output_dir).check

    class Interrupted(str):
        """While it is looked up, another thread asks about another source."""

        __hash__ = str.__hash__

        def __eq__(self, other: object) -> bool:
            return not self != other

        def __ne__(self, other: object) -> bool:
            thread = threading.Thread(target=asker, args=[Query("x = 2", "mnist", "svhn")])
            thread.start()
            thread.join()
            return str.__ne__(self, other)

    asker(Query("x = 1", "mnist", "svhn"))
    found = asker(Query(Interrupted("x = 1"), "mnist", "svhn"))
    assert found.source == text_digest("x = 1")
    assert found.key == asker(Query("x = 1", "mnist", "svhn")).key


def test_what_threads_store_is_what_one_alone_stores(run: RunResult, alone: list[float], tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'p.db'}"
    predictor, asked = Predictor.from_run(run.output_dir, store=url), questions()
    with ThreadPoolExecutor(THREADS) as pool:
        found = list(pool.map(lambda number: predictor.compare(*asked[number % len(asked)]).log_odds, range(48)))
    np.testing.assert_allclose(found, alone * 4, rtol=0, atol=1e-9)
    with PredictionStore.open(url) as store:
        assert len(store.query()) == len(asked)
    stored = Predictor.from_run(run.output_dir, store=url)
    assert [stored.compare(*one).log_odds for one in asked] == pytest.approx(alone, abs=1e-9)
    assert stored._scorer is None


def test_a_load_elsewhere_changes_no_answer(run: RunResult, alone: list[float]) -> None:
    """While transformers loads a model in bf16, that is torch's default for all threads."""
    import torch

    predictor = Predictor.from_run(run.output_dir)
    predictor.compare(*questions()[0])
    torch.set_default_dtype(torch.bfloat16)
    try:
        found = [predictor.compare(*one).log_odds for one in questions()]
    finally:
        torch.set_default_dtype(torch.float32)
    np.testing.assert_allclose(found, alone, rtol=0, atol=1e-9)
