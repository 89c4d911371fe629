"""Pairs and baselines as dictionaries, before anything is trained."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from nngpt_ext.data.evidence import COLUMNS, REASON, EarlyTrials
from nngpt_ext.data.load import Records, load_pairs, parts_of, per_fold, read_records
from nngpt_ext.data.pairs import build_pairs, usual_winner_share
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import PARTS, SPLITS
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation import metrics, slices
from nngpt_ext.evaluation.baselines import baseline_probabilities
from nngpt_ext.evaluation.baselines.frozen_lm import frozen_lm
from nngpt_ext.evaluation.pool import FoldAnswers, best_prior, family_figures, held_out_figures, pooled
from nngpt_ext.evaluation.statistics import bootstrap_networks, few_networks
from nngpt_ext.io import replacing
from nngpt_ext.models.base import load_base


def summarize_pairs(
    config: DataConfig, out: Path | None = None, *, split: bool = True, records: Records | None = None
) -> dict[str, Any]:
    """Build pairs, write them to `out` if given, and count them.

    Args:
        config: which pairs.
        out: a Parquet file to write.
        split: whether the pairs are split and counted by part; with `out` they always are.

    Returns:
        `pairs`, `networks`, `pair_prior` (share of the pairs that the usual winner of their dataset pair wins, in
        sample), `excluded`, `epoch`, `label`, `trials`, `source`, with a split its parts, and with
        `config.evidence` how many pairs have none, by reason; `out` then has each pair's accuracies by epoch, and the
        reason.

    Raises:
        UserError: if the records are missing or broken, or the file cannot be written.
    """
    if out is not None and not out.resolve().parent.is_dir():
        raise UserError(f"cannot write '{out}': there is no folder '{out.parent}'")
    if out is not None and out.is_dir():
        raise UserError(f"cannot write '{out}': it is a folder")
    records = records or read_records(config)
    # All chosen trials; a run validates and tests on the best ones.
    trials = records.trials.frame
    pairs = build_pairs(trials, config.epoch, label=config.label, use=config.trials, seed=config.seed)
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
    if records.early:
        early = {epoch: found.frame for epoch, found in records.early.items()}
        pairs = EarlyTrials(config.evidence, trials, early, config.seed).find(pairs)
        without = {reason: int(n) for reason, n in pairs[REASON].value_counts().items() if reason}
        summary["evidence"] = {**config.evidence.model_dump(mode="json"), "left_out": without}
        texts: dict[str, Any] = {  # as keys are in Parquet
            name: [{str(epoch): value for epoch, value in known.items()} for known in pairs[name]] for name in COLUMNS
        }
        pairs = pairs.assign(**texts)
    if out is not None:
        with replacing(out) as temporary:
            pairs.to_parquet(temporary, index=False)
        summary["out"] = str(out)
    return summary


def evaluate_baselines(config: DataConfig, frozen_base: str | None = None) -> dict[str, Any]:
    """Fit the baselines on the training pairs and measure them on the test pairs, of all folds if there are some.

    Args:
        config: which pairs.
        frozen_base: a base model, as `models.base.load_base` takes it, for two more baselines on its embeddings.

    Returns:
        The split and its options, the numbers of pairs, and for each baseline `accuracy`, `ci95`, `difference` (its
        accuracy minus the pair prior's) and `beyond_best_prior`. Where families stay together, intervals are over
        families, and `families` has the figures without the largest family and as a mean over families. Of all folds
        of `by_dataset`, a baseline has no interval, but the figures of `HeldOutFigures`.

    Raises:
        UserError: if the records are missing or broken, or a part of the split would be empty.
    """
    records, tested, folds = read_records(config), [], []
    trained: Counter[str] = Counter()
    base = load_base(frozen_base, load_in_4bit=False) if frozen_base is not None else None
    for one in per_fold(config, lambda: records):
        data = load_pairs(one, records)
        test = data.part("test")
        trained.update(data.evidence)
        more = frozen_lm(data, base) if base is not None else {}
        tested.append(FoldAnswers.of(data, {**baseline_probabilities(data), **more}))
        parts = {part: data.part(part) for part in PARTS}
        folds.append(
            {
                **({"fold": one.fold} if one.fold is not None else {}),
                **({"held_out": data.held_out} if data.held_out else {}),
                "n_train_pairs": len(data.training),
                "n_validation_pairs": len(parts["validation"]),
                "n_test_pairs": len(test),
                "n_test_networks": int(test["nn"].nunique()),
            }
        )
    pool, by_families = pooled(tested), SPLITS[config.split].by_families
    right = {name: metrics.correct(p, metrics.first_wins(pool.test)) for name, p in pool.answers.items()}
    best, in_turn = best_prior(right), config.all_folds and SPLITS[config.split].by_datasets

    def figures(name: str, answer: np.ndarray) -> dict[str, Any]:
        if in_turn:
            turns = held_out_figures(right, name, pool.test["held_out"].to_numpy())
            return {"accuracy": round(float(answer.mean()), 4), **turns.model_dump(mode="json")}
        beyond = slices.difference(answer, right[best], pool.units)
        found = {
            "accuracy": round(float(answer.mean()), 4),
            "ci95": [round(x, 4) for x in bootstrap_networks(answer, pool.units)],
            "difference": slices.difference(answer, right["pair_prior"], pool.units).model_dump(mode="json"),
            "beyond_best_prior": {"prior": best, **beyond.model_dump(mode="json")},
        }
        if by_families:
            found["families"] = family_figures(answer, right[best], pool.units).model_dump(mode="json")
        return found

    tested_networks = int(pool.test["nn"].nunique())
    options = sorted(SPLITS[config.split].options)
    found = {name: getattr(config, name) for name in ("split", *options, "epoch", "label", "trials")}
    notes = [SPLITS[config.split].warning, few_networks(tested_networks)]
    if trained:
        used = {**config.evidence.model_dump(mode="json"), **trained, "left_out": dict(data.without_evidence)}
        found |= {"test_trials": config.tested_trials, "evidence": used}
        notes.append(config.evidence.note(config.epoch, trained, data.without_evidence))
    return {
        **found,
        **(folds[0] if len(folds) == 1 else {"parts": folds}),
        "n_test_pairs": len(pool.test),
        "n_test_networks": tested_networks,
        "intervals_over": None if in_turn else "families" if by_families else "networks",
        "excluded": records.trials.excluded,
        "baselines": {name: figures(name, answer) for name, answer in right.items()},
        "note": " ".join(filter(None, notes)) or None,
    }
