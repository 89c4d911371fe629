"""What a base model needs of the machine, checked before transformers gives a riddle instead."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from importlib import metadata

from nngpt_ext.errors import UserError
from nngpt_ext.quiet import without_widgets


def check_libraries(load_in_4bit: bool) -> None:
    """See that torch, transformers and, for 4 bits, bitsandbytes can be used.

    Raises:
        UserError: one line with what is wrong and what to type.
    """
    _import("torch", "torch")
    if importlib.util.find_spec("torchvision") is not None:
        # transformers imports torchvision where it finds it and fails with it; nothing here needs it.
        try:
            importlib.import_module("torchvision")
        except Exception as error:
            raise UserError(
                f"torchvision {_version('torchvision')} does not fit torch {_version('torch')} "
                f"({_reason(error)}); nngpt_ext does not need it: pip uninstall torchvision"
            ) from None
    without_widgets()
    _import("transformers", "transformers")
    if load_in_4bit:
        # On CPUs with AVX512-BF16 it looks for a kernel that is not used here (load.keep_compute_dtype) and warns.
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        _import("bitsandbytes", "bitsandbytes", "; or load the base model unquantised: --set model.load_in_4bit=false")


def _import(module: str, package: str, otherwise: str = "") -> None:
    try:
        importlib.import_module(module)
    except Exception as error:
        raise UserError(
            f"{package} cannot be imported ({_reason(error)}); type: pip install {package}{otherwise}"
        ) from None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(unknown version)"
