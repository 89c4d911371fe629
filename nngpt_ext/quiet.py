"""Silencing warnings without changing what other threads see: Python keeps one list of filters for all threads."""

from __future__ import annotations

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
