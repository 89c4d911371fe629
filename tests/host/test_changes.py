"""A folder that is whole or not there. `enable`'s tests hold the rest of `nngpt_ext.host.changes`."""

from __future__ import annotations

from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host.changes import new_folder


def names(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


@pytest.mark.parametrize("there", [False, True])
def test_it_is_renamed_when_it_is_whole(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "a" / "b"
    if there:
        target.mkdir(parents=True)
    with new_folder(target) as place:
        (place / "file").touch()
        assert not (target / "file").exists()
    assert names(tmp_path) == ["a", "a/b", "a/b/file"]
    assert target.stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize("there", [False, True])
def test_nothing_is_left_of_one_that_fails(tmp_path: Path, there: bool) -> None:
    target = tmp_path / "a" / "b"
    if there:
        target.parent.mkdir()

    def stopped() -> None:
        with new_folder(target) as place:
            (place / "file").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert names(tmp_path) == (["a"] if there else [])


def test_what_came_in_the_meantime_stays(tmp_path: Path) -> None:
    target = tmp_path / "out"

    def overtaken() -> None:
        with new_folder(target) as place:
            (place / "ours").touch()
            target.mkdir()
            (target / "theirs").touch()

    with pytest.raises(UserError, match="has been written to in the meantime; give another with --out"):
        overtaken()
    assert names(tmp_path) == ["out", "out/theirs"]
