"""Whether a folder's weights are those of the model that its configuration describes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ADVICE = "fetch the model again, or use another base model"
# What older files have of a layer beside its weights.
_CONSTANTS = re.compile(r"(inv_freq|masked_bias|causal_mask|embed_positions|(attn|attention)\.bias)$")
_QUANTISED = re.compile(r"\.(absmax|SCB|qweight|weight_scale\w*)$|\.quant_state\.")


def check_unquantised(where: Path, config: Any) -> None:
    """Check that a configuration does not say that its weights are quantised.

    Raises:
        UserError: if it does.
    """
    for part in (config, config.get_text_config()):
        if found := getattr(part, "quantization_config", None):
            said = found if isinstance(found, dict) else vars(found)
            method = getattr(said.get("quant_method"), "value", said.get("quant_method")) or "unknown method"
            raise _quantised(where, str(method))


def check_complete(where: Path, model: PreTrainedModel, info: Mapping[str, Iterable[Any]]) -> None:
    """Check that the weights in a folder or file are all that a model has, of its shapes, and no more of its layers.

    transformers fills what is missing or of another shape with random numbers, and leaves out the layers that a
    configuration does not name.

    Args:
        where: the folder or file, as the message names it.
        model, info: as `from_pretrained(output_loading_info=True, ignore_mismatched_sizes=True)` returns them.

    Raises:
        UserError: if they are not.
    """
    extra = sorted(map(str, info["unexpected_keys"]))
    if any(map(_QUANTISED.search, extra)):
        raise _quantised(where, "its weights say so")
    if missing := sorted(map(str, info["missing_keys"])):
        raise UserError(f"'{where}' lacks {len(missing)} of the model's weights, such as {missing[0]}; {_ADVICE}")
    if unfit := sorted([*map(_shapes, info["mismatched_keys"]), *_packed_unfit(model)]):
        name, there, here = unfit[0]
        raise UserError(
            f"'{where}' has {len(unfit)} weights that do not fit its configuration, such as {name} ({there}, and by "
            f"the configuration {here}); {_ADVICE}"
        )
    if more := [key for key in extra if _of_a_layer(key, model)]:
        raise UserError(
            f"'{where}' has {len(more)} weights of layers that its configuration does not have, such as {more[0]}; "
            f"{_ADVICE}"
        )


def _quantised(where: Path, how: str) -> UserError:
    return UserError(f"the weights in '{where}' are quantised already ({how}); give the unquantised model")


def _shapes(mismatch: Any) -> tuple[str, str, str]:
    name, there, here = mismatch
    return str(name), _shape(there), _shape(here)


def _shape(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes))


def _packed_unfit(model: PreTrainedModel) -> list[tuple[str, str, str]]:
    """Layers in 4 bits of another shape than the file's weights, which transformers does not compare."""
    found = []
    for name, layer in model.named_modules():
        state: Any = getattr(getattr(layer, "weight", None), "quant_state", None)
        if state is not None and tuple(state.shape) != (layer.out_features, layer.in_features):
            found.append((f"{name}.weight", _shape(state.shape), _shape([layer.out_features, layer.in_features])))  # type: ignore[list-item]
    return found


def _of_a_layer(key: str, model: PreTrainedModel) -> bool:
    """Whether a weight that the model has no place for is one of its repeated layers'."""
    import torch

    lists = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, torch.nn.ModuleList))
    names = (key, f"{model.base_model_prefix}.{key}")  # files of a model without a head lack the prefix
    return not _CONSTANTS.search(key) and any(name.startswith(lists) for name in names)
