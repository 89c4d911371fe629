"""Ten processes that write to one store at the same time."""

from __future__ import annotations

import subprocess
import sys

import pandas as pd

from nngpt_ext import PredictionStore

ROWS = 50
_SCRIPT = """
import math
import sys
import pandas as pd
from nngpt_ext import PredictionStore
url, number, rows = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
def row(question, adapter):
    return dict(
        question=question, nn="n", source="s", dataset_1="mnist", dataset_2="svhn", given_1="", given_2="",
        log_odds=float(number), probability_1=1 / (1 + math.exp(-number)), flipped=False, abstain=True,
        predicted="mnist", prompt="p", prompt_hash="h", adapter=adapter, calibration="", base_model="b",
    )
with PredictionStore.open(url) as store:
    for i in range(rows):  # a question of its own and one that all ten write
        store.add(pd.DataFrame([row(f"{number}-{i}", "own"), row(f"all-{(i * 7 + number) % rows}", "all")]))
        if i % 10 == 0:
            assert len(store.query(adapter_hash="own")) > i
"""


def write_at_once(url: str, writers: int = 10) -> pd.DataFrame:
    """Start them together, wait, and give back what is stored. Each of them makes the tables if it comes first."""
    command = [sys.executable, "-c", _SCRIPT, url]
    started = [
        subprocess.Popen([*command, str(i), str(ROWS)], stderr=subprocess.PIPE, text=True) for i in range(writers)
    ]
    faults = [process.communicate()[1] for process in started]
    assert [process.returncode for process in started] == [0] * writers, "\n".join(faults)
    with PredictionStore.open(url) as store:
        return store.query()
