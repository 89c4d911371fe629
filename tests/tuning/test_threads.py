"""Threads: the faster number is kept, the user's own is left alone, and no result depends on it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nngpt_ext.batches.engine import checked_engine
from nngpt_ext.models.base import adapted
from nngpt_ext.scoring.log_odds import log_odds
from nngpt_ext.tuning import thread_choice, threads
from nngpt_ext.tuning.thread_choice import ThreadChoice
from nngpt_ext.tuning.threads import kept_threads, threads_are_free
from nngpt_ext.tuning.trainer import train
from tests import models_made
from tests.batches.asked import encoded
from tests.tuning.test_trainer import UNMEASURED, config, groups_of


@pytest.fixture(autouse=True)
def restored() -> Any:
    with kept_threads():
        yield


def chosen(monkeypatch: pytest.MonkeyPatch, speeds: list[dict[int, float]], device: str = "cpu") -> list[int]:
    """The number of threads of each of six steps in every epoch, whose speeds (tokens/s) are given."""
    clock, used = [0.0], []
    monkeypatch.setattr(thread_choice, "threads_are_free", lambda: True)
    monkeypatch.setattr(thread_choice.time, "perf_counter", lambda: clock[0])
    torch.set_num_threads(2)
    trainer: Any = SimpleNamespace(
        n_tokens=0, args=SimpleNamespace(device=torch.device(device)), plan=SimpleNamespace(epoch_ends=[6, 12, 18])
    )
    choice = ThreadChoice(trainer)
    for step in range(6 * len(speeds)):
        state = SimpleNamespace(global_step=step)
        choice.on_step_begin(None, state, None)
        used.append(torch.get_num_threads())
        clock[0] += 100 / speeds[step // 6][used[-1]]
        trainer.n_tokens += 100
        choice.on_step_end(None, state, None)
    return used


def test_the_faster_number_is_kept_and_found_again_in_each_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    used = chosen(monkeypatch, [{1: 10, 2: 2}, {1: 10, 2: 18}, {1: 10, 2: 8}])
    assert used == [1, 2, 1, 1, 1, 1, 1, 2, 1, 2, 2, 2, 1, 2, 1, 2, 1, 1]


def test_a_card_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    assert chosen(monkeypatch, [{1: 10, 2: 2}], "cuda") == [2] * 6


def test_what_the_user_has_set_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(threads.psutil, "cpu_count", lambda logical=True: 3)
    torch.set_num_threads(3)
    assert threads_are_free()
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert not threads_are_free()
    monkeypatch.delenv("OMP_NUM_THREADS")
    torch.set_num_threads(1)
    assert not threads_are_free()


def test_the_number_of_threads_changes_no_result(tmp_path: Path) -> None:
    """Up to what fp32 rounds: on most machines not even the last bit, on one with AVX512 the last two."""
    base, found = models_made.base("llama", load_in_4bit=True), []
    assert checked_engine(base.model, groups_of(base)[0], 0, "shared") == "shared"
    for number in (1, 2):
        torch.set_num_threads(number)
        history = train(base, groups_of(base), UNMEASURED, config(examples_per_step=8), tmp_path / f"{number}")
        with adapted(base, tmp_path / f"{number}" / history[-1]["checkpoint"]) as model:
            odds = log_odds(model, [encoded(base)], row_tokens=2048, pad=0)
        assert [entry["threads"] for entry in history] == [number, number]
        found.append(([entry["train_loss"] for entry in history], np.concatenate(odds)))
    assert found[0][0] == pytest.approx(found[1][0], abs=1e-6)
    assert np.abs(found[0][1] - found[1][1]).max() <= 1e-5
