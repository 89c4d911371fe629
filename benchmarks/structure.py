"""How many networks a second are measured in the sandbox.

    python benchmarks/structure.py --out benchmarks/results/structure-cpu.json

Every ninth of LEMUR's networks at one shape (its first), and a fifth of these at all shapes of their trials, with one
sandbox and with two: five minutes on two idle cores. Nothing is taken from the package's table or from the cache.
Starting a sandbox is not counted.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import publish
from nngpt_ext.networks.catalogue import measure_all
from nngpt_ext.networks.sandbox import Unmeasured
from nngpt_ext.networks.structure import Shape
from nngpt_ext.run_folder import versions
from research.structure.build import jobs

STEP = 9


def measured(wanted: list[tuple[str, str, list[Shape]]], workers: int) -> dict[str, Any]:
    """Time to measure all but the first network of each worker, which waits for torch."""
    results = measure_all(wanted, workers=workers)
    for _ in range(workers):
        next(results)
    start, networks, shapes, failed = time.perf_counter(), 0, 0, 0
    for _, found in results:
        networks, shapes = networks + 1, shapes + len(found)
        failed += any(isinstance(one, Unmeasured) for one in found.values())
    seconds = time.perf_counter() - start
    return {
        "networks": networks, "shapes": shapes, "unmeasured": failed, "seconds": round(seconds, 2),
        "networks_per_second": round(networks / seconds, 2),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="write the figures to this file")
    given = parser.parse_args()
    every = jobs()[::STEP]
    ways = {"one shape": [(key, code, shapes[:1]) for key, code, shapes in every], "all shapes": every[::5]}
    found = {
        f"{name}, {workers} at a time": measured(wanted, workers) for name, wanted in ways.items() for workers in (1, 2)
    }
    publish({**found, "versions": versions()}, given.out)


if __name__ == "__main__":
    main()
