"""`nngpt-ext bench host`: pairs and prompts as this package and as NNGPT make them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import host_workload
from benchmarks.host_workload import EPOCH, PROMPT
from nngpt_ext.errors import UserError
from nngpt_ext.host.conversion import CHAT_TEMPLATE_FILE, prompt_file
from nngpt_ext.host.installation import CONF, Host, find_host
from nngpt_ext.host.integration import enable
from nngpt_ext.host.process import DATABASE, bare_root, check_database, result_of, run_in

if TYPE_CHECKING:
    import pandas as pd

_MEASURES = {"times_faster": "seconds", "times_less_cpu": "cpu_seconds", "times_less_memory": "peak_mb"}


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
    meta = str(host.conf / "dataset_meta.json")
    figures, ours, theirs = _compared("pairs", host, file, [], [host.module("builder"), meta])
    found = {
        "epoch": EPOCH,
        "host_version": host.version,
        "modules": host.modules,
        "pairs": figures | _same(ours, theirs),
    }
    if prompts:
        from nngpt_ext.models.presets import EMBEDDED

        with tempfile.TemporaryDirectory(prefix="nngpt_ext_bench_") as place:
            enable("dataset_compare", [PROMPT], base="embedded", folder=Path(place))
            conf = Path(place) / CONF
            shared = [str(EMBEDDED), str(conf / "chat_template" / CHAT_TEMPLATE_FILE), str(prompts)]
            template = str(conf / "prompt" / "train" / prompt_file(PROMPT))
            figures, *tables = _compared("prompts", host, file, shared, [host.module("loader"), template, *shared])
        sides = dict(zip(("ours", "host"), tables, strict=True))
        found["prompts"] = figures | {
            "duplicate_texts": {side: int(table["text"].duplicated().sum()) for side, table in sides.items()},
            "prompts_with_both_answers": {side: _contradictory(table) for side, table in sides.items()},
        }
    return found


def _compared(
    what: str, host: Host, database: Path, ours: list[str], theirs: list[str]
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame]:
    """Run a workload of both sides with their arguments; returns the figures and the two tables."""
    import pandas as pd
    from rich.console import Console

    figures, tables = {}, []
    for side, name, arguments in (("ours", "our", ours), ("host", "host", theirs)):
        with Console(stderr=True).status(f"{what}, {side}"), bare_root(host, database) as root:
            out, cache = root / "table.parquet", root / "cache"  # an empty cache, without an earlier run's trials
            command = [host_workload.__file__, f"{name}-{what}", str(out), *arguments]
            done = run_in(root, host, command, environment={"NNGPT_EXT_CACHE": str(cache)})
            figures[side] = dict(result_of(done, f"measuring {what} ({side})"))
            tables.append(pd.read_parquet(out))
    ratios = {name: figures["host"][key] / figures["ours"][key] for name, key in _MEASURES.items()}
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


def host_text(found: dict[str, Any]) -> str:
    """The figures for a terminal."""
    lines = []
    for what in ("pairs", "prompts"):
        if what in found:
            ours, theirs = found[what]["ours"], found[what]["host"]
            lines.append(
                f"{theirs['rows']:,} {what}: ours {ours['seconds']:.2f} s and {ours['peak_mb']:,.0f} MB, NNGPT "
                f"{theirs['seconds']:.1f} s and {theirs['peak_mb']:,.0f} MB: "
                f"{found[what]['times_faster']:.0f}× faster, {found[what]['times_less_memory']:.0f}× less memory"
            )
    same = found["pairs"]
    lines.append(
        f"{same['same_answers']:,} of {same['host']['rows']:,} answers are the same; normalised accuracies differ by "
        f"at most {same['norm_acc_max_difference']:.1e}"
    )
    return "\n".join(lines)
