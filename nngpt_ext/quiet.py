"""Silencing warnings, without changing what other threads see (Python keeps one list of filters), and output."""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# Held while the filters are exchanged and restored: two threads that overlap would leave each other's filters behind.
FILTERS = threading.RLock()


@contextmanager
def no_warnings() -> Iterator[None]:
    """Ignores all warnings in a short block."""
    with FILTERS, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def without_widgets() -> None:
    """Called before tqdm.auto or transformers is imported: in a notebook without ipywidgets, tqdm warns about them."""
    warnings.filterwarnings("ignore", message="IProgress not found")


@contextmanager
def output_on_stderr() -> Iterator[None]:
    """Redirects standard output to standard error, also for C++ code: Ray reports there that a worker died."""
    sys.stdout.flush()
    results = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(results, 1)
        os.close(results)
