"""LoRA layers that add in one step compute what PEFT's do."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from nngpt_ext.models.base import load_base
from nngpt_ext.models.fused import fuse, fuse_norms


def tuned(load_in_4bit: bool, **lora: Any) -> Any:
    base = load_base("embedded", load_in_4bit=load_in_4bit)
    config = LoraConfig(task_type="CAUSAL_LM", r=8, target_modules="all-linear", **{"lora_alpha": 24, **lora})
    model = get_peft_model(base.model, config)
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # its bias, too
            torch.nn.init.normal_(parameter, std=0.05)
    return model


def loss_and_gradient(model: Any) -> tuple[float, torch.Tensor]:
    torch.manual_seed(0)  # of the dropout
    ids = torch.arange(5, 200)[None]
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return float(loss.detach()), torch.cat([g.flatten() for g in torch.autograd.grad(loss, trained)])


@pytest.fixture(params=[True, False], ids=["NF4", "fp32"])
def models(request: Any) -> Any:
    return lambda **lora: tuned(request.param, **lora)


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_loss_and_gradients(models: Any, dropout: float) -> None:
    model = models(lora_dropout=dropout).train()
    before, gradient = loss_and_gradient(model)
    fuse(model)
    after, fused = loss_and_gradient(model)
    assert after == pytest.approx(before, rel=1e-6)
    assert (fused - gradient).norm() < 1e-5 * gradient.norm()


@pytest.mark.parametrize("other", [{"lora_bias": True}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 2}}])
def test_other_kinds_of_lora(other: dict[str, Any]) -> None:
    model = tuned(False, **other)
    before, gradient = loss_and_gradient(model)
    fuse(model)
    after, fused = loss_and_gradient(model)
    assert after == pytest.approx(before, rel=1e-6)
    assert (fused - gradient).norm() < 1e-5 * gradient.norm()


def test_weights_of_another_type_are_left_to_peft() -> None:
    model = tuned(False).bfloat16()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    before, gradient = loss_and_gradient(model)
    fuse(model)
    after, fused = loss_and_gradient(model)
    assert (after, fused.tolist()) == (before, gradient.tolist())


def test_a_second_adapter_of_fewer_layers() -> None:
    model = tuned(False)
    model.add_adapter("few", LoraConfig(task_type="CAUSAL_LM", r=8, target_modules=["q_proj"]))
    model.set_adapter("few")
    before, _ = loss_and_gradient(model)
    fuse(model)
    assert loss_and_gradient(model)[0] == pytest.approx(before, rel=1e-6)


def test_an_adapter_that_is_off_or_not_plain_is_left_to_peft(models: Any) -> None:
    model = models(use_dora=True).eval()
    before, _ = loss_and_gradient(model)
    fuse(model)
    assert loss_and_gradient(model)[0] == before
    with model.disable_adapter(), torch.no_grad():
        ids = torch.arange(5, 200)[None]
        off = model(input_ids=ids, labels=ids).loss
    bare = model.unload()
    assert float(off) == float(bare(input_ids=ids, labels=ids).loss)
    assert not any(hasattr(layer, "lora_A") for layer in bare.modules())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_norms_in_one_step(dtype: torch.dtype) -> None:
    model = load_base("embedded", load_in_4bit=False).model.to(dtype)
    ids = torch.arange(5, 200)[None]
    with torch.no_grad():
        before = model(input_ids=ids, use_cache=False).logits.float()
    fuse_norms(model)
    norm = model.model.norm
    assert "forward" not in vars(norm)  # by default only on a GPU
    fuse_norms(model, on="cpu")
    assert "forward" in vars(norm)
    with torch.no_grad():
        after = model(input_ids=ids, use_cache=False).logits.float()
    assert (after - before).norm() < 8 * torch.finfo(dtype).eps * before.norm()


def test_a_norm_that_computes_something_else_stays() -> None:
    class ScaledRMSNorm(torch.nn.Module):
        """As Gemma's: by one more than its weight."""

        def __init__(self) -> None:
            super().__init__()
            self.weight, self.eps = torch.nn.Parameter(torch.zeros(8)), 1e-6

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.rms_norm(x, [8], 1 + self.weight, self.eps)

    norm = ScaledRMSNorm()
    x = torch.randn(3, 8)
    before = norm(x)
    fuse_norms(torch.nn.Sequential(norm), on="cpu")
    assert norm(x).equal(before)
