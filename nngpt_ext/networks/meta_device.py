"""Measuring a network: it is built on torch's meta device and one batch goes through it, so that nothing is computed.

This runs the network's code: only a sandbox's child calls it (see `nngpt_ext.networks.sandbox`).
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import nn

from nngpt_ext.networks.recorder import Recorder, tensors

BATCH = 2  # images: one would be lost where a network squeezes
ARGUMENTS = ("in_shape", "out_shape", "prm", "device")
_MODULE = "network"

_NORMS: tuple[tuple[int, tuple[type, ...]], ...] = (
    (1, (nn.modules.batchnorm._BatchNorm,)),
    (2, (nn.LayerNorm,)),
    (3, (nn.GroupNorm,)),
    (4, (nn.modules.instancenorm._InstanceNorm, nn.LocalResponseNorm)),
)
_OTHER_NORM = 5
_CONV = nn.modules.conv._ConvNd
_ADAPTIVE = (nn.modules.pooling._AdaptiveAvgPoolNd, nn.modules.pooling._AdaptiveMaxPoolNd)


def measure(source: str, shape: tuple[int, int, int, int]) -> dict[str, int | None]:
    """The numbers of a network's structure, by the names in `nngpt_ext.networks.structure.NUMBERS`.

    The source has a class `Net(in_shape, out_shape, prm, device)`, or only one `nn.Module` class that takes these or no
    arguments; what its code raises while the network is built is raised here. `shape` is channels, height, width and
    classes. `prm` has usual values; what else the network asks for is 0.5.
    """
    build = _builder(_module(source), shape)
    found: dict[str, int | None] | None = None
    failure: Exception | None = None
    # Some networks need stored values, and some take complex images only.
    for device, kind in (("meta", torch.float32), ("cpu", torch.float32), ("meta", torch.complex64)):
        try:
            torch.manual_seed(0)
            with Recorder(torch.device(device)) as recorder:
                net = build(torch.device(device))
            known = _fixed(net)
            try:
                return {**known, **_passed(net, recorder, shape, kind), "forward": 1}
            except Exception:
                found = {**dict.fromkeys(_RECORDED), **known, "forward": 0}
        except Exception as error:
            failure = failure or error
    if found is None:
        raise failure or RuntimeError("the network was not built")
    return found


def warm_up() -> None:
    """Load what measuring needs, so that a forked child starts at once."""
    torch.set_num_threads(1)
    torch.backends.mha.set_fastpath_enabled(False)  # it hides a whole layer in one function
    with suppress(RuntimeError):  # torchvision beside a build of torch that its operators do not fit
        library = torch.library.Library("torchvision", "FRAGMENT")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEPT.append(library)
    for module in ("numpy", "einops", "torchvision"):
        with suppress(Exception):
            importlib.import_module(module)
    measure(_WARM, (3, 32, 32, 10))


_KEPT: list[Any] = []  # a library's operators vanish with it
_WARM = """
import torch
from torch import nn
import torch.nn.functional as F

class Net(nn.Module):
    def __init__(self, in_shape, out_shape, prm, device):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(in_shape[1], 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.ReLU6(), nn.Dropout2d(prm["dropout"]), nn.MaxPool2d(2),
            nn.GroupNorm(2, 8), nn.SiLU(), nn.Hardswish(), nn.AvgPool2d(2), nn.Upsample(None, 2, "bilinear"),
            nn.ConvTranspose2d(8, 8, 2), nn.LeakyReLU(), nn.Softmax(dim=1),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.norm = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.free = nn.Parameter(torch.randn(1, 1, 8))
        self.head = nn.Sequential(nn.Linear(8, 8), nn.GELU(), nn.Dropout(prm["dropout"]), nn.Linear(8, out_shape[0]))

    def forward(self, x):
        x = self.body(x)
        x = torch.cat([x, x.roll(1, 2)], 1)[:, ::2] + x * torch.sigmoid(x.mean((2, 3), keepdim=True)) - x / 2
        t = self.norm(x.flatten(2).transpose(1, 2)) + self.free.expand(x.shape[0], -1, -1)
        t = t + self.attention(t, t, t)[0] + F.scaled_dot_product_attention(t, t, t)
        t = (t @ t.transpose(1, 2)).softmax(-1) @ t + torch.einsum("bij,bkj->bik", t, t).mean(-1, keepdim=True)
        x = self.pool(x).reshape(x.shape[0], -1) + t.permute(0, 2, 1).contiguous().max(-1)[0].tanh()
        return self.head(F.normalize(torch.stack([x, x]).sum(0) ** 2, dim=1))
"""


class _Hyperparameters(dict[str, Any]):
    def __missing__(self, key: str) -> float:
        return 0.5  # LEMUR draws what a network declares from the unit interval


def _module(source: str) -> types.ModuleType:
    module = types.ModuleType(_MODULE)
    sys.modules[_MODULE] = module  # dataclasses look their module up
    exec(compile(source, f"{_MODULE}.py", "exec"), module.__dict__)
    return module


def _builder(module: types.ModuleType, shape: tuple[int, int, int, int]) -> Callable[[torch.device], nn.Module]:
    channels, height, width, classes = shape
    network = getattr(module, "Net", None)
    if not (isinstance(network, type) and issubclass(network, nn.Module)):
        own = [one for one in vars(module).values() if isinstance(one, type) and one.__module__ == _MODULE]
        fit = [one for one in own if issubclass(one, nn.Module) and _required(one) in ((), ARGUMENTS)]
        if len(fit) != 1:
            raise TypeError(
                f"it defines no class Net({', '.join(ARGUMENTS)}), and {len(fit) or 'no'} nn.Module class"
                f"{'es' if len(fit) > 1 else ''} that can be built without arguments"
            )
        network = fit[0]
    if network.__name__ != "Net" and not _required(network):
        return lambda device: network().to(device)
    prm = _Hyperparameters(
        {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": 0.2, "epoch": 5, "transform": f"norm_{height}"}
    )
    return lambda device: network((BATCH, channels, height, width), (classes,), _Hyperparameters(prm), device)


def _required(network: type) -> tuple[str, ...]:
    """Names of the arguments that building a class needs."""
    parameters = list(inspect.signature(network.__init__).parameters.values())[1:]  # type: ignore[misc]
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.POSITIONAL_ONLY)
    names = tuple(one.name for one in parameters if one.kind in kinds)
    return () if all(one.default is not one.empty for one in parameters if one.kind in kinds) else names


def _fixed(net: nn.Module) -> dict[str, int | None]:
    """What can be counted without a forward pass."""
    modules = list(net.modules())
    convolutions = [one for one in modules if isinstance(one, _CONV)]
    linear = [one for one in modules if isinstance(one, nn.Linear)]
    norms = [kind for kind in map(_norm, modules) if kind]
    parameters = list(net.parameters())
    return {
        "parameters": sum(one.numel() for one in parameters),
        "trainable": sum(one.numel() for one in parameters if one.requires_grad),
        "modules": len(modules),
        "layers": sum(any(one.dim() > 1 for one in module.parameters(recurse=False)) for module in modules),
        "convolutions": len(convolutions),
        "grouped_convolutions": sum(one.groups > 1 for one in convolutions),
        "largest_kernel": max((max(one.kernel_size) for one in convolutions), default=0),
        "convolution_width": max((one.out_channels for one in convolutions), default=0),
        "linear": len(linear),
        "linear_inputs": max((one.in_features for one in linear), default=0),
        "linear_parameters": sum(one.weight.numel() for one in linear),
        "layer_width": max(
            (*(one.out_channels for one in convolutions), *(one.out_features for one in linear)), default=0
        ),
        "normalisation": max(sorted(set(norms)), key=norms.count) if norms else 0,
        "normalisations": len(norms),
        "dropout": sum(isinstance(one, nn.modules.dropout._DropoutNd) for one in modules),
        "identities": sum(isinstance(one, nn.Identity) for one in modules),
        "adaptive_pooling": sum(isinstance(one, _ADAPTIVE) for one in modules),
    }


def _norm(module: nn.Module) -> int:
    for kind, classes in _NORMS:
        if isinstance(module, classes):
            return kind
    name = type(module).__name__.lower()
    own = [one.dim() for one in module.parameters(recurse=False)]
    return _OTHER_NORM if "norm" in name and own and max(own) == 1 else 0


_RECORDED = (
    "macs", "activations", "depth", "layer_calls", "attention", "relu", "smooth", "gates", "max_pools", "average_pools",
    "first_width", "first_kernel", "first_stride", "last_width", "last_map", "pooled_map", "smallest_map",
    "classifier_parameters", "classifier_inputs",
)  # fmt: skip


def _passed(
    net: nn.Module, recorder: Recorder, shape: tuple[int, int, int, int], kind: torch.dtype
) -> dict[str, int | None]:
    """Send a batch through a network; returns what was recorded."""
    channels, height, width, _ = shape
    net.eval()
    recorder.start()
    with torch.no_grad(), recorder:
        images = torch.zeros(BATCH, channels, height, width, dtype=kind)
        output = net(images)
    output = next(tensors(output))
    counts = recorder.counts
    convolutions, pooled, layers = recorder.maps, recorder.pooled, recorder.layers
    first, last = layers[0] if layers else None, layers[-1] if layers else None
    return {
        "macs": counts["macs"] // BATCH,
        "activations": counts["activations"] // BATCH,
        "depth": recorder.depth_of([output]),
        "layer_calls": len(layers),
        **{name: counts[name] for name in ("attention", "relu", "smooth", "gates", "max_pools", "average_pools")},
        "first_width": first.outputs if first else 0,
        "first_kernel": first.kernel if first else 0,
        "first_stride": first.stride if first else 0,
        "last_width": convolutions[-1][0] if convolutions else 0,
        "last_map": convolutions[-1][1] if convolutions else 0,
        "pooled_map": pooled[-1] if pooled else 0,
        "smallest_map": min((min(one[1:]) for one in convolutions), default=0),
        "classifier_parameters": last.parameters if last else 0,
        "classifier_inputs": last.inputs if last else 0,
    }
