"""The user's cache folder, and what a source is called in it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

from nngpt_ext.data.trials import Source


def cache_folder() -> Path:
    """`$NNGPT_EXT_CACHE`, or this user's cache folder of the platform."""
    given = os.environ.get("NNGPT_EXT_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("nngpt_ext"))


def source_key(source: Source) -> str:
    """A name for a source's files: its kind and a hash of where it is."""
    return f"{source.kind}-{hashlib.sha256(f'{source.kind} {source.location}'.encode()).hexdigest()[:16]}"
