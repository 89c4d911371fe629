"""Pairs and prompts: this package's way beside the host's own, each in a process of its own."""

from __future__ import annotations

import itertools
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nngpt_ext.bench.host_workload import finish
from nngpt_ext.errors import UserError
from nngpt_ext.host.conversion import CHAT_TEMPLATE_FILE, prompt_file
from nngpt_ext.host.installation import CONF, Host, find_host
from nngpt_ext.host.integration import enable
from nngpt_ext.host.process import DATABASE, bare_root, check_database, result_of, run_in

PROMPT = "code_only"
EPOCH = 5


def bench_host(
    database: str | Path = DATABASE, *, folder: str | Path | None = None, prompts: int = 1024,
    tell: Callable[[str], None] = lambda what: None,
) -> dict[str, Any]:  # fmt: skip
    """Measure both on one database in this run: seconds without imports (by the clock, and of the processor, which
    hardly depend on what else runs), and the whole process's memory.

    Args:
        database: LEMUR's ab.nn.db.
        folder: where NNGPT is, if not where Python finds it.
        prompts: how many to render; 0 leaves them out, which take the host more than a minute.
        tell: is told what is measured.

    Returns:
        `pairs` and `prompts`, each with `ours`, `host` (rows, seconds, cpu_seconds, peak_mb), `times_faster`,
        `times_less_cpu` and `times_less_memory`, and for pairs `same_answers` and `norm_acc_max_difference`.

    Raises:
        UserError: when there is no host, and for a database that is missing or has no trials.
    """
    host, file = find_host(folder), Path(database)
    try:
        check_database(file)
    except UserError as error:
        raise UserError(f"{error}; to build it, type: nngpt-ext host database --out {file}") from None
    with tempfile.TemporaryDirectory(prefix="nngpt_ext_bench_") as name:
        place = Path(name)
        found: dict[str, Any] = {"epoch": EPOCH, "host_version": host.version, "layout": host.layout}
        found["pairs"] = _pairs(host, file, place, tell)
        if prompts:
            found["prompts"] = _prompts(host, file, place, prompts, tell)
    return found


def _pairs(host: Host, database: Path, place: Path, tell: Callable[[str], None]) -> dict[str, Any]:
    import pandas as pd

    tell("pairs, ours")
    ours = _ours(place, ["pairs", str(database.resolve()), str(place / "ours.parquet")])
    tell("pairs, the host's")
    meta = str(host.conf / "dataset_meta.json")
    theirs = _theirs(host, database, ["pairs", str(place / "host.parquet"), host.module("builder"), meta, str(EPOCH)])
    keys = ["nn", "dataset_1", "dataset_2"]
    one, two = (pd.read_parquet(place / f"{name}.parquet") for name in ("ours", "host"))
    both = one.merge(two, on=keys, how="outer", suffixes=("", "_host"), indicator=True)
    gaps = [(both[f"norm_acc_{i}"].round(4) - both[f"norm_acc_{i}_host"]).abs().max() for i in (1, 2)]
    return _compared(ours, theirs) | {
        "same_pairs": int((both["_merge"] == "both").sum()),
        "same_answers": int((both["better_dataset"] == both["answer"]).sum()),
        "norm_acc_max_difference": float(max(gaps)),
    }


def _prompts(host: Host, database: Path, place: Path, n: int, tell: Callable[[str], None]) -> dict[str, Any]:
    import pandas as pd

    from nngpt_ext.models.presets import EMBEDDED

    enable("dataset_compare", [PROMPT], base="embedded", folder=place / "root")
    conf = place / "root" / CONF
    words = [str(EMBEDDED), str(conf / "chat_template" / CHAT_TEMPLATE_FILE)]
    tell("prompts, ours")
    ours = _ours(place, ["prompts", str(database.resolve()), str(place / "ours_prompts.parquet"), *words, str(n)])
    tell("prompts, the host's")
    file = str(conf / "prompt" / "train" / prompt_file(PROMPT))
    theirs = _theirs(
        host, database, ["prompts", str(place / "host_prompts.parquet"), host.module("loader"), file, *words, str(n)]
    )
    tables = {name: pd.read_parquet(place / f"{name}_prompts.parquet") for name in ("ours", "host")}
    return _compared(ours, theirs) | {
        "duplicate_texts": {name: int(table["text"].duplicated().sum()) for name, table in tables.items()},
        "prompts_with_both_answers": {name: _contradictory(table) for name, table in tables.items()},
    }


def _contradictory(table: Any) -> int:
    """Rows whose very prompt also occurs with the other answer."""
    return int((table.groupby("instruction")["response"].transform("nunique") > 1).sum())


def _compared(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, Any]:
    return {
        "ours": ours,
        "host": theirs,
        "times_faster": theirs["seconds"] / ours["seconds"],
        "times_less_cpu": theirs["cpu_seconds"] / ours["cpu_seconds"],  # what other work beside it does not change
        "times_less_memory": theirs["peak_mb"] / ours["peak_mb"],
    }


def _ours(place: Path, arguments: list[str]) -> dict[str, Any]:
    import os

    # An empty cache: nothing is kept from an earlier run.
    with tempfile.TemporaryDirectory(dir=place) as cache:
        done = subprocess.run(
            [sys.executable, "-m", "nngpt_ext.bench.host", *arguments], text=True, capture_output=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "NNGPT_EXT_CACHE": cache, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
    return dict(result_of(done, "measuring our own"))


def _theirs(host: Host, database: Path, arguments: list[str]) -> dict[str, Any]:
    with bare_root(host, database) as root:
        done = run_in(root, host, ["-m", "nngpt_ext.bench.host_workload", *arguments])
    return dict(result_of(done, "measuring the host"))


def _own_pairs(database: str) -> Any:
    from nngpt_ext.lemur.cache import read_trials
    from nngpt_ext.lemur.pairs import build_pairs
    from nngpt_ext.lemur.sqlite import SqliteSource

    source = SqliteSource(database)
    pairs = build_pairs(read_trials(source, EPOCH).frame, EPOCH)
    source.sources(sorted(pairs["nn"].unique()))  # the host reads them too
    return pairs[["nn", "dataset_1", "dataset_2", "norm_acc_1", "norm_acc_2", "better_dataset"]]


def _own_prompts(database: str, tokenizer: str, template: str, limit: str) -> Any:
    import pandas as pd
    from transformers import AutoTokenizer

    from nngpt_ext.host.conversion import chat_rows
    from nngpt_ext.lemur.dataset import load_pairs
    from nngpt_ext.models.presets import PRESETS
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.prompts.render import Renderer

    words = AutoTokenizer.from_pretrained(tokenizer)
    words.chat_template = Path(template).read_text(encoding="utf-8")
    data = load_pairs(source="sqlite", path=database, epoch=EPOCH)
    renderer = Renderer(get_template(PROMPT), words, code_tokens=PRESETS["embedded"].code_tokens)
    some = data.training.sample(frac=1.0, random_state=0)
    rows = []
    for row in itertools.islice(chat_rows(some, renderer, data.sources), int(limit)):
        _, asked, answered = (message["content"] for message in row["messages"])
        rows.append([asked, answered, words.apply_chat_template(row["messages"], tokenize=False)])
    return pd.DataFrame(rows, columns=["instruction", "response", "text"])


def _main(what: str, database: str, out: str, *arguments: str) -> None:
    import pandas  # noqa: F401

    if what == "prompts":  # imports, the tokenizer's too, are not the work; the host's side leaves them out as well
        from transformers import AutoTokenizer

        from nngpt_ext.host import conversion  # noqa: F401
        from nngpt_ext.lemur import dataset  # noqa: F401

        AutoTokenizer.from_pretrained(arguments[0])
    finish(out, lambda: _own_pairs(database) if what == "pairs" else _own_prompts(database, *arguments))


if __name__ == "__main__":
    _main(*sys.argv[1:])
