"""Models that see what they are asked to predict are refused, and what a model raises is said in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.plain import check_causal, plain_pass
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import load_base
from tests import models_made

ANOTHER = 'use another base model: model={"base": "embedded"}'


@pytest.mark.parametrize(("name", "model"), [("Bert", "BertLMHeadModel"), ("XLNet", "XLNetLMHeadModel")])
def test_models_that_see_later_tokens_are_refused(name: str, model: str, group: list[Example], tmp_path: Path) -> None:
    base = load_base(str(models_made.architecture(name, tmp_path)), load_in_4bit=False)
    with pytest.raises(UserError) as caught:
        check_causal(base.model, group[0], 0)
    assert str(caught.value) == (
        f"{model} is no causal language model: its predictions change with later tokens, so it would see the answers "
        f"that it scores; {ANOTHER}"
    )


@pytest.mark.parametrize("bits", [False, True])
@pytest.mark.parametrize(("name", "changes"), [("Bert", {"is_decoder": True}), ("Mixtral", {}), ("Mamba", {})])
def test_others_are_not(name: str, changes: Any, bits: bool, group: list[Example], tmp_path: Path) -> None:
    base = load_base(str(models_made.architecture(name, tmp_path, **changes)), load_in_4bit=bits)
    check_causal(base.model, group[0], 0)


def test_experts_in_16_bits_are_not(group: list[Example], tmp_path: Path) -> None:
    base = load_base(str(models_made.architecture("Mixtral", tmp_path)), load_in_4bit=False)
    check_causal(base.model.bfloat16(), group[0], 0)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("full"), UserError("said already")])
def test_errors_with_a_line_of_their_own_stay(error: Exception) -> None:
    with pytest.raises(type(error), match=str(error)), plain_pass(models_made.base("llama").model):
        raise error


def test_a_quantised_model_may_work_unquantised() -> None:
    model = models_made.base("llama", load_in_4bit=True).model.eval()
    with pytest.raises(UserError) as caught, plain_pass(model):
        raise KeyError("attribute 'weight'\nalready exists")
    assert str(caught.value) == (
        "LlamaForCausalLM cannot compute a question (KeyError: \"attribute 'weight'\\nalready exists\"); load it "
        f'unquantised: model={{"load_in_4bit": False}}; or {ANOTHER}'
    )
