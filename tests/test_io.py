"""Files and folders are whole or as they were."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.io import (
    digest,
    file_digest,
    inside,
    parse_mapping,
    read_text,
    remove,
    replacing,
    replacing_folder,
    text_digest,
    write_text,
)  # fmt: skip


class Mishap(Exception):
    pass


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def full(*_, **__):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def forbidden(*_, **__):
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


# Files


def test_file_is_written_and_replaced(tmp_path):
    target = tmp_path / "a.txt"
    write_text(target, "one — 1")
    write_text(str(target), "two")
    assert target.read_text(encoding="utf-8") == "two"
    assert names(tmp_path) == ["a.txt"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o644


@pytest.mark.parametrize("before", [None, "before"])
@pytest.mark.parametrize("error", [Mishap, KeyboardInterrupt])
def test_an_exception_inside_leaves_the_file_as_it_was(tmp_path, before, error):
    target = tmp_path / "a.txt"
    if before is not None:
        target.write_text(before)

    def write_half():
        with replacing(target) as temporary:
            temporary.write_text("half")
            assert temporary.parent == tmp_path  # so that renaming never crosses disks
            raise error

    with pytest.raises(error):
        write_half()
    assert (target.read_text() if target.exists() else None) == before
    assert names(tmp_path) == ([] if before is None else ["a.txt"])


def test_what_readers_see_is_never_half_written(tmp_path):
    target = tmp_path / "a.txt"
    target.write_text("before")
    with replacing(target) as temporary:
        temporary.write_text("after")
        assert target.read_text() == "before"
    assert target.read_text() == "after"


@pytest.mark.parametrize("place", ["none/a.txt", "file/a.txt"])
def test_no_such_folder(tmp_path, place):
    (tmp_path / "file").touch()
    reason = {"none": "No such file or directory", "file": "Not a directory"}[place.split("/")[0]]
    with pytest.raises(UserError) as error:
        write_text(tmp_path / place, "")
    assert str(error.value) == f"cannot write '{tmp_path / place}': {reason}"
    assert names(tmp_path) == ["file"]


def test_a_folder_is_in_the_way_of_a_file(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(UserError, match=r"^cannot write '.*a\.txt': Is a directory$"):
        write_text(tmp_path / "a.txt", "")
    assert names(tmp_path) == ["a.txt"]


# No disk can be filled here and root is forbidden nothing, so the system's calls fail in their place.
@pytest.mark.parametrize("step", ["mkstemp", "write", "rename"])
@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (full, r"^no space left on the disk for '.*a\.txt'; free some"),
        (forbidden, r"^cannot write '.*': Permission den"),
    ],
)
def test_full_disk_and_forbidden_folder(tmp_path, monkeypatch, step, fault, message):
    target = tmp_path / "a.txt"
    target.write_text("before")
    if step == "mkstemp":
        monkeypatch.setattr(tempfile, "mkstemp", fault)
    else:
        monkeypatch.setattr(Path, {"write": "write_text", "rename": "replace"}[step], fault)
    with pytest.raises(UserError, match=message):
        write_text(target, "after")
    monkeypatch.undo()
    assert target.read_text() == "before"
    assert names(tmp_path) == ["a.txt"]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")  # noqa: PTH110
def test_a_really_full_device(tmp_path):
    with pytest.raises(UserError, match="no space left on the disk for"), replacing(tmp_path / "a.txt"):
        Path("/dev/full").write_bytes(b"x")
    assert names(tmp_path) == []


# Folders


def test_folder_is_written_and_replaced(tmp_path):
    target = tmp_path / "adapter"
    for name in ("one", "two"):
        with replacing_folder(target) as temporary:
            (temporary / name).write_text(name)
        assert names(target) == [name]
    assert names(tmp_path) == ["adapter"]
    assert stat.S_IMODE(target.stat().st_mode) == 0o755


@pytest.mark.parametrize("before", [False, True])
def test_an_exception_inside_leaves_the_folder_as_it_was(tmp_path, before):
    target = tmp_path / "adapter"
    if before:
        target.mkdir()
        (target / "one").touch()

    def write_half():
        with replacing_folder(target) as temporary:
            (temporary / "two").touch()
            raise Mishap

    with pytest.raises(Mishap):
        write_half()
    assert names(tmp_path) == (["adapter"] if before else [])
    assert not before or names(target) == ["one"]


def test_a_folder_that_cannot_be_put_in_place_brings_the_former_one_back(tmp_path, monkeypatch):
    target = tmp_path / "adapter"
    target.mkdir()
    (target / "one").touch()
    rename = Path.rename

    def fail_for_new(path, to):  # only the last step fails, when the former folder has already stepped aside
        return full() if Path(to) == target and not path.name.endswith(".former") else rename(path, to)

    monkeypatch.setattr(Path, "rename", fail_for_new)
    with pytest.raises(UserError, match="no space left on the disk"), replacing_folder(target) as temporary:
        (temporary / "two").touch()
    monkeypatch.undo()
    assert names(tmp_path) == ["adapter"]
    assert names(target) == ["one"]


def test_a_file_is_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "adapter").write_text("mine")
    with (
        pytest.raises(UserError, match=r"^cannot write '.*adapter': Not a directory"),
        replacing_folder(tmp_path / "adapter"),
    ):
        pass
    assert (tmp_path / "adapter").read_text() == "mine"
    with pytest.raises(UserError, match="Not a directory"), replacing_folder(tmp_path / "adapter" / "inner"):
        pass
    assert names(tmp_path) == ["adapter"]


# What a killed process left


def age(folder):
    """Make everything in a folder older than the moment in which a writer has no lock yet."""
    for place in folder.iterdir():
        os.utime(place, (0, 0))


def test_a_new_temporary_may_belong_to_a_writer_without_its_lock(tmp_path):
    (tmp_path / ".a.txt.a1b2c3d4.tmp").write_text("half")
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == [".a.txt.a1b2c3d4.tmp", "a.txt"]


def test_leftovers_go_with_the_next_write_and_nothing_else_does(tmp_path):
    for name in (".a.txt.a1b2c3d4.tmp", ".a.txt.original", ".a.txt.tmp", ".b.txt.a1b2c3d4.tmp", ".a_txt.a1b2c3d4.tmp"):
        (tmp_path / name).write_text("half")
    (tmp_path / ".a.txt.a1b2_3d4.tmp").mkdir()
    age(tmp_path)
    write_text(tmp_path / "a.txt", "whole")
    assert names(tmp_path) == [".a.txt.original", ".a.txt.tmp", ".a_txt.a1b2c3d4.tmp", ".b.txt.a1b2c3d4.tmp", "a.txt"]


@pytest.mark.parametrize("replace", [replacing, replacing_folder])
def test_what_is_being_written_is_no_leftover(tmp_path, replace):
    with replace(tmp_path / "a") as one, replace(tmp_path / "a") as other:
        assert one.exists()
        assert other.exists()
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("there", [True, False])
def test_a_folder_that_a_killed_process_moved_aside_comes_back(tmp_path, there):
    target, former = tmp_path / "adapter", tmp_path / ".adapter.a1b2c3d4.tmp.former"
    for folder in (former, tmp_path / ".adapter.a1b2c3d4.tmp", *([target] if there else [])):
        folder.mkdir()
        (folder / folder.name).touch()
    age(tmp_path)
    with pytest.raises(Mishap), replacing_folder(target):
        raise Mishap
    assert names(tmp_path) == ["adapter"]
    assert names(target) == ["adapter" if there else former.name]


# Hashes


@pytest.mark.parametrize(
    "text",
    ["{", "[1]", "3", "lr=0.1", "[" * 100_000, '{"a":' * 100_000, "9" * 5_000, "", "\0", "\ud800", b"\xff", b"[]"],
)
def test_what_is_not_a_json_object_is_one_line(text):
    with pytest.raises(UserError, match=r'for example \{"lr": 0.01, "batch": 64\}|not UTF-8 \(byte 0\)') as error:
        parse_mapping(text, "the recipe")
    assert len(str(error.value)) < 300


def test_a_key_that_stands_twice_is_refused():
    for text in ('{"lr": 1, "batch": 2, "lr": 3}', '{"mnist": {"lr": 1, "lr": 1}}'):
        with pytest.raises(UserError, match=r"^the recipe is not JSON \(the key 'lr' stands there 2 times\); for exam"):
            parse_mapping(text, "the recipe")
    assert parse_mapping('{"a": {"b": 1}, "b": 1}', "the recipe") == {"a": {"b": 1}, "b": 1}


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs a file without an end")
def test_a_text_without_an_end_is_not_read_to_it():
    with pytest.raises(UserError, match=r"^the prompt '/dev/zero' has more than 33,554,432 bytes$"):
        read_text("/dev/zero", "the prompt")


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path):
    for content in ('\ufeff{"lr": 1}', b'\xef\xbb\xbf{"lr": 1}'):
        assert parse_mapping(content, "the recipe") == {"lr": 1}
    (tmp_path / "a.txt").write_text("\ufeffé", encoding="utf-8")
    assert read_text(tmp_path / "a.txt") == "é"


def test_files_that_are_no_text(tmp_path):
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    for file, reason in (
        (tmp_path / "latin.txt", "the prompt '.*latin.txt' is not UTF-8 \\(byte 0\\); save it as UTF-8"),
        (tmp_path, "cannot read the prompt '.*': Is a directory"),
        (tmp_path / "none", "cannot read the prompt '.*': No such file or directory"),
        ("a\0b", "cannot read the prompt .*: embedded null byte"),
        ("a" * 5_000, "cannot read the prompt 'a{200}…a{100}': File name too long|cannot read"),
    ):
        with pytest.raises(UserError, match=reason) as error:
            read_text(file, "the prompt")
        assert len(str(error.value)) < 500


def test_digests_do_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [2, "ü"]}) == digest({"b": [2, "ü"], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


def test_digests_are_sha256_of_the_bytes(tmp_path):
    assert text_digest("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    (tmp_path / "a.txt").write_text("é", encoding="utf-8")
    assert file_digest(tmp_path / "a.txt") == text_digest("é") != text_digest("e")


def test_a_link_is_replaced_by_a_folder(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "one").touch()
    (tmp_path / "adapter").symlink_to("mine")
    with replacing_folder(tmp_path / "adapter") as temporary:
        (temporary / "two").touch()
    assert names(tmp_path) == ["adapter", "mine"]
    assert names(tmp_path / "adapter") == ["two"]
    assert names(tmp_path / "mine") == ["one"]


# Links


def test_inside(tmp_path):
    folder, mine = tmp_path / "folder", tmp_path / "mine"
    for place in (folder / "real", mine):
        place.mkdir(parents=True)
    (folder / "within").symlink_to("real")
    (folder / "without").symlink_to(mine)
    (folder / "dangling").symlink_to(tmp_path / "none")
    (folder / "loop").symlink_to("loop")
    (tmp_path / "latest").symlink_to(folder)
    for given in (folder, tmp_path / "latest", str(folder)):
        for names in ((), ("real",), ("within", "a"), ("none", "a", "b"), ("real", "..", "real")):
            assert inside(given, *names) == Path(given, *names)
    for names in (("without",), ("without", "a"), ("real", "..", "..", "mine"), ("dangling",), ("..",)):
        with pytest.raises(UserError, match=r"^'.*' leads to '.*', outside '.*folder'; remove the link"):
            inside(folder, *names)
    with pytest.raises(UserError, match="is a link that leads to itself; remove it"):
        inside(folder, "loop")


def test_remove_never_follows_a_link(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "one").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "link").symlink_to(mine)
    (tmp_path / "link").symlink_to(mine)
    (tmp_path / "file").touch()
    for name in ("folder", "link", "file", "none"):
        remove(tmp_path / name)
    assert names(tmp_path) == ["mine"]
    assert names(mine) == ["one"]
