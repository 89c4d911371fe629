"""The store's benchmark, small, and the committed figures."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.store import QUERIES, measure

PUBLISHED = Path(__file__).parents[2] / "benchmarks" / "results" / "store-sqlite.json"


@pytest.mark.slow
def test_each_query_is_measured_with_and_without_its_index(tmp_path: Path) -> None:
    found = measure(5_000, tmp_path)
    assert found["rows"] >= 5_000
    assert {next(iter(query)) for query in QUERIES.values()} == set(found["queries"])


def test_indexes_pay_on_a_million_rows() -> None:
    published = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    assert published["rows"] >= 1_000_000
    for figures in published["queries"].values():
        assert figures["rows"] > 0
        assert figures["times_faster"] == pytest.approx(figures["seconds_without_index"] / figures["seconds"], rel=0.1)
        assert figures["times_faster"] > 2
