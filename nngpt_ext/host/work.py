"""The host's own work, in a process of its own: `python -m nngpt_ext.host.work WHAT ARGUMENTS`, in a root.

For parity and for the benchmark: what comes out goes to a Parquet file, time and memory to the last line.
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

MARK = "nngpt_ext.host.work: "


def peak_mb() -> float:
    """The most memory this process has had, in MB.

    Linux keeps it by program (VmHWM, `man 5 proc`); what `getrusage` gives there counts the memory that the process
    which started this one had, too.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"), re.MULTILINE)
        if found is not None:
            return int(found[1]) / 2**10
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest / (2**20 if sys.platform == "darwin" else 2**10)


def finish(out: str, work: Callable[[], Any]) -> None:
    """Do it, write the table that it gives, and say what it took: seconds, those of the processor, and memory."""
    began, busy = time.perf_counter(), time.process_time()
    table = work()
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - busy, "peak_mb": peak_mb()}
    table.to_parquet(out, index=False)
    print(MARK + json.dumps({"rows": len(table), **took}))


def pairs(module: str, meta: str, epoch: int) -> Any:
    """The host's pairs, as `DatasetCompareBuilder(epoch).build_pairs()` gives them, without the sources."""
    import pandas as pd

    found = importlib.import_module(module).DatasetCompareBuilder(meta_path=meta, epoch=epoch).build_pairs()
    columns = ["nn", "dataset_1", "dataset_2", "norm_acc_1", "norm_acc_2", "answer"]
    return pd.DataFrame([{name: row[name] for name in columns} for row in found], columns=columns)


def prompts(module: str, prompt_file: str, tokenizer: str, template: str, limit: int) -> Any:
    """The rows that the host's `NNGenPrompt` renders from a prompt file: instruction, response and text."""
    from transformers import AutoTokenizer

    words = AutoTokenizer.from_pretrained(tokenizer)
    if template:
        words.chat_template = Path(template).read_text(encoding="utf-8")
    loader = importlib.import_module(module).NNGenPrompt(8192, words, prompt_file)
    return loader.get_raw_dataset(False, limit)[["instruction", "response", "text"]]


def evaluate(module: str, folder: str) -> Any:
    """The host's `evaluate_epoch` on a folder of outputs, which judges each of them."""
    import pandas as pd

    found = importlib.import_module(module).evaluate_epoch(Path(folder))
    return pd.DataFrame(found["results"])


def main(what: str, out: str, *arguments: str) -> None:
    """Do one of them and write it; time without imports of what both sides need."""
    import pandas  # noqa: F401

    works: dict[str, Any] = {
        "pairs": lambda module, meta, epoch: pairs(module, meta, int(epoch)),
        "prompts": lambda module, file, tokenizer, template, n: prompts(module, file, tokenizer, template, int(n)),
        "evaluate": evaluate,
    }
    importlib.import_module(arguments[0])  # imports are not the work
    if what == "prompts":
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(arguments[2])
    finish(out, lambda: works[what](*arguments))


if __name__ == "__main__":
    main(*sys.argv[1:])
