"""A folder whose weights are not those of its configuration is refused in one line, in 4 bits and without."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from nngpt_ext.errors import UserError
from nngpt_ext.models.base import load_base
from tests import models_made

ADVICE = "; fetch the model again, or use another base model"
OTHER = {"model_type": "bert", "architectures": ["BertLMHeadModel"]}


def changed(to: Path, leave_out: str = "", more: dict[str, torch.Tensor] | None = None, **config: Any) -> Path:
    """The small Llama without some of its weights, with others, and with changes of its configuration."""
    place = Path(shutil.copytree(models_made.folder("llama"), to / "model"))
    file = place / "model.safetensors"
    weights = {name: w for name, w in load_file(file).items() if not leave_out or leave_out not in name}
    save_file(weights | (more or {}), file, metadata={"format": "pt"})
    said = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(said | config))
    return place


def line(place: Path, bits: bool) -> str:
    with pytest.raises(UserError) as caught:
        load_base(str(place), load_in_4bit=bits)
    return str(caught.value)


@pytest.mark.parametrize("bits", [True, False])
@pytest.mark.parametrize(
    ("leave_out", "config", "message"),
    [
        ("layers.1.", {}, "lacks 9 of the model's weights, such as model.layers.1.input_layernorm.weight"),
        ("lm_head", {}, "lacks 1 of the model's weights, such as lm_head.weight"),
        ("", {"num_hidden_layers": 4},
         "lacks 18 of the model's weights, such as model.layers.2.input_layernorm.weight"),
        ("", {"num_hidden_layers": 1},
         "has 9 weights of layers that its configuration does not have, such as model.layers.1.input_layernorm.weight"),
        ("", OTHER, "lacks 44 of the model's weights, such as bert.embeddings.LayerNorm.bias"),
        ("", {"vocab_size": 500},
         "has 2 weights that do not fit its configuration, such as lm_head.weight (1505 x 64, and by the configuration "
         "500 x 64)"),
        ("", {"intermediate_size": 64},
         "has 6 weights that do not fit its configuration, such as model.layers.0.mlp.down_proj.weight (64 x 128, and "
         "by the configuration 64 x 64)"),
    ],
    ids=["a layer", "the head", "more layers", "fewer layers", "another model", "vocabulary", "width"],
)  # fmt: skip
def test_weights_of_another_model(
    tmp_path: Path, bits: bool, leave_out: str, config: dict[str, Any], message: str
) -> None:
    place = changed(tmp_path, leave_out, **config)
    assert line(place, bits) == f"'{place}' {message}{ADVICE}"


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        ("many", "StrictDataclassFieldValidationError: Validation error for field 'vocab_size': "),
        (0, "IndexError: "),
        (-5, "RuntimeError: Trying to create tensor with negative dimension -5"),
    ],
)
def test_no_number_of_tokens(tmp_path: Path, size: Any, reason: str) -> None:
    place = changed(tmp_path, vocab_size=size)
    assert line(place, bits=False).startswith(f"cannot load base model '{place}' from '{place}': {reason}")


@pytest.mark.parametrize("bits", [True, False])
def test_a_head_that_is_the_embedding_is_not_missed(tmp_path: Path, bits: bool) -> None:
    base = load_base(str(changed(tmp_path, "lm_head", tie_word_embeddings=True)), load_in_4bit=bits)
    head: Any = base.model.get_output_embeddings()
    assert torch.equal(head.weight, load_file(base.folder / "model.safetensors")["model.embed_tokens.weight"])


def test_what_is_not_a_layers_weight_is_left_alone(tmp_path: Path) -> None:
    """Constants of older files, and parts that the model does not have, such as what sees images."""
    more = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8), "vision.patch": torch.ones(2)}
    more["model.layers.0.self_attn.attn.masked_bias"] = torch.ones(1)
    assert load_base(str(changed(tmp_path, more=more)), load_in_4bit=False)


@pytest.mark.parametrize("bits", [True, False])
@pytest.mark.parametrize("method", ["bitsandbytes", "gptq", "awq", "fp8"])
def test_quantised_weights_by_the_configuration(tmp_path: Path, bits: bool, method: str) -> None:
    place = changed(tmp_path, quantization_config={"quant_method": method, "load_in_4bit": True, "bits": 4})
    assert line(place, bits) == (
        f"the weights in '{place}' are quantised already ({method}); give the unquantised model"
    )


@pytest.mark.parametrize("bits", [True, False])
def test_what_bitsandbytes_saved(tmp_path: Path, bits: bool) -> None:
    """The model in 4 bits, with its configuration and without the key that says so."""
    base = load_base(str(models_made.folder("llama")))
    place = Path(shutil.copytree(models_made.folder("llama"), tmp_path / "model"))
    (place / "model.safetensors").unlink()
    base.model.save_pretrained(place)
    told = f"the weights in '{place}' are quantised already ({{}}); give the unquantised model"
    assert line(place, bits) == told.format("bitsandbytes")
    said = json.loads((place / "config.json").read_text())
    del said["quantization_config"]
    (place / "config.json").write_text(json.dumps(said))
    assert line(place, bits) == told.format("its weights say so")
