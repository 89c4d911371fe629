"""Whether the libraries that load a base model can be imported; if not, one line that says what to type."""

from __future__ import annotations

import importlib
import importlib.util
import logging

from nngpt_ext.errors import UserError
from nngpt_ext.quiet import without_widgets


def check_libraries(load_in_4bit: bool) -> None:
    """Import torch, transformers and, for 4 bits, bitsandbytes.

    Raises:
        UserError: one line with what is wrong and what to type.
    """
    _import("torch")
    if importlib.util.find_spec("torchvision") is not None:
        # transformers imports torchvision if it is installed and fails with it; nothing here needs it.
        _import("torchvision", "nngpt_ext does not need it: pip uninstall torchvision")
    without_widgets()
    _import("transformers")
    if load_in_4bit:
        # On CPUs with AVX512-BF16 it warns about a kernel that is not used here (models.base.keep_compute_dtype).
        logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
        otherwise = "or load the base model unquantised: --set model.load_in_4bit=false"
        _import("bitsandbytes", f"type: pip install bitsandbytes; {otherwise}")


def _import(library: str, cure: str | None = None) -> None:
    try:
        importlib.import_module(library)
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        raise UserError(f"{library} cannot be imported ({reason}); {cure or f'type: pip install {library}'}") from None
