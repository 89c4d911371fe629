"""`nngpt-ext bench host`: pairs and prompts as this package and as NNGPT make them, each in a process of its own.

`python -m nngpt_ext.bench.host_comparison WHAT OUT …`, in a root, is the package's side;
`nngpt_ext.bench.host_workload` is NNGPT's.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.bench.host_workload import finish
from nngpt_ext.errors import UserError
from nngpt_ext.host.conversion import CHAT_TEMPLATE_FILE, prompt_file
from nngpt_ext.host.installation import CONF, Host, find_host
from nngpt_ext.host.integration import enable
from nngpt_ext.host.process import DATABASE, bare_root, check_database, result_of, run_in

if TYPE_CHECKING:
    import pandas as pd

PROMPT = "code_only"
EPOCH = 5
_SIDES = {"ours": "nngpt_ext.bench.host_comparison", "host": "nngpt_ext.bench.host_workload"}


def bench_host(
    database: str | Path = DATABASE, *, folder: str | Path | None = None, prompts: int = 1024
) -> dict[str, Any]:
    """Measure both sides on one database: wall-clock and processor seconds without imports, and peak memory.

    Args:
        database: LEMUR's ab.nn.db.
        folder: where NNGPT is, if not where Python finds it.
        prompts: how many prompts to render; 0 for none, because NNGPT needs more than a minute for them.

    Returns:
        `pairs` and `prompts`, each with `ours`, `host` (rows, seconds, cpu_seconds, peak_mb), `times_faster`,
        `times_less_cpu` and `times_less_memory`, and for pairs `same_answers` and `norm_acc_max_difference`.

    Raises:
        UserError: if NNGPT is not installed, and for a database that is missing or has no trials.
    """
    host, file = find_host(folder), Path(database)
    try:
        check_database(file)
    except UserError as error:
        raise UserError(f"{error}; to build it, type: nngpt-ext host database --out {file}") from None

    def compared(what: str, own: list[str], theirs: list[str]) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
        return _compare(what, host, file, {"ours": own, "host": theirs})

    figures, ours, theirs = compared(
        "pairs", [], [host.module("builder"), str(host.conf / "dataset_meta.json"), str(EPOCH)]
    )
    found = {
        "epoch": EPOCH,
        "host_version": host.version,
        "layout": host.layout,
        "pairs": figures | _same(ours, theirs),
    }
    if prompts:
        from nngpt_ext.models.presets import EMBEDDED

        with tempfile.TemporaryDirectory(prefix="nngpt_ext_bench_") as place:
            enable("dataset_compare", [PROMPT], base="embedded", folder=Path(place))
            conf = Path(place) / CONF
            shared = [str(EMBEDDED), str(conf / "chat_template" / CHAT_TEMPLATE_FILE), str(prompts)]
            template = str(conf / "prompt" / "train" / prompt_file(PROMPT))
            figures, ours, theirs = compared("prompts", shared, [host.module("loader"), template, *shared])
        sides = {"ours": ours, "host": theirs}
        found["prompts"] = figures | {
            "duplicate_texts": {side: int(table["text"].duplicated().sum()) for side, table in sides.items()},
            "prompts_with_both_answers": {side: _contradictory(table) for side, table in sides.items()},
        }
    return found


def _compare(
    what: str, host: Host, database: Path, arguments: dict[str, list[str]]
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Run both sides; gives the figures and the two tables."""
    import pandas as pd
    from rich.console import Console

    figures, tables = {}, []
    for side, module in _SIDES.items():
        with Console(stderr=True).status(f"{what}, {side}"), bare_root(host, database) as root:
            out, cache = root / "table.parquet", root / "cache"  # an empty cache: nothing is kept from an earlier run
            command = ["-m", module, what, str(out), *arguments[side]]
            done = run_in(root, host, command, environment={"NNGPT_EXT_CACHE": str(cache)})
            figures[side] = dict(result_of(done, f"measuring {what} ({side})"))
            tables.append(pd.read_parquet(out))
    measures = {"times_faster": "seconds", "times_less_cpu": "cpu_seconds", "times_less_memory": "peak_mb"}
    ratios = {name: figures["host"][key] / figures["ours"][key] for name, key in measures.items()}
    return figures | ratios, tables[0], tables[1]


def _same(ours: pd.DataFrame, theirs: pd.DataFrame) -> dict[str, Any]:
    both = ours.merge(theirs, on=["nn", "dataset_1", "dataset_2"], how="outer", suffixes=("", "_host"), indicator=True)
    gaps = [(both[f"norm_acc_{i}"].round(4) - both[f"norm_acc_{i}_host"]).abs().max() for i in (1, 2)]
    return {
        "same_pairs": int((both["_merge"] == "both").sum()),
        "same_answers": int((both["better_dataset"] == both["answer"]).sum()),
        "norm_acc_max_difference": float(max(gaps)),
    }


def _contradictory(table: pd.DataFrame) -> int:
    """Rows whose prompt also occurs with the other answer."""
    return int((table.groupby("instruction")["response"].transform("nunique") > 1).sum())


def _own_pairs() -> pd.DataFrame:
    from nngpt_ext.data.cache import read_trials
    from nngpt_ext.data.pairs import build_pairs
    from nngpt_ext.data.sources.sqlite import SqliteSource

    source = SqliteSource(DATABASE)
    pairs = build_pairs(read_trials(source, EPOCH).frame, EPOCH)
    source.sources(sorted(pairs["nn"].unique()))  # NNGPT reads them, too
    return pairs[["nn", "dataset_1", "dataset_2", "norm_acc_1", "norm_acc_2", "better_dataset"]]


def _own_prompts(tokenizer: Any, limit: int) -> pd.DataFrame:
    import pandas as pd

    from nngpt_ext.data.load import load_pairs
    from nngpt_ext.data.selection import DataConfig
    from nngpt_ext.host.conversion import chat_rows
    from nngpt_ext.models.presets import PRESETS
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.prompts.render import Renderer

    data = load_pairs(DataConfig(source="sqlite", path=str(DATABASE), epoch=EPOCH))
    renderer = Renderer(get_template(PROMPT), tokenizer, code_tokens=PRESETS["embedded"].code_tokens, facts=data.facts)
    rows = []
    shuffled = data.training.sample(frac=1.0, random_state=0)
    for row in itertools.islice(chat_rows(shuffled, renderer, data.sources), limit):
        _, instruction, response = (message["content"] for message in row["messages"])
        rows.append([instruction, response, tokenizer.apply_chat_template(row["messages"], tokenize=False)])
    return pd.DataFrame(rows, columns=["instruction", "response", "text"])


def _main(what: str, out: str, *arguments: str) -> None:
    """Time without imports and without loading the tokenizer, as on NNGPT's side."""
    import pandas  # noqa: F401

    if what == "pairs":
        finish(out, _own_pairs)
        return
    from transformers import AutoTokenizer

    from nngpt_ext.data import load  # noqa: F401
    from nngpt_ext.host import conversion  # noqa: F401

    folder, template, limit = arguments
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
    finish(out, lambda: _own_prompts(tokenizer, int(limit)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
