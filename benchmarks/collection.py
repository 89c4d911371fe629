"""`nngpt-ext score` over real LEMUR sources: in one go, and killed twice and started again; are the rows the same?

    python benchmarks/collection.py runs/demo --networks 500 --out benchmarks/results/collection-local.json
    python benchmarks/collection.py runs/demo --networks 500 --engine ray --out benchmarks/results/collection-ray.json

The process is killed (SIGKILL, it and all that it started) when a third and when two thirds of the shards are done.
On Ray one worker is killed too, in the last part, while the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from benchmarks.figures import publish
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.errors import UserError
from nngpt_ext.networks.source import read_source

KEYS = ["nn", "dataset_1", "dataset_2"]
RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": 0.2, "transform": "norm_32"}  # where it is shown


def collection(folder: Path, networks: int) -> Path:
    """Write a table of that many real sources, taken evenly from all of LEMUR's that are Python."""
    source = open_source("package")
    names = sorted(source.networks())
    # A few more than needed: not every source is Python.
    texts = source.sources([names[i] for i in np.linspace(0, len(names) - 1, networks + networks // 5 + 5).astype(int)])
    chosen = [nn for nn in texts if _is_python(texts[nn])][:networks]
    frame = pd.DataFrame({"nn": chosen, "nn_code": [texts[nn] for nn in chosen], "recipe": json.dumps(RECIPE)})
    frame.to_parquet(folder / "codes.parquet", index=False)
    return folder / "codes.parquet"


def _is_python(text: str) -> bool:
    try:
        read_source(text)
    except UserError:
        return False
    return True


def start(run: Path, codes: Path, out: Path, shard: int, more: list[str]) -> subprocess.Popen[str]:
    """Start the command in its own session."""
    arguments = ["score", "--run", run, "--codes", codes, "--out", out, "--shard", shard, "--json", *more]
    command = [sys.executable, "-m", "nngpt_ext", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)


def finish(process: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for the command; returns the JSON that it prints."""
    printed, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"nngpt-ext score failed with exit code {process.returncode}")
    return dict(json.loads(printed))


def when_done(out: Path, shards: int, process: subprocess.Popen[str]) -> int:
    """Wait until at least that many shards are done; returns how many are."""
    while True:
        done = len(list(out.with_name(f"{out.name}.parts").glob("0*.parquet")))
        if done >= shards:
            return done
        if process.poll() is not None:
            raise SystemExit("the command ended before it could be killed; type more --networks or a smaller --shard")
        time.sleep(0.05)


def kill_all(process: subprocess.Popen[str]) -> None:
    """Kill a process and all its children at once."""
    below = psutil.Process(process.pid).children(recursive=True)
    os.kill(process.pid, signal.SIGKILL)
    for one in below:
        if one.is_running():
            one.kill()
    process.wait()


def kill_a_worker(process: subprocess.Popen[str]) -> int:
    """Kill one of Ray's workers; returns its process id."""
    for one in psutil.Process(process.pid).children(recursive=True):
        if "ray::score_remotely" in " ".join(one.cmdline()):
            one.kill()
            return one.pid
    raise SystemExit("Ray has no worker that could be killed")


def compare(whole: pd.DataFrame, resumed: pd.DataFrame) -> dict[str, Any]:
    """Compare the rows: how many are lost, new or repeated, and how far apart the log-odds are."""
    both = whole.merge(resumed, on=KEYS, how="outer", suffixes=("", "_2"), indicator=True)
    return {
        "rows": len(resumed),
        "lost": int((both["_merge"] == "left_only").sum()),
        "new": int((both["_merge"] == "right_only").sum()),
        "twice": int(resumed.duplicated(KEYS).sum()),
        "other_winners": int((both["predicted"] != both["predicted_2"]).sum()),
        "largest_difference_of_log_odds": float((both["log_odds"] - both["log_odds_2"]).abs().max()),
    }


def measure(run: Path, networks: int, shard: int, more: list[str], work: Path, tell: Callable[[str], None]) -> Any:
    """Measure one engine."""
    codes = collection(work, networks)
    shards = -(-networks // shard)
    began = time.monotonic()
    first = finish(start(run, codes, work / "whole.parquet", shard, more))
    seconds = time.monotonic() - began
    tell(f"in one go: {first['rows']:,} rows in {seconds:.0f} s")
    out, kills = work / "resumed.parquet", []
    for share in (1 / 3, 2 / 3):
        process = start(run, codes, out, shard, more)
        kills.append(when_done(out, int(shards * share), process))
        kill_all(process)
        tell(f"killed with {kills[-1]} of {shards} shards done")
    process = start(run, codes, out, shard, more)
    worker = None
    if "ray" in more:
        when_done(out, kills[-1] + 1, process)
        worker = kill_a_worker(process)
        tell(f"worker {worker} killed")
    last = finish(process)
    return {
        "run": str(run), "networks": networks, "shards": shards, "refused": len(last["refused"]),
        "killed_with_shards_done": kills, "worker_killed": worker is not None, "seconds_in_one_go": round(seconds, 1),
        **compare(pd.read_parquet(work / "whole.parquet"), pd.read_parquet(out)),
        "left_over": sorted(file.name for file in work.iterdir() if file.name.startswith("resumed.parquet.")),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--shard", type=int, default=20)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nngpt_ext_collection_") as work:
        found = measure(
            given.run, given.networks, given.shard, ["--engine", given.engine], Path(work),
            lambda text: print(text, file=sys.stderr, flush=True),
        )  # fmt: skip
    publish({"engine": given.engine, **found}, given.out)
    if found["lost"] or found["new"] or found["twice"]:
        raise SystemExit("the rows are not the same")


if __name__ == "__main__":
    main()
