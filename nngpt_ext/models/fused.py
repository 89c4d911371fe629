"""Layers that make fewer passes over activations, each of which is as large as an activation.

PEFT computes result.clone() + B(A(x)) · scale in separate passes over the result. One matrix product with addition
(addmm) does the same: on an H100 about a sixth of a training step was these passes. transformers computes an RMS norm
in six passes, in 16 bits with two conversions; torch has one kernel for it on CUDA.
"""

from __future__ import annotations

from typing import Any

import torch
from peft.tuners.lora import LoraLayer


def fuse(model: Any) -> None:
    """Make the LoRA layers of a PEFT model add in one step, where they are linear, active, and of one plain adapter."""
    for layer in model.modules():
        if isinstance(layer, LoraLayer) and isinstance(layer.base_layer, torch.nn.Linear):  # type: ignore[attr-defined]
            layer.forward = _Fused(layer)  # type: ignore[attr-defined]  # goes with the layer at `unload`


def fuse_norms(model: Any, on: str = "cuda") -> None:
    """Make the RMS norms of a model on such a device one kernel each, if that gives the same up to rounding.

    Others stay as they are: those of Gemma, say, which scale by one more than their weight.
    """
    for norm in model.modules():
        weight = getattr(norm, "weight", None)
        epsilon = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
        if not (type(norm).__name__.endswith("RMSNorm") and isinstance(weight, torch.Tensor) and epsilon):
            continue
        if weight.device.type == on and _alike(norm, one := _Norm(weight, float(epsilon))):
            norm.forward = one


class _Norm:
    """The forward of an RMS norm."""

    def __init__(self, weight: torch.Tensor, epsilon: float) -> None:
        self.weight, self.epsilon = weight, epsilon

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.weight.dtype)
        with torch.autocast(x.device.type, enabled=False):  # which would compute in fp32 and hand that on
            return torch.nn.functional.rms_norm(x, list(self.weight.shape), self.weight, self.epsilon)


def _alike(norm: Any, other: _Norm) -> bool:
    weight = norm.weight
    generator = torch.Generator(weight.device).manual_seed(0)
    x = torch.randn(4, *weight.shape, device=weight.device, generator=generator).to(weight.dtype)
    with torch.no_grad():
        theirs, ours = norm(x).float(), other(x).float()
    rounding = 4 * torch.finfo(weight.dtype).eps
    return bool(torch.allclose(theirs, ours, rtol=rounding, atol=rounding))


class _Fused:
    """The forward of a layer."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer
        self.separate = layer.forward

    def __call__(self, x: torch.Tensor, *given: Any, **named: Any) -> torch.Tensor:
        layer = self.layer
        off = layer.disable_adapters or layer.merged or layer.lora_variant
        names = [] if off else [name for name in layer.active_adapters if name in layer.lora_A]
        if given or named or len(names) != 1 or layer.lora_B[names[0]].bias is not None:
            return self.separate(x, *given, **named)  # type: ignore[no-any-return]
        (name,) = names
        down, up = layer.lora_A[name].weight, layer.lora_B[name].weight
        if x.dtype != down.dtype and not torch.is_autocast_enabled(x.device.type):
            return self.separate(x)  # type: ignore[no-any-return]
        result: torch.Tensor = layer.base_layer(x)
        low = torch.nn.functional.linear(layer.lora_dropout[name](x), down)
        added = torch.addmm(result.flatten(0, -2), low.flatten(0, -2), up.T, alpha=layer.scaling[name])
        return added.view(result.shape)
