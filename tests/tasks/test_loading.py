"""A loader reads records once, and keeps the last pairs and the last base model."""

from __future__ import annotations

from typing import Any

import pytest

from nngpt_ext.config import ModelConfig
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.tasks import loading
from nngpt_ext.tasks.loading import Loader
from tests.tasks.conftest import LOADER, TASK

FEW = DataConfig.model_validate(TASK["data"])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read, split or fitted, in name only."""
    seen: list[str] = []
    for name in ("read_records", "load_pairs", "baseline_probabilities"):

        def counted(*_: Any, name: str = name) -> object:
            seen.append(name)
            return object()

        monkeypatch.setattr(loading, name, counted)
    return seen


def test_records_are_read_once_and_the_last_pairs_kept(calls: list[str]) -> None:
    loader = Loader()
    data = loader.data(FEW)
    shown = FEW.model_copy(update={"code_tokens": 64, "pairs_per_network": 3})
    assert loader.data(shown) is data  # what is shown and drawn does not change the pairs
    loader.data(FEW.model_copy(update={"seed": 1}))
    assert loader.data(FEW) is not data
    assert calls == ["read_records", "load_pairs", "load_pairs", "load_pairs"]


def test_baselines_are_fitted_once(calls: list[str]) -> None:
    loader = Loader()
    assert loader.baselines(FEW) is loader.baselines(FEW)
    assert calls.count("baseline_probabilities") == 1


def test_the_base_model_is_loaded_once() -> None:
    small = ModelConfig.model_validate(TASK["model"])
    base = LOADER.base(small)
    assert LOADER.base(small.model_copy(update={"lora": {"r": 4}})) is base
