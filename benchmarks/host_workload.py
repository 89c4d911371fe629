"""Pairs and prompts as this package and as NNGPT make them, each measured in a process of its own.

`python benchmarks/host_workload.py WHAT OUT …` is started in a root (`nngpt_ext.host.process`), by its path: another
package there could be called `benchmarks` too. The table is written to the Parquet file OUT, and time and memory are
printed as the last line.
"""

from __future__ import annotations

import importlib
import itertools
import json
import re
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.host.process import DATABASE, MARK

if TYPE_CHECKING:
    import pandas as pd

PROMPT = "code_only"
EPOCH = 5

# Each function below prepares without being measured (imports, the tokenizer) and returns what is measured.


def our_pairs() -> Callable[[], pd.DataFrame]:
    """This package's pairs, with the sources read as well, because NNGPT reads them too."""
    from nngpt_ext.data.cache import read_trials
    from nngpt_ext.data.pairs import build_pairs
    from nngpt_ext.data.sources.sqlite import SqliteSource

    def work() -> pd.DataFrame:
        source = SqliteSource(DATABASE)
        pairs = build_pairs(read_trials(source, EPOCH).frame, EPOCH)
        source.sources(sorted(pairs["nn"].unique()))
        return pairs[["nn", "dataset_1", "dataset_2", "norm_acc_1", "norm_acc_2", "better_dataset"]]

    return work


def host_pairs(name: str, meta: str) -> Callable[[], pd.DataFrame]:
    """The pairs of NNGPT's `DatasetCompareBuilder` in the module `name`, without the sources."""
    import pandas as pd

    module = importlib.import_module(name)

    def work() -> pd.DataFrame:
        found = module.DatasetCompareBuilder(meta_path=meta, epoch=EPOCH).build_pairs()
        columns = ["nn", "dataset_1", "dataset_2", "norm_acc_1", "norm_acc_2", "answer"]
        return pd.DataFrame([{name: row[name] for name in columns} for row in found], columns=columns)

    return work


def our_prompts(folder: str, chat_template: str, limit: str) -> Callable[[], pd.DataFrame]:
    """This package's prompts in the chat format of NNGPT."""
    import pandas as pd

    from nngpt_ext.data.load import load_pairs
    from nngpt_ext.data.selection import DataConfig
    from nngpt_ext.host.conversion import chat_rows
    from nngpt_ext.models.presets import PRESETS
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.prompts.render import Renderer

    tokenizer = _tokenizer(folder, chat_template)

    def work() -> pd.DataFrame:
        data = load_pairs(DataConfig(source="sqlite", path=str(DATABASE), epoch=EPOCH))
        tokens = PRESETS["embedded"].code_tokens
        renderer = Renderer(get_template(PROMPT), tokenizer, code_tokens=tokens, facts=data.facts)
        shuffled = data.training.sample(frac=1.0, random_state=0)
        rows = []
        for row in itertools.islice(chat_rows(shuffled, renderer, data.sources), int(limit)):
            _, instruction, response = (message["content"] for message in row["messages"])
            rows.append([instruction, response, tokenizer.apply_chat_template(row["messages"], tokenize=False)])
        return pd.DataFrame(rows, columns=["instruction", "response", "text"])

    return work


def host_prompts(name: str, file: str, folder: str, chat_template: str, limit: str) -> Callable[[], pd.DataFrame]:
    """The rows that NNGPT's `NNGenPrompt` in the module `name` renders from a prompt file."""
    module, tokenizer = importlib.import_module(name), _tokenizer(folder, chat_template)

    def work() -> pd.DataFrame:
        rows: pd.DataFrame = module.NNGenPrompt(8192, tokenizer, file).get_raw_dataset(False, int(limit))
        return rows[["instruction", "response", "text"]]

    return work


def _tokenizer(folder: str, chat_template: str) -> Any:
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = Path(chat_template).read_text(encoding="utf-8")
    return tokenizer


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


WORKLOADS: dict[str, Callable[..., Callable[[], pd.DataFrame]]] = {
    "our-pairs": our_pairs,
    "host-pairs": host_pairs,
    "our-prompts": our_prompts,
    "host-prompts": host_prompts,
}


def main(what: str, out: str, *given: str) -> None:
    """Measure a workload: print its rows, seconds, CPU seconds and peak memory, and write its table to `out`."""
    work = WORKLOADS[what](*given)
    began, busy = time.perf_counter(), time.process_time()
    table = work()
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - busy, "peak_mb": peak_mb()}
    table.to_parquet(out, index=False)
    print(MARK + json.dumps({"rows": len(table), **took}))


if __name__ == "__main__":
    main(*sys.argv[1:])
