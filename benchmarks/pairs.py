"""Time and memory of building the pairs of epoch 5, each as a whole process.

    python benchmarks/pairs.py                 # from the package tree, and from our cache
    python benchmarks/pairs.py --api WORK      # against ab.nn.api.data too; WORK keeps its database (635 MB)

The api needs one more of nn-dataset's requirements: pip install radon.

Each figure is the median of the runs, which take turns; ratios are between these medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

OURS = """
from nngpt_ext.cli import app
app(["pairs", "--epoch", "5", "--source", "package", "--out", "pairs.parquet", "--json"], standalone_mode=False)
"""
API = """
import ab.nn.api as lemur
print(len(lemur.data(only_best_accuracy=False, task="img-classification")))
"""
HELP = "from nngpt_ext.cli import app; app(['--help'], standalone_mode=False)"


def measured(code: str, folder: Path, **environment: str) -> dict[str, float]:
    """Wall seconds and peak memory (MB) of a Python process."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, **environment}, stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the measured process failed with {process.returncode}")
    return {"seconds": time.monotonic() - began, "megabytes": usage.ru_maxrss / 1024}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--api", type=Path, help="folder for the database of ab.nn.api, built there once")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if given.api:
            given.api.mkdir(parents=True, exist_ok=True)
            measured(API, given.api)  # builds the database if there is none
        measured(OURS, folder, NNGPT_EXT_CACHE=str(folder / "warm"))  # page cache, and our cache
        for i in range(given.runs):
            fresh = str(folder / f"cold{i}")
            found.setdefault("package tree", []).append(measured(OURS, folder, NNGPT_EXT_CACHE=fresh))
            found.setdefault("our cache", []).append(measured(OURS, folder, NNGPT_EXT_CACHE=str(folder / "warm")))
            found.setdefault("--help", []).append(measured(HELP, folder))
            if given.api and i < 3:
                found.setdefault("ab.nn.api.data", []).append(measured(API, given.api))
    medians = {
        what: {key: statistics.median(run[key] for run in runs) for key in ("seconds", "megabytes")}
        for what, runs in found.items()
    }
    tree = medians["package tree"]
    ratios = {
        what: {key: tree[key] / value[key] for key in value}
        for what, value in medians.items()
        if what != "package tree"
    }
    if given.json:
        print(json.dumps({"medians": medians, "package tree / peer": ratios, "runs": given.runs}, indent=2))
        return
    for what, value in medians.items():
        low, high = (f(run["seconds"] for run in found[what]) for f in (min, max))
        print(f"{what:16} {value['seconds']:7.2f} s ({low:.2f} to {high:.2f})  {value['megabytes']:7.0f} MB")
    if "ab.nn.api.data" in ratios:
        peer = ratios["ab.nn.api.data"]
        print(f"ab.nn.api.data takes {1 / peer['seconds']:.0f} × the time and {1 / peer['megabytes']:.0f} × the memory")


if __name__ == "__main__":
    main()
