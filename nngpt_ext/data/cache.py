"""The user's cache folder, and checked trials in it, valid until the source they came from changes."""

from __future__ import annotations

import json
import logging
import os
import zipfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from nngpt_ext.data.trials import KEYS, NO_FACTS, OUTSIDE, Source, Trials, collect
from nngpt_ext.errors import UserError
from nngpt_ext.io import digest, replacing, text_digest

log = logging.getLogger(__name__)

T = TypeVar("T")
_FORMAT = "2"  # increased when the meaning of a cached table changes


def cache_folder() -> Path:
    """`$NNGPT_EXT_CACHE`, or the platform's cache folder for this user."""
    given = os.environ.get("NNGPT_EXT_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("nngpt_ext"))


def from_cache(file: Path, read: Callable[[Path], T]) -> T | None:
    """What `read` returns for a cache file, or None if the file does not exist or is damaged."""
    try:
        return read(file)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (pa.ArrowException, zipfile.BadZipFile, OSError, EOFError, ValueError, KeyError, TypeError) as error:
        log.warning("the cache file %s is damaged (%s); building it again", file, error)
        return None


def to_cache(file: Path, write: Callable[[Path], object]) -> None:
    """Write a cache file; a failure is only a warning."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as temporary:
            write(temporary)
    except (OSError, UserError) as error:
        log.warning("the results are not cached: %s", error)


def kept_arrays(file: Path, width: int = -1) -> dict[str, np.ndarray]:
    """The arrays that `keep_arrays` wrote, by their keys; each has `width` numbers, if that is known."""

    def read(place: Path) -> dict[str, np.ndarray]:
        with np.load(place, allow_pickle=False) as stored:
            keys, values = (stored[name] for name in stored.files)
            return dict(zip(keys.tolist(), values.reshape(len(keys), width), strict=True))

    return from_cache(file, read) or {}


def keep_arrays(file: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays of one length to a cache file."""

    def write(place: Path) -> None:
        with place.open("wb") as out:  # given a name, numpy would append its own suffix
            np.savez(out, keys=np.array(list(arrays)), values=np.stack(list(arrays.values())))

    to_cache(file, write)


def read_trials(source: Source, epoch: int | None, *, cached: bool = True) -> Trials:
    """The trials of `epoch` (None: of all epochs), from the cache if the source has not changed.

    Each source and epoch has one cache file, which is replaced when the source changes or the file is damaged.
    """
    place = text_digest(f"{source.kind} {source.location}")[:16]
    file = cache_folder() / "lemur" / f"{source.kind}-{place}-{'all' if epoch is None else epoch}.parquet"
    described = digest([sorted(source.facts), source.recipe])
    fingerprint = f"{_FORMAT}:{described}:{source.fingerprint(epoch)}" if cached else ""
    columns = (*KEYS, *source.recipe)
    trials = from_cache(file, partial(_read, fingerprint=fingerprint, columns=columns)) if cached else None
    if trials is None:
        trials = collect(source.records(epoch), source.networks(), source.facts, source.recipe)
        if cached:
            to_cache(file, partial(_write, trials, fingerprint))
    if trials.excluded:
        log.info("records: trials excluded: %s", ", ".join(f"{n} × {why}" for why, n in trials.excluded.items()))
    if any(why.startswith(NO_FACTS) for why in trials.excluded):
        log.info("records: describe these datasets in a file of facts (data.facts) to use their trials")
    outside = trials.excluded.get(OUTSIDE, 0)
    if outside > len(trials.frame):
        raise UserError(
            f"LEMUR at '{source.location}': {outside:,} of {outside + len(trials.frame):,} accuracies are outside "
            "[0, 1]; if they are in percent, divide them by 100"
        )
    return trials


def _read(file: Path, fingerprint: str, columns: tuple[str, ...]) -> Trials | None:
    table = pq.read_table(file, page_checksum_verification=True)
    note = json.loads(table.schema.metadata[b"nngpt_ext"])
    if note["fingerprint"] != fingerprint:
        log.info("records: the source has changed; reading it again")
        return None
    frame = table.to_pandas()
    if tuple(frame.columns) != columns:
        raise ValueError("other columns")
    return Trials(frame, note["excluded"])


def _write(trials: Trials, fingerprint: str, file: Path) -> None:
    table = pa.Table.from_pandas(trials.frame, preserve_index=False)
    note = json.dumps({"fingerprint": fingerprint, "excluded": trials.excluded})
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"nngpt_ext": note.encode()})
    pq.write_table(table, file, write_page_checksum=True)
