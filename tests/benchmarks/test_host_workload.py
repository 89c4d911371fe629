"""What a workload measures of its own process; tests/host runs NNGPT's workloads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def test_a_process_does_not_count_the_memory_of_its_parent() -> None:
    script = """
import subprocess, sys
held = b"x" * 400_000_000
child = "from benchmarks.host_workload import peak_mb; print(peak_mb())"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True, check=True).stdout)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=Path(__file__).parents[2], capture_output=True, text=True)
    assert 5 < float(done.stdout) < 200, done.stderr
