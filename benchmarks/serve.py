"""A server under load: batching against one question at a time, latency, the store, and a soak with kills.

python benchmarks/serve.py runs/demo                     # the table
python benchmarks/serve.py runs/demo --soak 50000        # distinct questions, with kills; memory of the server

The server is a process of its own; distinct questions are about LEMUR's networks, with a line added, so that none is
known.
"""

from __future__ import annotations

import argparse
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil

from nngpt_ext import Client, PredictionStore, UserError
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.run_folder import versions
from nngpt_ext.serve.server import listen

CLIENTS = 32
PAIRS = 21  # of a network, with the seven datasets of epoch 5


@contextmanager
def running(run: Path, port: int, store: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """A server that has loaded its model."""
    words = [sys.executable, "-m", "nngpt_ext", "-q", "serve", "--run", f"demo={run}", "--port", str(port)]
    words += ["--deadline", "600"]  # of a busy machine
    process = subprocess.Popen([*words, *(["--store", f"sqlite:///{store}"] if store else [])])
    try:
        while True:
            with suppress(httpx.HTTPError):
                if httpx.get(f"http://127.0.0.1:{port}/healthz").is_success:
                    break
            time.sleep(0.2)
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def networks() -> Iterator[str]:
    """Real sources, each different from all before."""
    sources = list(load_pairs(DataConfig()).sources.values())
    for number in itertools.count():
        yield f"{sources[number % len(sources)]}\n# {number}\n"


def rate(url: str, sources: Sequence[str], clients: int, ask: Callable[[Client, str], int]) -> tuple[float, np.ndarray]:
    """Pairs a second, and the seconds of each request."""

    def timed(source: str) -> tuple[int, float]:
        began = time.perf_counter()
        return ask(asking, source), time.perf_counter() - began

    with Client(url, timeout=600) as asking, ThreadPoolExecutor(clients) as pool:
        began = time.perf_counter()
        done = list(pool.map(timed, sources))
        return sum(n for n, _ in done) / (time.perf_counter() - began), np.array([seconds for _, seconds in done])


def rank(client: Client, source: str) -> int:
    return len(client.rank(source).comparisons)


def one_by_one(client: Client, source: str) -> int:
    """The pairs of a network, each its own request after the one before: nothing is computed together."""
    names = client.adapters()[0]["datasets"]
    pairs = list(itertools.combinations(names, 2))[:6]
    for a, b in pairs:
        client.compare(source, a, b)
    return len(pairs)


def measure(run: Path, rounds: int = 2, networks_each: int = 4 * CLIENTS) -> dict[str, Any]:
    """The table: medians over rounds."""
    new, found = networks(), []
    take = lambda n: list(itertools.islice(new, n))  # noqa: E731
    with tempfile.TemporaryDirectory() as folder, listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
        free.close()
        url = f"http://127.0.0.1:{port}"
        with running(run, port, Path(folder) / "store.db") as process:
            rate(url, take(8), 4, rank)
            for _ in range(rounds):
                known, used = take(networks_each), sum(psutil.Process(process.pid).cpu_times()[:2])
                together, _ = rate(url, known, CLIENTS, rank)
                used = 1000 * (sum(psutil.Process(process.pid).cpu_times()[:2]) - used) / (PAIRS * len(known))
                stored, _ = rate(url, known, CLIENTS, rank)
                single, _ = rate(url, take(4), 1, one_by_one)
                _, seconds = rate(url, take(40), 1, rank)
                p95 = float(np.percentile(seconds, 95)) * 1000
                found.append((together, stored, single, together / single, p95, used))
    names = (
        "pairs_per_second", "stored_per_second", "one_at_a_time_per_second", "against_one_at_a_time", "p95_ms",
        "cpu_ms_of_a_pair",
    )  # fmt: skip
    values = dict(zip(names, np.median(np.array(found), axis=0).round(1).tolist(), strict=True))
    return {**values, "clients": CLIENTS, "rounds": rounds, "versions": versions()}


def soak(run: Path, questions: int, kills: int = 3) -> dict[str, Any]:
    """Ask distinct questions while the server is killed; every answer must be in the store, with the same log-odds."""
    new, memory = networks(), []
    answered: dict[tuple[str, str, str], float] = {}
    with tempfile.TemporaryDirectory() as folder, listen("127.0.0.1", 0) as free:
        port, store = free.getsockname()[1], Path(folder) / "store.db"
        free.close()
        with Client(f"http://127.0.0.1:{port}", timeout=600) as client, ThreadPoolExecutor(CLIENTS) as pool:

            def ask(source: str) -> None:
                with suppress(UserError, RuntimeError):  # the server was killed
                    found = client.rank(source)
                    answered.update({(found.nn, c.dataset_1, c.dataset_2): c.log_odds for c in found.comparisons})

            for life in range(1, kills + 2):
                with running(run, port, store) as process:
                    while len(answered) < questions * life // (kills + 1):
                        list(pool.map(ask, itertools.islice(new, 4 * CLIENTS)))
                        memory.append((len(answered), psutil.Process(process.pid).memory_info().rss // 2**20))
                    last = [pool.submit(ask, source) for source in itertools.islice(new, CLIENTS)]
                    time.sleep(0.5)
                    if life <= kills:
                        process.kill()
                    for one in last:
                        one.result()
        rows = PredictionStore.open(f"sqlite:///{store}").query()
    keys = zip(rows["nn"], rows["dataset_1"], rows["dataset_2"], strict=True)
    stored = dict(zip(keys, rows["log_odds"], strict=True))
    lost = [key for key, odds in answered.items() if not abs(stored.get(key, np.inf) - odds) <= 1e-9]
    shown = memory[:: max(1, len(memory) // 20)]
    return {"questions": len(answered), "kills": kills, "lost": len(lost), "memory_mb": shown, "stored": len(rows)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--networks", type=int, default=4 * CLIENTS, help="of a round")
    parser.add_argument("--soak", type=int, help="number of distinct questions")
    given = parser.parse_args()
    found = soak(given.run, given.soak) if given.soak else measure(given.run, given.rounds, given.networks)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
