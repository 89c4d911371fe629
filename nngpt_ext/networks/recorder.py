"""What a network does in a forward pass: every function of torch that it calls, through a module or not."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._device import _device_constructors

_CONVOLUTIONS = frozenset({"conv1d", "conv2d", "conv3d"})
_TRANSPOSED = frozenset({"conv_transpose1d", "conv_transpose2d", "conv_transpose3d"})
_PRODUCTS = frozenset({"matmul", "__matmul__", "__rmatmul__", "bmm", "mm", "mv", "baddbmm", "addmm"})
_POOLS = frozenset({"max_pool2d", "avg_pool2d", "lp_pool2d", "fractional_max_pool2d"})
_ACTIVATIONS = {
    **dict.fromkeys(("relu", "relu_", "relu6", "hardtanh", "leaky_relu", "prelu", "rrelu", "threshold"), "relu"),
    **dict.fromkeys(("gelu", "silu", "hardswish", "mish", "elu", "selu", "celu", "softplus"), "smooth"),
    **dict.fromkeys(("sigmoid", "sigmoid_", "tanh", "tanh_", "hardsigmoid"), "gates"),
    **dict.fromkeys(("max_pool2d", "max_pool1d", "max_pool3d"), "max_pools"),
    **dict.fromkeys(("avg_pool2d", "avg_pool1d", "avg_pool3d"), "average_pools"),
}
# Values do not matter, and drawing them takes longer than everything else.
_VALUE = 0.01
_RANDOM = frozenset(
    {"uniform_", "normal_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_", "orthogonal_",
     "xavier_normal_", "bernoulli_", "exponential_", "log_normal_"}
)  # fmt: skip
_CONSTANT = frozenset({"zero_", "fill_", "constant_", "zeros_", "ones_"})
_MOVES = frozenset({"to", "cpu", "cuda"})


class Layer:
    """One call of a convolution or a linear layer."""

    def __init__(self, weight: torch.Tensor, bias: Any, stride: Any) -> None:
        self.outputs = weight.shape[0]
        self.inputs = weight.shape[1] if weight.dim() > 1 else weight.shape[0]
        self.kernel = weight.shape[2] if weight.dim() > 2 else 0
        self.stride = int(stride[0] if isinstance(stride, (tuple, list)) else stride)
        self.parameters = weight.numel() + (bias.numel() if isinstance(bias, torch.Tensor) else 0)


def tensors(value: Any) -> Iterator[torch.Tensor]:
    """The tensors in an argument or a result."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for one in value:
            yield from tensors(one)
    elif isinstance(value, Mapping):
        yield from tensors(list(value.values()))


class Recorder(TorchFunctionMode):
    """Sees every function of torch that a network calls, through a module or not.

    While the network is built it puts new tensors on the device, and skips initialisation.
    In the forward pass it counts, and marks each tensor with the number of layers with weights before it.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device
        self.recording = False
        self._constructors = _device_constructors()

    def start(self) -> None:
        self.recording = True
        self.counts: Counter[str] = Counter()
        self.layers: list[Layer] = []
        self.maps: list[tuple[int, int, int]] = []  # channels, height and width after each convolution
        self.pooled: list[int] = []  # height after each convolution or pool

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        if (name in _RANDOM or name in _CONSTANT) and not self.recording:
            first = args[0] if args else next(tensors(list(kwargs.values())), None)
            if isinstance(first, torch.Tensor):
                if first.is_meta:
                    return first
                if name in _RANDOM:
                    first.detach().fill_(_VALUE)
                    return first
        if func in self._constructors and kwargs.get("device") is None:
            kwargs["device"] = self.device
        if name in _MOVES and args and isinstance(args[0], torch.Tensor) and args[0].is_meta:
            # Nothing leaves the meta device, which has nothing to copy.
            given = (*args[1:], *kwargs.values())
            kinds = [
                one if isinstance(one, torch.dtype) else one.dtype
                for one in given
                if isinstance(one, (torch.dtype, torch.Tensor))
            ]
            if not kinds:
                return args[0]
            func, args, kwargs = torch.Tensor.to, (args[0], kinds[0]), {}
        if not self.recording:
            return func(*args, **kwargs)
        before = self.depth_of((args, kwargs)) if name != "__get__" else 0
        result = func(*args, **kwargs)
        if name != "__get__":
            self._record(name, args, kwargs, result, before)
        return result

    def depth_of(self, value: Any) -> int:
        return max((getattr(one, "_layers_before", 0) for one in tensors(value)), default=0)

    def _record(self, name: str, args: Any, kwargs: Any, result: Any, depth: int) -> None:
        counts = self.counts
        if name in _CONVOLUTIONS or name in _TRANSPOSED or name == "linear":
            depth += 1
            images, weight, bias, stride = _given(args, kwargs, ("input", "weight", "bias", "stride"))
            stride = 1 if name == "linear" or stride is None else stride
            self.layers.append(Layer(weight, bias, stride))
            size = images if name in _TRANSPOSED else result
            macs = size.numel() * weight.numel() // weight.shape[0] if weight.dim() > 1 else size.numel()
            counts["macs"] += macs
            if name != "linear":
                counts["activations"] += result.numel()
                if result.dim() == 4:
                    self.maps.append((result.shape[1], result.shape[2], result.shape[3]))
                    self.pooled.append(result.shape[2])
        elif name in _PRODUCTS or name == "einsum":
            args = (*args, *kwargs.values())
            counts["macs"] += _product(name, args, result)
            counts["attention"] += any(getattr(one, "_of_softmax", False) for one in tensors(args))
        elif name == "scaled_dot_product_attention":
            query, key, value = _given(args, kwargs, ("query", "key", "value"))
            scores = query.numel() // query.shape[-1] * key.shape[-2]
            counts["macs"] += scores * (query.shape[-1] + value.shape[-1])
            counts["attention"] += 1
        elif name == "multi_head_attention_forward":
            depth += 2  # the projections before and behind it
            query, key = args[0], args[1]
            length, batch, width = query.shape if query.dim() == 3 else (query.shape[0], 1, query.shape[1])
            counts["macs"] += batch * (2 * length * width * width + 2 * key.shape[0] * width * width)
            counts["macs"] += 2 * batch * length * key.shape[0] * width
            counts["attention"] += 1
        elif kind := _ACTIVATIONS.get(name):
            counts[kind] += 1
            if name in _POOLS and isinstance(result, torch.Tensor) and result.dim() == 4:
                self.pooled.append(result.shape[2])
        elif name in ("lstm", "gru", "rnn_tanh", "rnn_relu", "embedding", "bilinear"):
            depth += 1
        softmax = name in ("softmax", "dropout") and (
            name == "softmax" or any(getattr(one, "_of_softmax", False) for one in tensors(args))
        )
        for one in tensors(result):
            if depth:
                one._layers_before = max(depth, getattr(one, "_layers_before", 0))  # type: ignore[attr-defined]
            if softmax:
                one._of_softmax = True  # type: ignore[attr-defined]


def _given(args: Any, kwargs: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    return [args[i] if i < len(args) else kwargs.get(name) for i, name in enumerate(names)]


def _product(name: str, args: Any, result: torch.Tensor) -> int:
    """Multiplications of a matrix product."""
    if name == "einsum":
        equation, *operands = args
        if not isinstance(equation, str) or "." in equation:
            return result.numel()
        letters = equation.replace(" ", "").split("->")[0].split(",")
        sizes = {
            letter: size
            for term, one in zip(letters, tensors(operands), strict=False)
            for letter, size in zip(term, one.shape, strict=False)
        }
        return math.prod(sizes.values())
    left = args[1] if name in ("baddbmm", "addmm") else args[0]
    return result.numel() * left.shape[-1]
