"""Whether the libraries that load a base model can be imported; if not, one line that says what to type."""

from __future__ import annotations

import importlib
import importlib.util
import logging
import sys
from contextlib import suppress
from types import ModuleType
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.extras import install_library, pip
from nngpt_ext.light import check_whole
from nngpt_ext.quiet import without_widgets

ask_once = False  # set by a command that answers one question and ends
_broken: dict[str, Exception] = {}  # why libraries that are hidden here could not be imported


def check_libraries(load_in_4bit: bool, otherwise: str = "") -> None:
    """Import torch, transformers and bitsandbytes.

    Without 4 bits, a bitsandbytes that cannot be imported is hidden from the libraries that would use it, such as PEFT,
    until Python ends.

    Raises:
        UserError: one line with what is wrong and what to type; `otherwise` is what helps where 4 bits are impossible.
    """
    check_whole()
    import_library("torch")
    if ask_once and "bitsandbytes" not in sys.modules:
        _leave_out_compiler()
    # On CPUs with AVX512-BF16 it warns about a kernel that is not used here (models.base.keep_compute_dtype).
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    if load_in_4bit:
        import_library("bitsandbytes", otherwise=otherwise)
    elif _is_installed("bitsandbytes"):
        try:
            importlib.import_module("bitsandbytes")
        except Exception as error:
            _broken["bitsandbytes"] = error
            sys.modules["bitsandbytes"] = None  # type: ignore[assignment]  # Python's way to block an import
    if _is_installed("torchvision"):
        # transformers imports torchvision if it is installed and fails with it; nothing here needs it.
        import_library("torchvision", f"nngpt_ext does not need it: {pip('uninstall torchvision')}")
    without_widgets()
    import_library("transformers")
    if ask_once and "scipy.optimize" not in sys.modules:
        _leave_out_optimiser()


def import_library(library: str, cure: str | None = None, otherwise: str = "") -> None:
    """Import a library; the error has the cure, by default the command that installs what is missing or broken."""
    try:
        importlib.import_module(library)
    except Exception as failed:
        error = _broken.get(library, failed)
        reason = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no message'}"
        # pip leaves an installed library as it is, but installs those that it needs and that are missing.
        missing = isinstance(error, ModuleNotFoundError) and not str(error.name).startswith(f"{library}.")
        cure = cure or f"type: {install_library(library, again=not missing)}"
        raise UserError(f"{library} cannot be imported ({reason}); {cure}{otherwise and f'; or {otherwise}'}") from None


def _is_installed(library: str) -> bool:
    return sys.modules.get(library) is not None or importlib.util.find_spec(library) is not None


def _leave_out_compiler() -> None:
    """Make torch's decorators for its compiler do nothing in this process, so that decorated functions load none of it.

    bitsandbytes and transformers decorate functions that scoring never calls; the compiler takes 2 s of CPU to import.
    """
    import torch

    def same(function: Any = None, *_: Any, **__: Any) -> Any:
        return same if function is None else function

    torch.compile = torch.compiler.disable = same  # type: ignore[assignment]


def _leave_out_optimiser() -> None:
    """Import datasketch, and later transformers' losses, without SciPy's optimiser, which takes 0.3 s of CPU to import.

    Only tables of hashes and the detection of objects use it.
    """
    import transformers.utils

    transformers.utils.is_scipy_available = lambda: False  # type: ignore[assignment]
    name = "scipy.integrate"
    sys.modules[name] = unused = ModuleType(name)
    unused.quad = None  # type: ignore[attr-defined]
    with suppress(Exception):  # another version needs more of it, and imports it when it is used
        importlib.import_module("datasketch")
    del sys.modules[name]
