"""NNGPT's own pairs and prompts, measured: `python -m nngpt_ext.bench.host_workload pairs | prompts OUT MODULE …`.

It runs in a process of its own that is started in a root (`nngpt_ext.host.process`). The result goes to a Parquet file,
time and memory to the last line.
"""

from __future__ import annotations

import importlib
import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nngpt_ext.host.process import MARK


def peak_mb() -> float:
    """The highest memory use of this process in MB.

    On Linux it is read from VmHWM (`man 5 proc`): `getrusage` there also counts the memory of the parent process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"), re.MULTILINE)
        if found is not None:
            return int(found[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def finish(out: str, work: Callable[[], Any]) -> None:
    """Do some work, write the table that it returns as Parquet, and print its cost: seconds, CPU seconds, memory."""
    began, busy = time.perf_counter(), time.process_time()
    table = work()
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - busy, "peak_mb": peak_mb()}
    table.to_parquet(out, index=False)
    print(MARK + json.dumps({"rows": len(table), **took}))


def _host_pairs(module: Any, meta: str, epoch: str) -> Any:
    """The pairs of NNGPT's `DatasetCompareBuilder`, without the sources."""
    import pandas as pd

    found = module.DatasetCompareBuilder(meta_path=meta, epoch=int(epoch)).build_pairs()
    columns = ["nn", "dataset_1", "dataset_2", "norm_acc_1", "norm_acc_2", "answer"]
    return pd.DataFrame([{name: row[name] for name in columns} for row in found], columns=columns)


def _host_prompts(module: Any, prompt_file: str, tokenizer: Any, limit: str) -> Any:
    """The rows that NNGPT's `NNGenPrompt` renders from a prompt file."""
    rows = module.NNGenPrompt(8192, tokenizer, prompt_file).get_raw_dataset(False, int(limit))
    return rows[["instruction", "response", "text"]]


def _main(what: str, out: str, name: str, *given: str) -> None:
    """Measure one of them without the time of imports and of loading the tokenizer."""
    import pandas  # noqa: F401

    module = importlib.import_module(name)
    if what == "pairs":
        finish(out, lambda: _host_pairs(module, *given))
        return
    from transformers import AutoTokenizer

    file, folder, template, limit = given
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    finish(out, lambda: _host_prompts(module, file, tokenizer, limit))


if __name__ == "__main__":
    _main(*sys.argv[1:])
