"""Bases of all kinds: 29 architectures take the whole way, and what differs between them is turned off or said."""

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
from nngpt_ext.models.architecture import make_deterministic, with_own_outputs
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
    "Rwkv": ("plain", "its attention cannot be exchanged.*masked: answers differ"),
    "StableLm": ("masked", "shared: answers differ"),
}
LORA = ResolvedLora(r=4, alpha=4, dropout=0.0)
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


LINES: dict[str, Any] = {
    **SMALL,
    "prompt": "recipe_structure",
    "tuning": {"epochs": 1, "learning_rate": 1e-3, "examples_per_step": 16, "head": "lines"},
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "changes"),
    [("Llama4", {}), ("OPT", {"word_embed_proj_dim": 32, "do_layer_norm_before": False}), ("Rwkv", {})],
)
def test_architectures_with_a_scoring_head(name: str, changes: Any, loader: Loader, tmp_path: Path) -> None:
    base = str(architecture(name, tmp_path / "base", **changes))
    run = run_pipeline(build_config(TaskConfig, LINES, {"model": {"base": base}}), tmp_path / "run", False, loader)
    assert run.report.accuracy.n == len(run.predictions[run.predictions["split"] == "test"]) > 0


@pytest.mark.parametrize(("name", "place"), [("Phimoe", "mlp"), ("Llama4", "feed_forward")])
def test_routers_that_return_several_tensors_are_left_as_they_are(name: str, place: str, tmp_path: Path) -> None:
    base = load_base(str(architecture(name, tmp_path)))
    routers = [f"model.layers.{layer}.{place}.router" for layer in (0, 1)]
    assert with_own_outputs(base.model) == routers
    assert all(base.model.get_submodule(router).weight.dtype == torch.float32 for router in routers)
    with with_adapter(base, LORA) as model:
        trained = {each for each, p in model.named_parameters() if p.requires_grad}
        assert any("q_proj.lora_A" in each for each in trained)
        assert not any("router" in each for each in trained)
        assert model.train()(torch.arange(3, 30)[None]).logits.isfinite().all()


def test_a_linear_layer_by_another_name_has_an_adapter(tmp_path: Path) -> None:
    """Falcon's layers are of a class of its own, with a `forward` of its own, and linear nevertheless."""
    base = load_base(str(architecture("Falcon", tmp_path)))
    assert type(base.model.transformer.h[0].mlp.dense_h_to_4h).__name__ == "FalconLinear"
    assert with_own_outputs(base.model) == []
    with with_adapter(base, LORA) as model:
        assert any("dense_h_to_4h.lora_A" in each for each, _ in model.named_parameters())


def test_activations_that_cannot_be_recomputed_are_one_line(loader: Loader, tmp_path: Path) -> None:
    base = str(architecture("CTRL", tmp_path / "base"))
    assert load_base(base).holds_activations(10**9)
    tuning = {**SMALL["tuning"], "gradient_checkpointing": True}
    config = build_config(TaskConfig, SMALL, {"model": {"base": base}, "tuning": tuning})
    with pytest.raises(UserError) as caught:
        run_pipeline(config, tmp_path / "run", False, loader)
    assert str(caught.value) == (
        'CTRLLMHeadModel cannot recompute its activations: tuning={"gradient_checkpointing": False}'
    )


def test_what_training_cannot_compute_is_said_in_one_line(
    loader: Loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is tried on the layers that will be trained, with one that no adapter fits."""
    monkeypatch.setattr("nngpt_ext.tuning.lora.with_own_outputs", lambda _: [])
    base = str(architecture("Phimoe", tmp_path / "base"))
    with pytest.raises(UserError) as caught:
        run_pipeline(build_config(TaskConfig, SMALL, {"model": {"base": base}}), tmp_path / "run", False, loader)
    assert str(caught.value) == (
        "PhimoeForCausalLM cannot compute a question (AttributeError: 'tuple' object has no attribute 'flatten'); load "
        'it unquantised: model={"load_in_4bit": False}; or use another base model: model={"base": "embedded"}'
    )


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("Gemma3n", {"altup.prediction_coefs", "altup.correction_coefs", "lm_head"}),
        ("Rwkv", {"attention.output", "feed_forward.value", "head"}),
    ],
)
def test_weights_that_a_model_changes_itself_are_not_in_4_bits(name: str, whole: set[str], tmp_path: Path) -> None:
    base = load_base(str(architecture(name, tmp_path)))
    assert {
        ".".join(each.split(".")[-2:]) for each, m in base.model.named_modules() if type(m) is torch.nn.Linear
    } == whole
    ids = torch.arange(3, 30)[None]
    with with_adapter(base, LORA) as model, torch.inference_mode():
        assert not any(each in part for part, p in model.named_parameters() if p.requires_grad for each in whole)
        first = model.train()(ids, use_cache=False).logits
        for mode in (False, True):  # back and forth, as epochs and their validation do
            assert torch.allclose(model.train(mode)(ids, use_cache=False).logits, first, atol=1e-5)


def test_a_model_without_a_limit_has_a_context(tmp_path: Path) -> None:
    base = load_base(str(architecture("XLNet", tmp_path)), load_in_4bit=False)
    assert base.model.config.max_position_embeddings == -1
    assert base.context == 2048


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


def test_layers_that_bitsandbytes_leaves_whole_are_named(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger="nngpt_ext")
    place = str(architecture("Falcon", tmp_path))
    model = load_base(place).model
    layers = ("dense", "dense_4h_to_h", "dense_h_to_4h", "query_key_value")
    n = sum(p.numel() for name, p in model.named_parameters() if name.split(".")[-2] in layers and p.ndim > 1)
    assert caplog.messages == [
        f"model.base {place}: {n:,} of its weights are not in 4 bits ({', '.join(layers)}), and take 0.3 MB in float32"
    ]


def test_of_experts_the_line_says_what_is_not_in_4_bits(tmp_path: Path, caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger="nngpt_ext")
    place = str(architecture("Mixtral", tmp_path, output_router_logits=True))
    base = load_base(place)
    n = 2 * 4 * 3 * 64 * 128  # layers, experts, matrices of each
    assert caplog.messages == [
        f"model.base {place}: {n:,} of its weights are not in 4 bits (experts), and take 0.8 MB in float32"
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
