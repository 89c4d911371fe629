"""Embeddings by a frozen model: the mean of its last hidden states, computed once, with both heads."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers.processors import TemplateProcessing

from nngpt_ext.compact import compact_code
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation.baselines import BASELINES
from nngpt_ext.evaluation.baselines import frozen_lm as module
from nngpt_ext.models.base import load_base
from nngpt_ext.tasks.inspection import evaluate_baselines
from tests import models_made


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NNGPT_EXT_CACHE", str(tmp_path))
    return tmp_path


def test_an_embedding_is_the_mean_of_the_last_states_and_is_kept(
    cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    base, source = models_made.base("llama"), models_made.sources()["AlexNet"]
    ids = base.tokenizer(compact_code(source), add_special_tokens=False)["input_ids"][: module.TOKENS]
    with torch.inference_mode():
        states = base.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
    found = module.embeddings(base, [source])[source]
    assert found == pytest.approx(states[0].mean(dim=0).numpy(), abs=1e-5)
    with monkeypatch.context() as patch:
        patch.setattr(module, "_embedding", lambda *_: pytest.fail("computed again"))
        assert np.array_equal(module.embeddings(base, [source])[source], found)
    (file,) = (cache / "embeddings").iterdir()
    file.write_bytes(b"cut")
    with caplog.at_level(logging.WARNING, logger="nngpt_ext"):
        assert np.array_equal(module.embeddings(base, [source])[source], found)
    assert "is damaged" in caplog.text


def test_another_tokenizer_has_embeddings_of_its_own(cache: Path, tmp_path: Path) -> None:
    """One that begins a text by itself begins a source, too."""
    folder, source = models_made.folder("llama"), models_made.sources()["AlexNet"]
    other = shutil.copytree(folder, tmp_path / "other")
    words = models_made.tokenizer()
    words.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"{words.eos_token} $A", special_tokens=[(words.eos_token, words.eos_token_id)]
    )
    words.bos_token = words.eos_token
    words.save_pretrained(other)
    one, two = (load_base(str(place), load_in_4bit=False) for place in (folder, other))
    assert one.sha256 == two.sha256
    before, found = module.embeddings(one, [source])[source], module.embeddings(two, [source])[source]
    ids = two.tokenizer(compact_code(source))["input_ids"][: module.TOKENS]
    assert ids[0] == words.eos_token_id
    with torch.inference_mode():
        states = two.model(torch.tensor([ids]), output_hidden_states=True).hidden_states[-1]
    assert found == pytest.approx(states[0].mean(dim=0).numpy(), abs=1e-5)
    assert not np.allclose(before, found)


def test_both_heads_stand_beside_the_other_baselines() -> None:
    small = DataConfig(train_networks=250, validation_networks=4, test_networks=60)
    found = evaluate_baselines(small, "embedded-small")["baselines"]
    for name in ("frozen_lm_linear", "frozen_lm_trees"):
        assert 0.6 < found[name]["accuracy"] <= 1
        assert found[name]["beyond_best_prior"]["prior"] in ("pair_prior", "kind_prior")
    assert not any(name.startswith("frozen_lm") for name in BASELINES)  # of every report
