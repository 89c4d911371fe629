"""The command that measures LEMUR's networks: what it measures, and that it continues."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from nngpt_ext.networks.catalogue import SCHEMA, SHIPPED
from nngpt_ext.networks.structure import Shape
from research.structure import build


@pytest.mark.slow
def test_the_table_is_what_the_command_measures():
    wanted = {(key, shape) for key, _, shapes in build.jobs() for shape in shapes}
    table = pq.read_table(SHIPPED)
    assert table.schema.equals(SCHEMA)
    names = ("source", "channels", "height", "width", "classes")
    rows = list(zip(*(table[name].to_pylist() for name in names), strict=True))
    assert len(rows) == len(set(rows)) == len(wanted) == 26_668
    assert {(key, Shape(*shape)) for key, *shape in rows} == wanted


@pytest.mark.slow
def test_it_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lemur_sources: dict[str, str]) -> None:
    jobs = [
        ("a", lemur_sources["AlexNet"], [Shape(3, 32, 32, 10), Shape(3, 64, 64, 10)]),
        ("b", "1 / 0", [Shape(1, 28, 28, 10)]),
    ]
    monkeypatch.setattr(build, "jobs", lambda lemur: jobs)
    monkeypatch.setattr(sys, "argv", ["build", "--work", str(tmp_path), "--out", str(tmp_path / "table.parquet")])
    build.main()
    whole, table = (tmp_path / "structure.jsonl").read_text(), pq.read_table(tmp_path / "table.parquet")
    assert table["parameters"].to_pylist() == [57_044_810, 57_044_810, None]
    assert table["forward"].to_pylist() == [0, 1, None]  # AlexNet's pooling needs larger images; b is not built
    assert json.loads(whole.splitlines()[2])["failure"] == "ZeroDivisionError: division by zero"
    first, *_ = whole.splitlines(keepends=True)
    (tmp_path / "structure.jsonl").write_text(first + '{"source": "a", "sha')  # killed in the middle of a line
    assert [(key, shapes) for key, _, shapes in build.left(jobs, tmp_path / "structure.jsonl")] == [
        ("a", [Shape(3, 64, 64, 10)]), ("b", [Shape(1, 28, 28, 10)]),
    ]  # fmt: skip
    build.main()
    assert (tmp_path / "structure.jsonl").read_text() == whole
    assert pq.read_table(tmp_path / "table.parquet").equals(table)
