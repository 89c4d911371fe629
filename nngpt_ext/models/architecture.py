"""What differs between architectures: dropout and routers of their own, layers without 4 bits, damaged weights."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Any

from nngpt_ext.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MAMBA = ("mamba", "mamba2", "falcon_mamba", "falcon_h1", "nemotron_h")
# Gemma 3n clamps these weights in training. RWKV divides those of its outputs by powers of two before scoring, which an
# adapter's share of the output would not follow; `head` is its output layer, which stays whole in others by its name.
_DIRECTLY = {
    **dict.fromkeys(_MAMBA, ("dt_proj", "out_proj")),
    **dict.fromkeys(("gemma3n", "gemma3n_text"), ("prediction_coefs", "correction_coefs")),
    "rwkv": ("attention.output", "feed_forward.value", "head"),
}


def make_deterministic(config: Any) -> list[str]:
    """Change a model's configuration so that it computes the same in training and in scoring.

    Its dropout is turned off, by whatever names (`attn_pdrop`, `layerdrop`, `router_jitter_noise`, …): the adapter has
    its own, and a prefix that is shared cannot have another dropout for each question. Routers' logits, with which
    transformers computes a loss that no one asks for here, are not returned.

    Returns:
        What was turned off, with its value.
    """
    config._attn_implementation = None  # of the library that saved it; transformers then takes the best one here
    off = []
    for name, value in list(vars(config).items()):
        if hasattr(value, "get_text_config"):
            off += make_deterministic(value)
        elif re.search("drop|jitter", name) and isinstance(value, float) and value:
            setattr(config, name, 0.0)
            off.append(f"{name} {value:g}")
    keep_routers_quiet(config)
    return sorted(set(off))


def keep_routers_quiet(config: Any) -> None:
    """Turn off the routers' loss, which transformers cannot compute with a mask of four dimensions; TRL turns it on."""
    text = config.get_text_config()
    if getattr(text, "output_router_logits", False):
        text.output_router_logits = False


def read_directly(config: Any) -> list[str]:
    """Names of linear layers whose weights the model reads or changes itself: neither quantised nor with an adapter."""
    return list(_DIRECTLY.get(config.model_type, ()))


def with_own_outputs(model: PreTrainedModel) -> list[str]:
    """Names of layers of a class derived from `nn.Linear` that return something else: they get no adapter.

    Such are the routers of Phi-MoE and Llama 4, which return several tensors. One layer of each class is tried.
    """
    import torch

    own: dict[type, bool] = {torch.nn.Linear: False}
    layers = [(name, each) for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)]
    for _, layer in layers:
        if type(layer) not in own:
            own[type(layer)] = not (hasattr(layer.weight, "quant_state") or _is_linear(layer))
    return [name for name, layer in layers if own[type(layer)]]


def _is_linear(layer: Any) -> bool:
    """Whether a layer takes one tensor and returns one of its width."""
    import torch

    try:
        with torch.no_grad():
            output = layer(layer.weight.new_zeros(1, layer.in_features))
    except Exception:  # of a class that takes something else
        return False
    return isinstance(output, torch.Tensor) and output.shape == (1, layer.out_features)


def has_experts(model: PreTrainedModel) -> bool:
    """Whether a model is a mixture of experts."""
    return any(name.endswith(".experts") for name, _ in model.named_modules())


def in_full(model: PreTrainedModel) -> dict[str, int]:
    """By names of layers, how many weights of a model in 4 bits are not: those that make a hundredth of it or more.

    transformers keeps the experts of a layer in one tensor, and bitsandbytes quantises linear layers only, but none of
    a derived class, such as Falcon's, nor those that the model reads itself. Embeddings and the output layer are meant
    to stay whole.
    """
    import torch

    meant = {id(model.get_output_embeddings())}
    meant |= {id(each) for each in model.modules() if isinstance(each, torch.nn.Embedding)}
    whole, total = Counter[str](), 0
    for place, module in model.named_modules():
        for weight in module.parameters(recurse=False):
            quantised = hasattr(weight, "quant_state")
            total += weight.numel() * (2 if quantised else 1)  # two of them in a byte
            if not quantised and weight.ndim > 1 and id(module) not in meant:
                whole[place.rpartition(".")[2]] += weight.numel()
    return {name: n for name, n in sorted(whole.items()) if n * 100 >= total}


def check_finite(model: PreTrainedModel, base: str) -> None:
    """Check that no weight is NaN or infinite, quantised ones included."""
    import torch

    for name, weight in model.named_parameters():
        state: Any = getattr(weight, "quant_state", None)
        scales = [] if state is None else [state.absmax, state.offset, getattr(state.state2, "absmax", None)]
        floats = [t for t in (weight, *scales) if isinstance(t, torch.Tensor) and t.is_floating_point()]
        if not all(bool(t.detach().sum(dtype=torch.float32).isfinite()) for t in floats):
            raise UserError(f"base model '{base}' has weights that are NaN or infinite ({name}); fetch it again")
