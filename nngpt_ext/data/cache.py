"""The user's cache folder, and checked trials in it, kept there until the source they came from changes."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from pathlib import Path

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from nngpt_ext.data.trials import COLUMNS, Source, Trials, collect, say_excluded
from nngpt_ext.errors import UserError
from nngpt_ext.io import replacing

log = logging.getLogger(__name__)

_FORMAT = "1"  # raised when a cached table would be read differently


def cache_folder() -> Path:
    """`$NNGPT_EXT_CACHE`, or this user's cache folder of the platform."""
    given = os.environ.get("NNGPT_EXT_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("nngpt_ext"))


def source_key(source: Source) -> str:
    """A name for a source's files: its kind and a hash of where it is."""
    return f"{source.kind}-{hashlib.sha256(f'{source.kind} {source.location}'.encode()).hexdigest()[:16]}"


def read_trials(source: Source, epoch: int | None, *, cached: bool = True) -> Trials:
    """The trials of `epoch` (None: of all epochs), from the cache where it is still true.

    One file a source and epoch: a changed source replaces it, a damaged file is built again.
    """
    if cached:
        trials = _cached(source, epoch, f"{_FORMAT}:{source.fingerprint(epoch)}")
    else:
        trials = collect(source.records(epoch), source.networks(), source.facts())
    say_excluded(trials.excluded)
    return trials


def _cached(source: Source, epoch: int | None, fingerprint: str) -> Trials:
    file = cache_folder() / "lemur" / f"{source_key(source)}-{'all' if epoch is None else epoch}.parquet"
    found = _load(file, fingerprint)
    if found is not None:
        return found
    trials = collect(source.records(epoch), source.networks(), source.facts())
    try:
        _save(trials, file, fingerprint)
    except (OSError, UserError) as error:
        log.warning("LEMUR: trials are not cached: %s", error)
    return trials


def _load(file: Path, fingerprint: str) -> Trials | None:
    try:
        if not file.exists():
            return None
        table = pq.read_table(file, page_checksum_verification=True)
        note = json.loads(table.schema.metadata[b"nngpt_ext"])
        if note["fingerprint"] != fingerprint:
            log.info("LEMUR: the source has changed; reading it again")
            return None
        frame = table.to_pandas()
        if tuple(frame.columns) != COLUMNS:
            raise ValueError("other columns")
        return Trials(frame, note["excluded"])
    except (pa.ArrowException, OSError, ValueError, KeyError, TypeError) as error:
        log.warning("LEMUR: the cache file %s is damaged (%s); building it again", file, error)
        return None


def _save(trials: Trials, file: Path, fingerprint: str) -> None:
    table = pa.Table.from_pandas(trials.frame, preserve_index=False)
    note = json.dumps({"fingerprint": fingerprint, "excluded": trials.excluded})
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), b"nngpt_ext": note.encode()})
    file.parent.mkdir(parents=True, exist_ok=True)
    with replacing(file) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)
