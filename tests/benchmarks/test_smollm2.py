"""The rates of bases, measured on the smallest one that ships."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.smollm2 import PARTS, main


@pytest.mark.slow
def test_rates_and_shares(tmp_path: Path) -> None:
    out = tmp_path / "rates.json"
    sizes = ["--networks", "2", "--code-tokens", "64", "--rounds", "1"]
    main(["--bases", "embedded-small", "--threads", "1", "2", *sizes, "--out", str(out)])
    found = json.loads(out.read_text())
    names = {f"embedded-small, {kind}, threads: {n}" for kind in ("NF4", "unquantised") for n in (1, 2)}
    for what in ("training", "scoring"):
        assert set(found[what]) == names
        assert all(rate["tokens_per_second"] > rate["examples_per_second"] > 0 for rate in found[what].values())
    four, plain = (found["shares"][f"embedded-small, {kind}"] for kind in ("NF4", "unquantised"))
    assert set(four) == set(plain) == {*PARTS, "other"}
    assert sum(four.values()) == pytest.approx(1)
    assert four["dequantisation"] > plain["dequantisation"] == 0
    assert min(part for name, part in plain.items() if name != "dequantisation") > 0
