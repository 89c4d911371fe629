"""Bases of all kinds: 24 architectures take the whole way, and what differs between them is turned off or said."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from nngpt_ext import Predictor
from nngpt_ext.config import ResolvedLora, TaskConfig
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.errors import UserError
from nngpt_ext.models.architecture import make_deterministic
from nngpt_ext.models.base import load_base
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.pipeline import Loader, run_pipeline
from nngpt_ext.tuning.lora import with_adapter
from tests.models_made import ARCHITECTURES, architecture

# The engine of each architecture that does not keep `shared`, and why.
FALLBACKS = {
    "Bloom": ("plain", "its attention cannot be exchanged.*masked: it refuses such rows"),
    "Falcon": ("masked", "its attention cannot be exchanged"),
    "GPTJ": ("masked", "its attention cannot be exchanged"),
    "GPTNeo": ("plain", "its window_size is only 256"),
    "Gemma2": ("masked", "does not support softcap"),
    "Mamba": ("plain", "it refuses such rows.*masked: it refuses such rows"),
    "Mpt": ("plain", "its attention cannot be exchanged.*masked: answers differ"),
    "StableLm": ("masked", "shared: answers differ"),
}
SMALL = {
    "prompt": "code_only",
    "data": {
        "train_networks": 4, "validation_networks": 3, "test_networks": 3, "code_tokens": 48, "pairs_per_network": 3,
    },
    "tuning": {"epochs": 1, "learning_rate": 1e-3, "examples_per_step": 16},
    "store": None,
}  # fmt: skip


@pytest.fixture(scope="module")
def loader() -> Loader:
    return Loader()


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_takes_the_whole_way(
    name: str, loader: Loader, lemur_source: PackageSource, tmp_path: Path, caplog: Any, record_property: Any
) -> None:
    """Trained, scored and reported in 4 bits, with the engine that is exact, and asked again from the adapter."""
    caplog.set_level(logging.WARNING, logger="nngpt_ext")
    base = str(architecture(name, tmp_path / "base"))
    config = build_config(TaskConfig, SMALL, {"model": {"base": base}})
    run = run_pipeline(config, tmp_path / "run", False, loader)
    said = [message for message in caplog.messages if "shared prefixes are not exact" in message]
    engine, why = FALLBACKS.get(name, ("shared", ""))
    record_property("figures", f"{name}: {engine}")
    assert len(said) == (engine != "shared")
    if said:
        assert said[0].endswith(f"computing with tuning.engine {engine} instead")
        assert re.search(why, said[0])
    assert run.report.accuracy.n == len(run.predictions[run.predictions["split"] == "test"]) > 0
    row = run.predictions.iloc[-1]
    code, one, two = lemur_source.sources([row["nn"]])[row["nn"]], row["dataset_1"], row["dataset_2"]
    predictor = Predictor.from_run(run.output_dir)
    asked, turned = predictor.compare(code, one, two), predictor.compare(code, two, one)
    assert asked.log_odds == -turned.log_odds
    assert asked.probability + turned.probability == 1.0
    assert asked.log_odds == pytest.approx(row["log_odds"], abs=1e-4)


@pytest.mark.parametrize(
    ("name", "changes", "off"),
    [
        ("GPT2", {}, "attn_pdrop 0.1, embd_pdrop 0.1, resid_pdrop 0.1, summary_first_dropout 0.1"),
        ("OPT", {"attention_dropout": 0.2, "layerdrop": 0.5}, "attention_dropout 0.2, dropout 0.1, layerdrop 0.5"),
        ("Mpt", {"emb_pdrop": 0.1}, "emb_pdrop 0.1"),
        ("Mixtral", {"router_jitter_noise": 0.4}, "router_jitter_noise 0.4"),
    ],
)
def test_a_bases_own_dropout_is_off(name: str, changes: Any, off: str, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO, logger="nngpt_ext")
    model = load_base(str(architecture(name, tmp_path, **changes)), load_in_4bit=False).model
    assert f"its own dropout is off ({off}); training uses model.lora.dropout" in caplog.text
    ids = torch.arange(3, 30)[None]
    with torch.inference_mode():
        assert torch.equal(model.train()(ids).logits, model.train()(ids).logits)


def test_nothing_is_said_where_nothing_is_dropped(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.INFO, logger="nngpt_ext")
    load_base(str(architecture("Llama", tmp_path)))
    assert caplog.messages == []


def test_attention_that_a_configuration_asks_for_is_not_needed() -> None:
    import transformers as t

    config = t.LlamaConfig(attn_implementation="flash_attention_2")
    assert make_deterministic(config) == []
    assert config._attn_implementation is None


def test_the_configuration_of_a_text_model_inside_another_counts() -> None:
    import transformers as t

    config = t.Gemma3Config(text_config={"attention_dropout": 0.1})
    assert "attention_dropout 0.1" in make_deterministic(config)
    assert config.text_config.attention_dropout == 0


def test_of_experts_the_line_says_what_is_not_in_4_bits(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger="nngpt_ext")
    place = str(architecture("Mixtral", tmp_path, output_router_logits=True))
    base = load_base(place)
    n = 2 * 4 * 3 * 64 * 128  # layers, experts, matrices of each
    assert caplog.messages == [
        f"model.base {place}: its experts, {n:,} of its weights, are not in 4 bits, and take 0.0 GB in float32"
    ]
    assert not base.model.config.output_router_logits
    with with_adapter(base, ResolvedLora(r=4, alpha=4, dropout=0.1)) as model:
        assert model.peft_config["default"].lora_dropout == 0
    assert caplog.messages[1:] == ["model.lora.dropout 0.1 is not used: PEFT has no dropout for a mixture of experts"]


@pytest.mark.parametrize("bits", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(bits: bool, bad: float, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    place = architecture("Llama", tmp_path)
    weights, name = load_file(place / "model.safetensors"), "model.layers.1.mlp.up_proj.weight"
    weights[name][3, 5] = bad
    save_file(weights, place / "model.safetensors", {"format": "pt"})
    with pytest.raises(UserError) as caught:
        load_base(str(place), load_in_4bit=bits)
    assert str(caught.value) == f"base model '{place}' has weights that are NaN or infinite ({name}); fetch it again"
