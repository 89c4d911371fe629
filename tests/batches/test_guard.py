"""The guard lets shared prefixes through where they are exact, and nowhere else."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
import torch
import transformers as t

from nngpt_ext.batches.attention import installed
from nngpt_ext.batches.guard import ENGINES, TOLERANCE, checked_engine, largest_difference
from nngpt_ext.batches.rows import Example, scoring_example
from nngpt_ext.models.load import quiet_transformers
from tests import models_made
from tests.models_made import KINDS

from .asked import encoded


@pytest.fixture
def group() -> list[Example]:
    return [scoring_example(one) for one in encoded(models_made.base("llama"), "AlexNet", 3)]


def shape(**changes: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(models_made.tokenizer()), "hidden_size": 64, "intermediate_size": 128,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.2,
        "max_position_embeddings": 2048, "pad_token_id": 0, "bos_token_id": None, "eos_token_id": 1, **changes,
    }  # fmt: skip


SMALL = {"vocab_size": 4096, "hidden_size": 64, "n_layer": 2, "n_head": 4, "initializer_range": 0.2}
MODELS = {
    "sliding window": lambda: t.MistralForCausalLM(t.MistralConfig(**shape(sliding_window=16))),
    "wide window": lambda: t.MistralForCausalLM(t.MistralConfig(**shape(sliding_window=4096))),
    "ALiBi": lambda: t.BloomForCausalLM(t.BloomConfig(**SMALL)),
    "soft-capped scores": lambda: t.Gemma2ForCausalLM(t.Gemma2Config(**shape(head_dim=16))),
    "learned positions": lambda: t.GPT2LMHeadModel(
        t.GPT2Config(vocab_size=4096, n_embd=64, n_layer=2, n_head=4, initializer_range=0.2)
    ),
    "attention dropout": lambda: t.Qwen2ForCausalLM(t.Qwen2Config(**shape(attention_dropout=0.1))),
    "no attention": lambda: t.MambaForCausalLM(t.MambaConfig(vocab_size=4096, hidden_size=64, num_hidden_layers=2)),
}


def made(what: str) -> Any:
    torch.manual_seed(0)
    with quiet_transformers():
        return MODELS[what]().eval()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("bits", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_models_keep_the_engine(kind: str, bits: bool, engine: str, group: list[Example], caplog: Any) -> None:
    model = models_made.base(kind, load_in_4bit=bits).model
    assert checked_engine(model, group, 0, engine) == engine
    assert caplog.records == []
    if engine != "plain":
        assert largest_difference(model, group, 0, engine) < 1e-4


@pytest.mark.parametrize(
    ("what", "engine", "why"),
    [
        ("wide window", "shared", ""),
        ("learned positions", "shared", ""),
        ("soft-capped scores", "masked", "does not do softcap"),
        ("attention dropout", "masked", "does not do attention dropout 0.1"),
        ("sliding window", "plain", "sliding_window 16.*masked: answers differ by"),
        ("ALiBi", "plain", "cannot be exchanged.*masked: it refuses such rows"),
        ("no attention", "plain", "masked: it refuses such rows"),
    ],
)
def test_others_fall_back_with_one_warning(what: str, engine: str, why: str, group: list[Example], caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger="nngpt_ext")
    model = made(what)
    before = model.config._attn_implementation
    assert checked_engine(model, group, 0, "shared") == engine
    assert len(caplog.records) == (engine != "shared")
    if engine != "shared":
        message = caplog.messages[0]
        assert f"not exact on {type(model).__name__} (shared: " in message
        assert message.endswith(f"computing with tuning.engine {engine} instead")
        assert re.search(why, message)
        assert model.config._attn_implementation == before
    assert not model.training


def test_a_fallback_computes_what_plain_does(group: list[Example]) -> None:
    model = made("soft-capped scores")
    assert largest_difference(model, group, 0, checked_engine(model, group, 0, "shared")) < 1e-4


def test_what_is_caught_is_far_above_the_tolerance(group: list[Example]) -> None:
    model = made("sliding window")
    assert largest_difference(model, group, 0, "masked") > 100 * TOLERANCE[torch.float32]


def test_one_question_has_nothing_to_share(group: list[Example]) -> None:
    model = made("wide window")
    assert checked_engine(model, group[:1], 0, "shared") == "plain"
    assert not installed(model)


def test_training_goes_on_as_it_was(group: list[Example]) -> None:
    model = made("wide window").train()
    assert checked_engine(model, group, 0, "shared") == "shared"
    assert model.training
