"""Pairs and baselines as dictionaries, before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nngpt_ext.data.load import load_pairs, parts_of, read_records
from nngpt_ext.data.pairs import build_pairs, usual_winner_share
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import PARTS, SPLITS
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation import metrics, slices
from nngpt_ext.evaluation.baselines import baseline_probabilities
from nngpt_ext.evaluation.statistics import bootstrap_networks, few_networks
from nngpt_ext.io import replacing


def summarize_pairs(config: DataConfig, out: Path | None = None, *, split: bool = True) -> dict[str, Any]:
    """Build pairs, write them to `out` if given, and count them.

    Args:
        config: which pairs.
        out: a Parquet file to write.
        split: whether the pairs are split and counted by part; with `out` they always are.

    Returns:
        `pairs`, `networks`, `pair_prior` (share of the pairs that the usual winner of their dataset pair wins, in
        sample), `excluded`, `epoch`, `label`, `trials`, `source`, and with a split its parts.

    Raises:
        UserError: if the records are missing or broken, or the file cannot be written.
    """
    if out is not None and not out.resolve().parent.is_dir():
        raise UserError(f"cannot write '{out}': there is no folder '{out.parent}'")
    if out is not None and out.is_dir():
        raise UserError(f"cannot write '{out}': it is a folder")
    records = read_records(config)
    # All chosen trials; a run validates and tests on the best ones.
    pairs = build_pairs(records.trials.frame, config.epoch, label=config.label, use=config.trials, seed=config.seed)
    summary: dict[str, Any] = {
        "pairs": len(pairs),
        "networks": int(pairs["nn"].nunique()),
        "pair_prior": round(usual_winner_share(pairs), 4),
        "excluded": records.trials.excluded,
    }
    if split or out is not None:
        pairs["split"] = parts_of(pairs, config, records)
        parts = {part: pairs.loc[pairs["split"] == part, "nn"] for part in PARTS}
        summary["split"] = {part: {"pairs": len(nn), "networks": int(nn.nunique())} for part, nn in parts.items()}
    summary |= {**config.model_dump(include={"epoch", "label", "trials"}), "source": records.source.kind}
    if out is not None:
        with replacing(out) as temporary:
            pairs.to_parquet(temporary, index=False)
        summary["out"] = str(out)
    return summary


def evaluate_baselines(config: DataConfig) -> dict[str, Any]:
    """Fit the baselines on the training pairs and measure them on the test pairs."""
    data = load_pairs(config)
    test = data.part("test")
    networks, tested = test["nn"].to_numpy(), int(test["nn"].nunique())
    right = {name: metrics.correct(p, metrics.first_wins(test)) for name, p in baseline_probabilities(data).items()}
    return {
        **{name: getattr(config, name) for name in ("split", "epoch", "label", "trials")},
        "n_train_pairs": len(data.training),
        "n_test_pairs": len(test),
        "n_test_networks": tested,
        "excluded": data.excluded,
        "baselines": {
            name: {
                "accuracy": round(float(answer.mean()), 4),
                "ci95": [round(x, 4) for x in bootstrap_networks(answer, networks)],
                "difference": slices.difference(answer, right["pair_prior"], networks).model_dump(mode="json"),
            }
            for name, answer in right.items()
        },
        "note": " ".join(filter(None, (SPLITS[config.split].warning, few_networks(tested)))) or None,
    }
