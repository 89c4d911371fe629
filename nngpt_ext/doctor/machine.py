"""Python, the disk that runs are written to, and the cache."""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from pathlib import Path

from nngpt_ext.doctor.finding import Finding, failed
from nngpt_ext.data.cache import cache_folder
from nngpt_ext.tasks.folder import ROOM
from nngpt_ext.version import __version__


def python() -> Finding:
    """Which Python, and which nngpt_ext it imports."""
    what = f"{platform.python_version()} ({sys.executable}), nngpt_ext {__version__} in {Path(__file__).parents[1]}"
    return Finding("Python", "ok", what)


def disk(folder: Path | None = None) -> Finding:
    """Whether a run can be written to a folder, by default the current one: something is written, and removed."""
    place = (folder or Path.cwd()).resolve()
    cure = "cd a folder with room, or give one with --out"
    try:
        _write(place, 2**20)
    except OSError as error:
        return failed("disk", f"cannot write to {place}: {error.strerror or error}", cure)
    free = shutil.disk_usage(place).free
    what = f"{_size(free)} free in {place}"
    if free < ROOM:
        return Finding("disk", "broken", f"{what}; a small run needs {_size(ROOM)}", cure)
    return Finding("disk", "ok", what)


def cache() -> Finding:
    """The cache of LEMUR's records: a run does without it, and reads them anew each time."""
    place = cache_folder()
    existing = next(folder for folder in (place, *place.absolute().parents) if folder.is_dir())
    kept = sum(file.stat().st_size for file in place.rglob("*") if file.is_file()) if place.is_dir() else 0
    try:
        _write(existing, 2**16)
    except OSError as error:
        what = f"cannot write to {existing}: {error.strerror or error}; records are read anew each time"
        return Finding("cache", "note", what, "export NNGPT_EXT_CACHE=/a/folder/with/room")
    return Finding("cache", "ok", f"{_size(kept)} in {place}, {_size(shutil.disk_usage(existing).free)} free")


def _write(folder: Path, size: int) -> None:
    with tempfile.NamedTemporaryFile(prefix=".nngpt_ext.", dir=folder) as file:
        file.write(b"\1" * size)
        file.flush()
        os.fsync(file.fileno())


def _size(n: float) -> str:
    return f"{n / 2**30:,.1f} GB" if n >= 2**30 else f"{n / 2**20:,.1f} MB"
