"""What records hold, before anything is trained: for `nngpt-ext records check`."""

from __future__ import annotations

from typing import Any

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.load import Records, check_facts
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.discovery import open_sources
from nngpt_ext.data.sources.trial_table import TableSource
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.statistics import FEW, few_networks
from nngpt_ext.io import as_text
from nngpt_ext.networks.source import defines_module, read_source
from nngpt_ext.tasks.inspection import summarize_pairs


def check_records(config: DataConfig, epoch: int | None = None) -> dict[str, Any]:
    """Read records of all epochs, and count their pairs at one.

    Args:
        config: where they are, and how they are split.
        epoch: by default the one with the most networks that have two datasets.

    Returns:
        What `summarize_pairs` returns, and `location`, `recipe` (its fields and their kinds), `datasets` and `epochs`
        (by name, numbers of networks), `no_networks` (those of a table whose source defines no `nn.Module`), `enough`
        (whether skill could be shown) and `note`.

    Raises:
        UserError: if the records are missing or broken, or have no pairs.
    """
    source = open_sources(config.places)
    trials = read_trials(source, None)
    check_facts(source, trials)
    frame = trials.frame
    if frame.empty:
        raise UserError(
            f"'{source.location}' has no trial that can be used: "
            f"{', '.join(f'{why} {n:,}' for why, n in trials.excluded.items()) or 'it is empty'}"
        )
    on = frame.groupby(["epoch", "nn"])["dataset"].nunique()
    if epoch is None:
        paired = on[on >= 2] if (on >= 2).any() else on
        epoch = int(paired.reset_index()["epoch"].mode().iloc[0])
    summary = summarize_pairs(config.model_copy(update={"epoch": epoch}), records=Records(source, trials))
    tested = summary["split"]["test"]["networks"]
    # LEMUR's networks were trained by LEMUR; to parse thousands of sources takes a minute.
    sources = source.sources(sorted(frame["nn"].unique())) if source.kind == TableSource.kind else {}
    return {
        **summary,
        "location": source.location,
        "recipe": dict(source.recipe),
        "datasets": frame.groupby("dataset")["nn"].nunique().to_dict(),
        "epochs": frame.groupby("epoch")["nn"].nunique().to_dict(),
        "no_networks": [nn for nn, code in sources.items() if not _is_network(code)],
        "enough": tested >= FEW,
        "note": few_networks(tested) or None,
    }


def _is_network(code: str | bytes) -> bool:
    try:
        return defines_module(read_source(as_text(code, "the source"), "the source"))
    except UserError:
        return False
