"""Cached trials: read once, noticed when the source changes, built again when the file is damaged."""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import platformdirs
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pandas.testing import assert_frame_equal

from nngpt_ext.data import cache as caching
from nngpt_ext.data.cache import cache_folder, read_trials
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.data.sources.sqlite import SqliteSource
from tests.data.small import add_trials, record_file, write_database


class Counting(PackageSource):
    """Counts how often its records are read."""

    reads = 0

    def records(self, epoch: int | None) -> Iterator[tuple[Any, ...]]:
        self.reads += 1
        return super().records(epoch)


class CountingDatabase(SqliteSource):
    reads = 0

    def records(self, epoch: int | None) -> Iterator[tuple[Any, ...]]:
        self.reads += 1
        return super().records(epoch)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    """An empty cache folder, which does not exist yet."""
    caplog.set_level(logging.INFO, logger="nngpt_ext")
    monkeypatch.setenv("NNGPT_EXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def only_file(folder: Path) -> Path:
    (file,) = (folder / "lemur").iterdir()
    return file


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_the_folder_is_the_given_one_or_the_platforms(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == folder
    monkeypatch.delenv("NNGPT_EXT_CACHE")
    assert cache_folder() == Path(platformdirs.user_cache_dir("nngpt_ext"))


def test_the_second_read_is_served_from_the_cache(faulty_tree: Path, folder: Path, caplog) -> None:
    source = Counting(faulty_tree)
    first = read_trials(source, 5)
    assert source.reads == 1
    assert only_file(folder).suffix == ".parquet"
    second = read_trials(source, 5)
    assert source.reads == 1
    assert read_trials(Counting(faulty_tree), 5).excluded == first.excluded  # another process finds it too
    assert_frame_equal(first.frame, second.frame, check_exact=True)
    assert first.excluded == second.excluded
    assert sum(first.excluded.values()) == 13
    assert sum("trials excluded" in message for message in caplog.messages) == 3  # said each time, cached or not


def test_without_the_cache_nothing_is_kept(tree: Path, folder: Path) -> None:
    source = Counting(tree)
    for _ in range(2):
        read_trials(source, 5, cached=False)
    assert source.reads == 2
    assert not folder.exists()


def test_epochs_are_kept_apart(changing_tree: Path, folder: Path) -> None:
    source = Counting(changing_tree)
    found = {epoch: read_trials(source, epoch) for epoch in (1, 5, None)}
    assert source.reads == 3
    for epoch, trials in found.items():
        assert_frame_equal(read_trials(source, epoch).frame, trials.frame)
    assert source.reads == 3
    assert len(found[None].frame) > len(found[1].frame) + len(found[5].frame)
    assert len(list((folder / "lemur").iterdir())) == 3


def test_sources_are_kept_apart(faulty_tree: Path, changing_tree: Path, folder: Path) -> None:
    one, other = Counting(faulty_tree), Counting(changing_tree)
    for _ in range(2):
        assert len(read_trials(one, 5).frame) != len(read_trials(other, 5).frame)
    assert (one.reads, other.reads) == (1, 1)


def test_an_edited_record_is_noticed(changing_tree: Path, folder: Path, caplog) -> None:
    source = Counting(changing_tree)
    before = read_trials(source, 5)
    add_trials(changing_tree, "AlexNet", "mnist", 5, [0.125])
    after = read_trials(source, 5)
    assert source.reads == 2
    assert len(after.frame) == len(before.frame) + 1
    assert 0.125 in after.frame["accuracy"].tolist()
    assert "records: the source has changed; reading it again" in caplog.messages
    assert warnings(caplog) == []
    assert len(read_trials(source, 5).frame) == len(after.frame)
    assert source.reads == 2
    assert only_file(folder)  # the new one took the old one's place


def test_an_edit_that_keeps_the_size_is_noticed(changing_tree: Path) -> None:
    source = Counting(changing_tree)
    read_trials(source, 5)
    file = record_file(changing_tree, "AlexNet", "mnist", 5)
    trials = json.loads(file.read_text())
    size = file.stat().st_size
    file.write_text(json.dumps(trials[:1]).ljust(size))
    assert file.stat().st_size == size
    read_trials(source, 5)
    assert source.reads == 2


def test_a_removed_record_or_source_is_noticed(changing_tree: Path) -> None:
    source = Counting(changing_tree)
    whole = read_trials(source, 5)
    record_file(changing_tree, "AlexNet", "mnist", 5).unlink()
    assert len(read_trials(source, 5).frame) < len(whole.frame)
    (changing_tree / "nn" / "Alex_Net.py").unlink()
    after = read_trials(source, 5)
    assert set(after.frame["nn"]) == {"AlexNet"}
    assert after.excluded["network without source"] > 0


def test_an_edited_database_is_noticed(faulty_tree: Path, tmp_path: Path) -> None:
    file = write_database(faulty_tree, tmp_path / "ab.nn.db")
    source = CountingDatabase(file)
    before = read_trials(source, 5)
    read_trials(source, 5)
    assert source.reads == 1
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("DELETE FROM stat WHERE nn = 'Alex_Net' AND epoch = 5")
        connection.commit()
    after = read_trials(source, 5)
    assert source.reads == 2
    assert 0 < len(after.frame) < len(before.frame)
    assert "Alex_Net" not in set(after.frame["nn"])


def truncated(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def emptied(file: Path) -> None:
    file.write_bytes(b"")


def garbled(file: Path) -> None:
    file.write_bytes(os.urandom(5_000))


def scribbled(file: Path) -> None:
    """The end, where Parquet keeps its table of contents, is whole; the data before it is not."""
    content = bytearray(file.read_bytes())
    content[4:2_000] = b"\xaa" * 1_996
    file.write_bytes(content)


def other_columns(file: Path) -> None:
    table = pq.read_table(file)
    pq.write_table(table.drop_columns(["lr"]), file)


def without_note(file: Path) -> None:
    pq.write_table(pq.read_table(file).replace_schema_metadata(None), file)


def with_half_a_note(file: Path) -> None:
    table = pq.read_table(file)
    note = json.loads(table.schema.metadata[b"nngpt_ext"])
    del note["excluded"]
    pq.write_table(table.replace_schema_metadata({b"nngpt_ext": json.dumps(note).encode()}), file)


def with_a_note_that_is_no_json(file: Path) -> None:
    pq.write_table(pa.table({"x": [1]}).replace_schema_metadata({b"nngpt_ext": b"{\xff"}), file)


@pytest.mark.parametrize(
    "damage",
    [
        truncated, emptied, garbled, scribbled, other_columns, without_note, with_half_a_note,
        with_a_note_that_is_no_json,
    ],
)  # fmt: skip
def test_a_damaged_file_is_built_again(damage, changing_tree: Path, folder: Path, caplog) -> None:
    source = Counting(changing_tree)
    first = read_trials(source, 5)
    file = only_file(folder)
    damage(file)
    again = read_trials(source, 5)
    assert source.reads == 2
    assert_frame_equal(first.frame, again.frame)
    (message,) = warnings(caplog)
    assert f"the cache file {file} is damaged" in message
    assert_frame_equal(read_trials(source, 5).frame, first.frame)
    assert source.reads == 2
    assert len(warnings(caplog)) == 1


def test_no_flipped_bit_changes_what_is_read(changing_tree: Path, folder: Path) -> None:
    source = Counting(changing_tree)
    first = read_trials(source, 5)
    file = only_file(folder)
    whole = file.read_bytes()
    for position in range(5, len(whole), len(whole) // 60):
        content = bytearray(whole)
        content[position] ^= 0x10
        file.write_bytes(content)
        again = read_trials(source, 5)
        assert_frame_equal(first.frame, again.frame, check_exact=True)
        assert again.excluded == first.excluded
    assert source.reads > 30  # most places matter


def test_a_file_of_another_format_is_built_again(changing_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = Counting(changing_tree)
    read_trials(source, 5)
    monkeypatch.setattr(caching, "_FORMAT", "next")
    read_trials(source, 5)
    assert source.reads == 2


def under_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_text("a file where the folder should be")


def in_the_way(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands where the cache file belongs."""
    real = caching.to_cache

    def blocked(file: Path, write: Any) -> None:
        file.mkdir(parents=True, exist_ok=True)
        real(file, write)

    monkeypatch.setattr(caching, "to_cache", blocked)


def disk_full(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*given: Any, **named: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "mkstemp", full)


def read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere")
    (folder / "lemur").mkdir(parents=True)
    (folder / "lemur").chmod(0o500)


@pytest.mark.parametrize("hinder", [under_a_file, in_the_way, disk_full, read_only])
def test_a_folder_that_cannot_be_written_only_warns(
    hinder, changing_tree: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    hinder(folder, monkeypatch)
    source = Counting(changing_tree)
    assert len(read_trials(source, 5).frame) > 0
    assert warnings(caplog)[-1].startswith("the results are not cached: ")
    assert len(read_trials(source, 5).frame) > 0
    assert source.reads == 2
    if folder.is_dir():
        assert [file for file in folder.rglob("*") if file.is_file()] == []  # nothing half-written


def test_a_fault_of_the_source_leaves_no_cache(changing_tree: Path, folder: Path) -> None:
    record_file(changing_tree, "AlexNet", "mnist", 5).write_text("[{")
    with pytest.raises(ValueError, match="is not JSON"):
        read_trials(PackageSource(changing_tree), 5)
    assert not folder.exists()
