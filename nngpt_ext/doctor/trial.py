"""Libraries tried out, in a process of their own: a native library that is broken takes its process with it.

    python -m nngpt_ext.doctor.trial

Prints one line of JSON for each step: what was found, or the error.
"""

from __future__ import annotations

import importlib
import json
import logging
from collections.abc import Callable
from importlib import metadata
from typing import Any

from nngpt_ext.models.requirements import check_libraries

MARK = "nngpt_ext doctor: "
TUNING = ("transformers", "peft", "trl", "accelerate", "datasets")


def torch_and_device() -> dict[str, Any]:
    """torch's version, and the device that models would be loaded on."""
    import torch

    found: dict[str, Any] = {"version": torch.__version__, "cuda_build": torch.version.cuda, "card": None}
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info(0)
        found |= {
            "card": torch.cuda.get_device_name(0), "free": free, "total": total,
            "bf16": torch.cuda.is_bf16_supported(),
        }  # fmt: skip
    return found


def tuning_libraries() -> dict[str, Any]:
    """Versions of what fine-tunes, each imported."""
    check_libraries(load_in_4bit=False)
    for name in TUNING:
        importlib.import_module(name)
    return {name: metadata.version(name) for name in TUNING}


def four_bit_product() -> dict[str, Any]:
    """A product with a 512 × 512 matrix in NF4, as base models are loaded, beside the same one unquantised.

    Returns:
        `product`: relative difference (Frobenius norm) from the unquantised product; NF4 rounds normal weights
        by about a tenth (Dettmers et al. 2023). `gradient`: the same of the input's gradient. `dequantised`: the
        product's difference from that with the weights read back, which is rounding of the compute type only.
    """
    check_libraries(load_in_4bit=True)
    import bitsandbytes as bnb
    import torch

    from nngpt_ext.models.base import compute_dtype, keep_compute_dtype

    device = "cuda:0" if torch.cuda.is_available() else "cpu"
    dtype = compute_dtype(device)
    drawn = torch.Generator().manual_seed(0)
    weight = torch.randn(512, 512, generator=drawn).to(dtype)
    given = torch.randn(8, 512, generator=drawn).to(device, dtype).requires_grad_()
    kind: dict[str, Any] = {"quant_type": "nf4", "compress_statistics": True}
    layer: Any = bnb.nn.Linear4bit(512, 512, bias=False, compute_dtype=dtype, **kind)
    layer.weight = bnb.nn.Params4bit(weight.clone(), requires_grad=False, **kind)
    layer = layer.to(device)
    keep_compute_dtype(layer)
    plain = weight.to(device)
    read_back = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state).to(dtype)
    product = layer(given)
    (gradient,) = torch.autograd.grad(product.float().square().sum(), given)
    (expected,) = torch.autograd.grad((given @ plain.T).float().square().sum(), given)
    return {
        "version": bnb.__version__, "device": device,
        "product": _relative(product, given @ plain.T),
        "gradient": _relative(gradient, expected),
        "dequantised": _relative(product, given @ read_back.reshape(512, 512).T),
    }  # fmt: skip


def _relative(one: Any, other: Any) -> float:
    return float((one.float() - other.float()).norm() / other.float().norm())


STEPS: dict[str, Callable[[], dict[str, Any]]] = {
    "torch": torch_and_device,
    "libraries": tuning_libraries,
    "4 bits": four_bit_product,
}


def main() -> None:
    """Do all steps, whatever becomes of each."""
    logging.disable(logging.WARNING)
    for name, step in STEPS.items():
        print(MARK + json.dumps({"step": name}), flush=True)  # so that it is known what it died of
        try:
            line = {"step": name, "found": step()}
        except Exception as error:
            line = {"step": name, "error": f"{type(error).__name__}: {error}", "kind": type(error).__name__}
        print(MARK + json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
