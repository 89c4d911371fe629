"""The guard lets shared prefixes through where they are exact, and nowhere else."""

from __future__ import annotations

import logging
import re
from typing import Any

import pytest
import torch
import transformers as t
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from nngpt_ext.batches import attention
from nngpt_ext.batches.attention import installed
from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.engine import (
    ENGINES,
    GRADIENT_TOLERANCE,
    SAME,
    checked_engine,
    largest_difference,
    leak,
    positions_matter,
    rounding,
)
from nngpt_ext.batches.plain import TOLERANCE
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import quiet_transformers
from tests import models_made
from tests.models_made import KINDS

from .asked import encoded


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
    caplog.clear()  # of what loading says
    assert checked_engine(model, group, 0, engine) == engine
    assert caplog.records == []
    if engine != "plain":
        assert largest_difference(model, group, 0, engine) < 1e-4


@pytest.mark.parametrize(
    ("what", "engine", "why"),
    [
        ("wide window", "shared", ""),
        ("learned positions", "shared", ""),
        ("soft-capped scores", "masked", "does not support softcap"),
        ("sliding window", "plain", "its sliding_window is only 16; masked: questions may have"),
        ("ALiBi", "plain", "cannot be exchanged.*masked: it refuses such rows"),
        ("no attention", "plain", "masked: it refuses such rows"),
    ],
)
def test_others_fall_back_with_one_warning(what: str, engine: str, why: str, group: list[Example], caplog: Any) -> None:
    caplog.set_level(logging.WARNING, logger="nngpt_ext")
    model = made(what)
    before = model.config._attn_implementation
    assert checked_engine(model, group, 0, "shared") == engine
    messages = [record.getMessage() for record in caplog.records if record.name.startswith("nngpt_ext")]
    assert len(messages) == (engine != "shared")
    if engine != "shared":
        [message] = messages
        assert f"not exact on {type(model).__name__} (shared: " in message
        assert message.endswith(f"computing with tuning.engine {engine} instead")
        assert re.search(why, message)
        assert model.config._attn_implementation == before
    assert not model.training


@pytest.mark.parametrize(("training", "engine"), [(False, "shared"), (True, "plain")])
def test_a_model_is_tried_as_it_will_be_used(training: bool, engine: str, group: list[Example], caplog: Any) -> None:
    """Dropout that loading did not turn off: none in scoring, and in training no two passes are the same."""
    model = made("attention dropout")
    assert checked_engine(model, group, 0, "shared", training=training) == engine
    if training:
        assert (
            "shared: it refuses such rows (ValueError: attention in parts does not support attention dropout 0.1)"
            in (caplog.text)
        )
        assert re.search(r"masked: answers differ by .* in log-probability in training", caplog.text)
    assert not model.training


@pytest.mark.parametrize("place", ["build_row", "positions_matter", "layout_of"])
def test_an_error_of_the_check_itself_is_an_error(
    place: str, group: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("a fault of ours")

    monkeypatch.setattr(f"nngpt_ext.batches.{'tensors' if place == 'layout_of' else 'engine'}.{place}", broken)
    model = made("wide window").train()
    with pytest.raises(ValueError, match="a fault of ours"):
        checked_engine(model, group, 0, "shared")
    assert model.training


@pytest.mark.parametrize(("n", "training"), [(2, False), (2, True), (1, True)])
def test_a_model_that_cannot_compute_a_question_alone_is_refused(n: int, training: bool, group: list[Example]) -> None:
    torch.manual_seed(0)
    small = t.Qwen2ForCausalLM(t.Qwen2Config(**shape(vocab_size=8))).eval()
    for engine in ("masked", "plain") if training else ("masked",):
        with pytest.raises(UserError) as caught:
            checked_engine(small, group[:n], 0, engine, training=training)
        assert str(caught.value) == (
            f"Qwen2ForCausalLM cannot compute a question{' in training' * training} (IndexError: index out of range in "
            'self); use another base model: model={"base": "embedded"}'
        )
        assert not small.training


def test_a_model_that_changes_its_embeddings_in_place_keeps_the_engine(group: list[Example]) -> None:
    torch.manual_seed(0)
    config = t.CTRLConfig(vocab_size=4096, n_embd=64, dff=128, n_layer=2, n_head=4, resid_pdrop=0, embd_pdrop=0)
    assert checked_engine(t.CTRLLMHeadModel(config).eval(), group, 0, "shared", training=True) == "shared"


def test_a_fallback_computes_what_plain_does(group: list[Example]) -> None:
    model = made("soft-capped scores")
    assert largest_difference(model, group, 0, checked_engine(model, group, 0, "shared")) < 1e-4


@pytest.mark.parametrize("what", ["wide window", "soft-capped scores"])
def test_a_window_must_be_wider_than_any_question_may_be(what: str, group: list[Example], caplog: Any) -> None:
    """Longer questions than those that are tried may come, and a mask from outside would take the window's place."""
    model = made(what)
    assert checked_engine(model, group, 0, "masked", 4096) == "masked"
    assert checked_engine(model, group, 0, "shared", 4097) == "plain"
    assert "questions may have 4097 tokens, and its sliding_window is only 4096" in caplog.text


def test_a_question_and_its_option_must_fit_into_the_window(group: list[Example]) -> None:
    longest = max(len(one.prompt) + max(len(answer) for answer in one.answers) for one in group)
    for window, engine in ((longest, "shared"), (longest - 1, "plain")):
        torch.manual_seed(0)
        model = t.MistralForCausalLM(t.MistralConfig(**shape(sliding_window=window))).eval()
        assert checked_engine(model, group, 0, "shared") == engine


def test_an_engine_without_a_way_back_is_found(group: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    def no_way_back(*_: Any, **__: Any) -> None:
        raise RuntimeError("no kernel for the backward pass")

    monkeypatch.setattr("nngpt_ext.batches.attention._flash_backward", no_way_back)
    assert checked_engine(made("wide window"), group, 0, "shared") == "masked"


@pytest.mark.parametrize("coarse", [0.2, 0.001])
def test_in_16_bits_what_rounding_explains_is_measured(
    coarse: float, group: list[Example], caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made("wide window").bfloat16()
    assert 0 < rounding(model, group, 0) < 1
    # An engine whose answers differ by half: rounding of 0.2 explains it (four times), of 0.001 not.
    monkeypatch.setattr("nngpt_ext.batches.engine.largest_difference", lambda *_: 0.5)
    monkeypatch.setattr("nngpt_ext.batches.engine.rounding", lambda *_: coarse)
    assert checked_engine(model, group, 0, "masked") == ("masked" if coarse == 0.2 else "plain")
    assert ("answers differ by 0.5" in caplog.text) == (coarse != 0.2)


def test_what_is_caught_is_far_above_the_tolerance(group: list[Example]) -> None:
    model = made("sliding window")
    assert largest_difference(model, group, 0, "masked") > 100 * TOLERANCE[torch.float32]


def blind(module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **rest: Any) -> Any:
    """Attention that takes a mask and ignores it."""
    rest = {name: rest[name] for name in ("dropout", "scaling") if name in rest}
    return sdpa_attention_forward(module, query, key, value, None, is_causal=True, **rest)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_mask_that_is_ignored_is_found_however_coarse_the_rounding(
    dtype: torch.dtype, group: list[Example], caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    t.AttentionInterface.register("blind", blind)
    torch.manual_seed(0)
    # With weights drawn this small, what a wrong mask changes is below what bf16 rounds.
    config = t.Qwen2Config(**{**shape(), "initializer_range": 0.03, "attn_implementation": "blind"})
    model = t.Qwen2ForCausalLM(config).eval().to(dtype)
    for table in (TOLERANCE, GRADIENT_TOLERANCE):  # so that answers and gradients alone do not tell
        monkeypatch.setitem(table, dtype, 10.0)
    assert leak(model, group, "masked") > 100 * SAME
    assert checked_engine(model, group, 0, "masked") == "plain"
    assert "questions see each other" in caplog.text


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("engine", ["shared", "masked"])
def test_nothing_leaks_in_any_type(dtype: torch.dtype, engine: str, group: list[Example]) -> None:
    model = made("wide window").to(dtype)
    assert checked_engine(model, group, 0, engine) == engine
    assert leak(model, group, engine) == 0
    assert positions_matter(model, group, engine)


def test_positions_that_are_ignored_are_found(group: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("wide window")
    rotary = model.model.rotary_emb.forward
    monkeypatch.setattr(
        model.model.rotary_emb, "forward", lambda x, position_ids: rotary(x, torch.arange(x.shape[1])[None])
    )
    assert not positions_matter(model, group, "masked")
    monkeypatch.setitem(TOLERANCE, torch.float32, 100.0)
    assert checked_engine(model, group, 0, "masked") == "plain"


def test_out_of_memory_is_said_in_one_line(group: list[Example], monkeypatch: pytest.MonkeyPatch) -> None:
    model = made("wide window")

    def full(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(model.model, "forward", full)
    with pytest.raises(UserError, match=r"out of memory .* lower data\.code_tokens"):
        checked_engine(model, group, 0, "shared")


def test_one_question_has_nothing_to_share(group: list[Example]) -> None:
    model = made("wide window")
    assert checked_engine(model, group[:1], 0, "shared") == "plain"
    assert not installed(model)


def test_training_goes_on_as_it_was(group: list[Example]) -> None:
    model = made("wide window").train()
    assert checked_engine(model, group, 0, "shared") == "shared"
    assert model.training


plain_backward, plain_prefixes = attention._flash_backward, attention._prefixes


@pytest.mark.parametrize("factors", [(3, 3, 3), (1, 0, 0), (torch.nan, torch.nan, torch.nan)])
def test_wrong_gradients_are_found(factors: tuple[float, ...], monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    model = models_made.base("llama", load_in_4bit=False).model
    group = encoded(models_made.base("llama"), "AlexNet", 6)
    assert checked_engine(model, group, 0, "shared", training=True) == "shared"

    def broken(*given: Any, **named: Any) -> Any:
        return tuple(f * each for f, each in zip(factors, plain_backward(*given, **named), strict=True))

    monkeypatch.setattr(attention, "_flash_backward", broken)
    assert checked_engine(model, group, 0, "shared", training=True) == "masked"
    assert re.search(r"\(shared: its gradients differ by (nan|\S+) %\)", caplog.text)


def test_networks_of_a_row_that_see_each_other_are_found(monkeypatch: pytest.MonkeyPatch, caplog: Any) -> None:
    model = models_made.base("llama", load_in_4bit=False).model
    group = encoded(models_made.base("llama"), "AlexNet", 6)

    def leaking(layout: Any, length: int) -> Any:
        """A question also sees all that stands before its own network in the row."""
        parts = plain_prefixes(layout, length)
        return [(q, k if causal else slice(0, k.stop), causal) for q, k, causal in parts]

    monkeypatch.setattr(attention, "_prefixes", leaking)
    assert checked_engine(model, group, 0, "shared") == "masked"
    assert "shared: answers differ by" in caplog.text
