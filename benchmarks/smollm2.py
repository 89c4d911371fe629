"""A pre-trained base beside the embedded one: tokens per second in training and scoring, and where the time goes.

    python benchmarks/smollm2.py --out benchmarks/results/smollm2-cpu.json

Each base is measured in 4 bits (NF4) and not, with one thread and with two, on the same networks with shared prefixes;
tokens are those that went through the model. Run it on an idle machine: 10 minutes on two cores. The shares are of
twenty questions about one network, forward and backward, on one thread.
"""

from __future__ import annotations

import argparse
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks import peers
from benchmarks.figures import publish
from benchmarks.stopwatch import Work, in_turn
from benchmarks.workload import Workload, make_workload
from nngpt_ext.models.base import load_base
from nngpt_ext.run_folder import versions

ROW_TOKENS = 2048
# What the names of torch's operations say about where the time goes; the first that fits counts.
PARTS = {"dequantisation": ("dequantize",), "attention": ("scaled_dot_product",), "matrix products": ("mm", "linear")}


def measure(
    bases: Sequence[str], threads: Sequence[int], networks: int, code_tokens: int, rounds: int
) -> dict[str, Any]:
    """Rates of training and scoring for each base, kind of weights and number of threads, and shares of the time."""
    logging.getLogger("nngpt_ext.tuning").setLevel(logging.WARNING)
    kinds = {
        f"{base}, {'NF4' if bits else 'unquantised'}": (base, bits) for base in bases for bits in (True, False)
    }  # fmt: skip
    found = {
        kind: make_workload(load_base(base, load_in_4bit=bits), "code_only", networks, code_tokens, ROW_TOKENS)
        for kind, (base, bits) in kinds.items()
    }
    works: dict[str, Callable[[Workload], Work]] = {
        "training": peers.train_shared,
        "scoring": lambda workload: peers.score(workload, workload.groups),
    }
    before = torch.get_num_threads()
    figures = {
        what: {
            name: asdict(rate)
            for name, rate in in_turn(
                {f"{kind}, threads: {n}": partial(_on, n, way, found[kind]) for kind in kinds for n in threads},
                rounds,
                what,
            ).items()
        }
        for what, way in works.items()
    }
    torch.set_num_threads(1)
    result = {
        "device": torch.cuda.get_device_name()
        if torch.cuda.is_available()
        else torch.backends.cpu.get_cpu_capability(),
        "versions": versions(),
        "lengths": {kind: asdict(workload.lengths) for kind, workload in found.items()},
        **figures,
        "shares": {kind: shares(workload) for kind, workload in found.items()},
    }
    torch.set_num_threads(before)
    return result


def _on(threads: int, way: Callable[[Workload], Work], found: Workload) -> Work:
    torch.set_num_threads(threads)
    return way(found)


def shares(found: Workload) -> dict[str, float]:
    """Shares of the kinds of operations in the time of a forward and backward pass."""
    first = found.with_questions(20, 1)
    with torch.profiler.profile() as profile:
        peers.forward_and_backward(first, "shared")
    spent: Counter[str] = Counter()
    for event in profile.key_averages():
        name = event.key.lower()
        part = next((part for part, words in PARTS.items() if any(word in name for word in words)), "other")
        spent[part] += event.self_cpu_time_total + event.self_device_time_total
    return {part: spent[part] / spent.total() for part in (*PARTS, "other")}


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", nargs="+", default=["smollm2-135m", "embedded"])
    parser.add_argument("--threads", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--networks", type=int, default=6)
    parser.add_argument("--code-tokens", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file too")
    given = parser.parse_args(arguments)
    publish(measure(given.bases, given.threads, given.networks, given.code_tokens, given.rounds), given.out)


if __name__ == "__main__":
    main()
