"""`bench host` measures both sides on one database, and what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.host import bench_host, host_text
from nngpt_ext.cli import app
from nngpt_ext.errors import UserError
from nngpt_ext.host.installation import Host
from tests.host.conftest import database, host, tree
from tests.host.test_installation import made

__all__ = ["database", "host", "tree"]

PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "results" / "host-cpu.json"


@pytest.mark.slow
def test_the_benchmark(host: Host, database: Path) -> None:
    arguments = ["bench", "host", "--database", str(database), "--host", str(host.folder), "--prompts", "8", "--json"]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    found = json.loads(done.stdout[done.stdout.index("{") :])
    pairs = found["pairs"]
    assert pairs["ours"]["rows"] == pairs["host"]["rows"] == pairs["same_answers"] > 200
    for what in ("pairs", "prompts"):
        for name in ("ours", "host"):
            assert found[what][name]["seconds"] > 0
        assert found[what]["times_faster"] == pytest.approx(
            found[what]["host"]["seconds"] / found[what]["ours"]["seconds"]
        )
    assert found["prompts"]["ours"]["rows"] == found["prompts"]["host"]["rows"] == 8


def test_a_benchmark_without_a_database(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    with pytest.raises(UserError, match=r"no LEMUR database at '.*'; .*type: nngpt-ext host database --out"):
        bench_host(tmp_path / "absent.db", folder=tmp_path)


def test_the_text_has_both_sides() -> None:
    lines = host_text(json.loads(PUBLISHED.read_text())).splitlines()
    assert [line.split(":")[0] for line in lines[:2]] == ["19,314 pairs", "1,024 prompts"]
    assert lines[2].startswith("19,314 of 19,314 answers are the same")
