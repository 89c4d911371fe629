"""LoRA layers that add their product to the base layer's result in one step.

PEFT computes result.clone() + B(A(x)) · scale in separate passes over the result, each as large as an activation. One
matrix product with addition (addmm) does the same: on an H100 about a sixth of a training step was these passes.
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
