"""The user's cache folder, and checked trials in it, valid until the source they came from changes."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq

from nngpt_ext.data.trials import COLUMNS, Source, Trials, collect
from nngpt_ext.errors import UserError
from nngpt_ext.io import replacing, text_digest

log = logging.getLogger(__name__)

_FORMAT = "1"  # raised when a cached table would be read differently


def cache_folder() -> Path:
    """`$NNGPT_EXT_CACHE`, or the platform's cache folder for this user."""
    given = os.environ.get("NNGPT_EXT_CACHE")
    return Path(given) if given else Path(platformdirs.user_cache_dir("nngpt_ext"))


def read_trials(source: Source, epoch: int | None, *, cached: bool = True) -> Trials:
    """The trials of `epoch` (None: of all epochs), from the cache if the source has not changed.

    Each source and epoch has one cache file, which is replaced when the source changes or the file is damaged.
    """
    place = text_digest(f"{source.kind} {source.location}")[:16]
    file = cache_folder() / "lemur" / f"{source.kind}-{place}-{'all' if epoch is None else epoch}.parquet"
    fingerprint = f"{_FORMAT}:{source.fingerprint(epoch)}" if cached else ""
    trials = _load(file, fingerprint) if cached else None
    if trials is None:
        trials = collect(source.records(epoch), source.networks(), source.facts)
        if cached:
            try:
                _save(trials, file, fingerprint)
            except (OSError, UserError) as error:
                log.warning("LEMUR: trials are not cached: %s", error)
    if trials.excluded:
        log.info("LEMUR: trials excluded: %s", ", ".join(f"{n} × {why}" for why, n in trials.excluded.items()))
    return trials


def _load(file: Path, fingerprint: str) -> Trials | None:
    try:
        table = pq.read_table(file, page_checksum_verification=True)
        note = json.loads(table.schema.metadata[b"nngpt_ext"])
        if note["fingerprint"] != fingerprint:
            log.info("LEMUR: the source has changed; reading it again")
            return None
        frame = table.to_pandas()
        if tuple(frame.columns) != COLUMNS:
            raise ValueError("other columns")
        return Trials(frame, note["excluded"])
    except (FileNotFoundError, NotADirectoryError):
        return None
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
