"""The script for a GPU, at its tiny shape on a CPU: it runs, and its 4-bit gradients are those of the weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import gpu


def dequantised(model: Any) -> Any:
    """The same model with plain layers that hold what the 4-bit ones stand for."""
    from bitsandbytes.functional import dequantize_4bit

    for name, layer in list(model.named_modules()):
        if type(layer).__name__ == "Linear4bit":
            plain = torch.nn.Linear(layer.in_features, layer.out_features, bias=False)
            plain.weight = torch.nn.Parameter(dequantize_4bit(layer.weight.data, layer.weight.quant_state), False)
            parent, _, last = name.rpartition(".")
            setattr(model.get_submodule(parent), last, plain)
    return model


def test_gradients_in_4_bits_are_those_of_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bitsandbytes.nn.modules.has_avx512bf16", lambda: True)  # as on such a CPU
    groups = gpu.questions(2, 6, 60, 12, gpu.SHAPES["tiny"][-1])
    cpu = torch.device("cpu")
    found = []
    for change in (lambda model: model, dequantised):
        model = change(gpu.base_model("tiny", cpu, True))
        engine = gpu.checked_engine(model, groups[0], 0, "shared")
        assert engine == "shared"
        torch.manual_seed(0)
        tuned = gpu.with_lora(model, 4).train()
        found.append(gpu.gradients(tuned, gpu.passes(tuned, groups, engine, 512)))
    assert float((found[0] - found[1]).norm() / found[1].norm()) < 1e-5


@pytest.mark.parametrize(("row_tokens", "held"), [(150, 1), (300, 2), (500, 4)])
def test_rows_are_full(row_tokens: int, held: int) -> None:
    groups = gpu.questions(3, 4, 60, 12, 100)  # 60 + 4 * (12 + 3) = 120 tokens each
    model = gpu.base_model("tiny", torch.device("cpu"), False)
    for rows in (3, None):
        batches = gpu.passes(model, gpu.filling(groups, row_tokens, rows), "shared", row_tokens)
        assert len(batches) == (rows or -(-3 // held))
        assert {batch.n_tokens for batch in batches} == {120 * held}


@pytest.mark.slow
def test_it_runs_on_a_cpu(tmp_path: Path) -> None:
    command = [sys.executable, gpu.__file__, "--tiny", "--networks", "3", "--questions", "6", "--out", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "autograd kernel" not in done.stderr
    found = json.loads((tmp_path / "gpu-tiny-cpu.json").read_text())
    assert found["gradient_relative_error"] < 1e-5
    assert found["gradient_relative_error_tiny_fp32"] < 1e-5
    assert {row["engine"] for row in found["results"]} == {
        "shared", "plain", "shared, the package's trainer", "plain, the package's trainer"
    }  # fmt: skip
    assert not [row for row in found["results"] if "failed" in row]
    assert all(row["row_tokens"] / 2 < row["tokens_per_row"] <= row["row_tokens"] for row in found["results"])
    told = [json.loads(line) for line in done.stderr.splitlines() if line.startswith('{"engine"')]
    assert told == found["results"]
    assert found["versions"]["torch"] == torch.__version__
