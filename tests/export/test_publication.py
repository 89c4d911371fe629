"""A folder to publish is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nngpt_ext import UserError
from nngpt_ext.export.publication import exporting


def test_what_breaks_off_leaves_the_former_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with exporting(out, "dataset", {"epoch": 5}) as folder:
        (folder / "a").write_text("first")
    assert json.loads((out / "export.json").read_text())["kind"] == "dataset"
    with pytest.raises(UserError, match="cannot write"), exporting(out, "dataset", {}) as folder:
        (folder / "a").rename(folder / "b")
    assert (out / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with exporting(out, "hub", {}) as folder:
        (folder / "a").write_text("first")
    assert (out / "a").is_file()


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine", tmp_path / "latest"
    with exporting(mine, "hub", {}) as folder:
        (folder / "a").write_text("mine")
    out.symlink_to(mine)
    with exporting(out, "hub", {}) as folder:
        (folder / "a").write_text("second")
    assert (mine / "a").read_text() == "mine"
    assert (out / "a").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "mine"]


def test_links_in_a_former_one_are_not_followed(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    with exporting(out, "dataset", {}) as folder:
        (folder / "data").symlink_to(mine)
    with exporting(out, "dataset", {}) as folder:
        (folder / "data").mkdir()
    assert (mine / "thesis.tex").read_text() == "mine"
    assert [path.name for path in (out / "data").iterdir()] == []
