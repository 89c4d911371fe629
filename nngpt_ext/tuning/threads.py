"""What threads of this process share: torch's number of them, the cores, and the environment that they read."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import psutil
import torch

_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")


@contextmanager
def kept_threads() -> Iterator[None]:
    """Restores torch's number of threads when the block ends."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def kept_environment() -> Iterator[None]:
    """Keeps accelerate from emptying `os.environ` and filling it again, as it does to compare settings with defaults.

    A thread that reads a variable at that moment (libraries start many, and C has no lock for it) ends the process by a
    segmentation fault in `getenv`, as was seen once in some thousand runs on a busy machine.
    """
    from accelerate.utils import environment

    emptied = environment.clear_environment
    environment.clear_environment = nullcontext
    try:
        yield
    finally:
        environment.clear_environment = emptied


def usable_cores() -> int:
    """The number of cores that this process may use."""
    own = hasattr(psutil.Process, "cpu_affinity")
    return len(psutil.Process().cpu_affinity()) if own else psutil.cpu_count() or 1


def threads_are_free() -> bool:
    """Whether the user has left the number of threads at torch's default, all cores that the process may use."""
    defaults = {usable_cores(), psutil.cpu_count(logical=False)} - {1}
    return not any(os.environ.get(name) for name in _VARIABLES) and torch.get_num_threads() in defaults
