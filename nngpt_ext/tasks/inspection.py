"""Looking at the data before anything is trained: pairs and baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError, unknown
from nngpt_ext.data.kept import kept_pairs
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.data.words import LABELS, SPLITS, TRIALS


def summarize_pairs(
    *,
    epoch: int,
    label: str,
    trials: str,
    split: str | None,
    hold_out: str | None,
    source: str,
    path: str | None,
    seed: int,
    out: Path | None,
) -> dict[str, Any]:
    """Build pairs, write them to `out` if given, and count them.

    Returns:
        `pairs`, `networks`, `pair_prior` (share of the pairs that are won by their dataset pair's usual
        winner, in sample), `excluded`, `epoch`, `source`, and with a split its parts.
    """
    if out is not None and not out.resolve().parent.is_dir():
        raise UserError(f"cannot write '{out}': there is no folder '{out.parent}'")
    if out is not None and out.is_dir():
        raise UserError(f"cannot write '{out}': it is a folder")
    if out is not None and split is None:
        split = "by_network"  # a table of pairs says who trains and who tests
    check_words(label, trials, split, hold_out)
    lemur = open_source(source, path)
    kept = kept_pairs(lemur, epoch, label=label, use=trials, seed=seed, split=split, hold_out=hold_out)
    summary: dict[str, Any] = {
        **kept.figures,
        "pair_prior": round(kept.figures["pair_prior"], 4),
        "epoch": epoch,
        "label": label,
        "trials": trials,
        "source": lemur.kind,
    }
    if out is not None:
        kept.write(out)
        summary["out"] = str(out)
    return summary


def check_words(label: str, trials: str, split: str | None, hold_out: str | None) -> None:
    """See that these are words that the data stages know, before they read for seconds."""
    for kind, word, known in (("label", label, LABELS), ("kind of trials", trials, TRIALS), ("split", split, SPLITS)):
        if word is not None and word not in known:
            raise unknown(kind, word, known)
    if hold_out is not None and split != "by_origin":
        raise UserError(f"hold_out goes with split by_origin, not {split or 'no split'}: --split by_origin")


def evaluate_baselines(
    *,
    split: str,
    hold_out: str | None,
    epoch: int,
    label: str,
    trials: str,
    source: str,
    path: str | None,
    seed: int,
) -> dict[str, Any]:
    """Fit the baselines on the training pairs and measure them on the test pairs."""
    from nngpt_ext.evaluation import groups, metrics
    from nngpt_ext.evaluation.report import split_note
    from nngpt_ext.evaluation.statistics import bootstrap_networks
    from nngpt_ext.data.load import load_pairs
    from nngpt_ext.tasks.baselines import baseline_probabilities

    check_words(label, trials, split, hold_out)
    data = load_pairs(
        source=source, path=path, epoch=epoch, label=label, trials=trials, split=split, hold_out=hold_out, seed=seed
    )
    test = data.part("test")
    first = (test["better_dataset"] == test["dataset_1"]).to_numpy()
    networks = test["nn"].to_numpy()
    right = {name: metrics.correct(p, first) for name, p in baseline_probabilities(data).items()}
    return {
        "split": split,
        "epoch": epoch,
        "label": label,
        "trials": trials,
        "n_train_pairs": len(data.training),
        "n_test_pairs": len(test),
        "n_test_networks": int(test["nn"].nunique()),
        "excluded": data.excluded,
        "baselines": {
            name: {
                "accuracy": round(float(answer.mean()), 4),
                "ci95": [round(x, 4) for x in bootstrap_networks(answer, networks)],
                "difference": groups.difference(answer, right["pair_prior"], networks).model_dump(mode="json"),
            }
            for name, answer in right.items()
        },
        "note": split_note(split),
    }
