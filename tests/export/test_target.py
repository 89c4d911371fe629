"""A folder to publish is whole or not there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nngpt_ext import UserError
from nngpt_ext.export.target import exporting


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
