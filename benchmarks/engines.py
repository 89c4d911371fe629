"""Fine-tuning of the demo with shared prefixes and without: the same losses, and the time of each.

    python benchmarks/engines.py --steps 50 --out benchmarks/results/engines-cpu.json

It takes the first optimiser steps of examples/demo.yaml in 4 bits, with `tuning.engine` shared and plain and dropout 0,
so that nothing but rounding may differ (on a CPU everything is computed in fp32). A step's loss covers its examples.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from benchmarks.figures import publish
from nngpt_ext import run_task

DEMO = Path(__file__).parents[1] / "examples" / "demo.yaml"


def losses(engine: str, networks: int, folder: Path) -> tuple[list[float], float, int]:
    """Loss of each step, seconds of fine-tuning without validation, and the number of examples."""
    result = run_task(
        "dataset_compare",
        DEMO,
        output_dir=folder / engine,
        data={"train_networks": networks, "validation_networks": 2, "test_networks": 2},
        model={"lora": {"dropout": 0.0}},
        tuning={"engine": engine, "epochs": 1, "test_every_epoch": False},
    )
    (checkpoint,) = (result.output_dir / "checkpoints").glob("checkpoint-*")
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    history = json.loads((result.output_dir / "checkpoints" / "history.json").read_text(encoding="utf-8"))[0]
    return [entry["loss"] for entry in state["log_history"] if "loss" in entry], history["seconds"], history["examples"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--networks", type=int, default=170, help="training networks, enough for that many steps")
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file too")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        found = {engine: losses(engine, given.networks, Path(name)) for engine in ("shared", "plain")}
    shared, plain = (found[engine][0][: given.steps] for engine in ("shared", "plain"))
    if min(len(shared), len(plain)) < given.steps:
        raise SystemExit(f"only {min(len(shared), len(plain))} steps; give more --networks")
    figures = {
        "steps": given.steps,
        "largest_difference": max(abs(a - b) for a, b in zip(shared, plain, strict=True)),
        "first_and_last_loss": [shared[0], shared[-1]],
        "examples": found["shared"][2],
        "seconds": {engine: found[engine][1] for engine in found},
        "times_faster": found["plain"][1] / found["shared"][1],
    }
    publish(figures, given.out)


if __name__ == "__main__":
    main()
