"""What an exported task's YAML calls when lm-evaluation-harness runs it.

`nngpt-ext export lm-eval` copies this file beside the YAML, so it imports nothing of this package.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def load(order: str = "both", **_: Any) -> Any:
    """The questions beside this file, as the split `test`, names in the `straight` order, `turned`, or `both`."""
    import datasets

    found = datasets.load_dataset("parquet", data_files={"test": str(Path(__file__).parent / "questions.parquet")})
    if order != "both":
        kept = [i for i, turned in enumerate(found["test"]["turned"]) if turned == (order == "turned")]
        found["test"] = found["test"].select(kept)
    return found


def results(doc: dict[str, Any], scores: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """`acc` of one question, and what `acc_pairs` needs of it: its pair, and the log-odds of the pair's dataset_1."""
    first, second = (log_likelihood for log_likelihood, _ in scores)
    odds = second - first if doc["turned"] else first - second
    right = doc["better_dataset"] == doc["dataset_1"]
    return {"acc": float((first >= second) == (doc["label"] == 0)), "acc_pairs": (doc["pair"], odds, right)}


def accuracy_of_pairs(found: Sequence[tuple[int, float, bool]]) -> float:
    """Accuracy when the log-odds of both orders are averaged, as nngpt_ext answers; a tie goes to dataset_1."""
    odds: dict[int, list[float]] = {}
    for pair, value, _ in found:
        odds.setdefault(pair, []).append(value)
    right = {pair: first for pair, _, first in found}
    return sum((sum(values) / len(values) >= 0) == right[pair] for pair, values in odds.items()) / len(odds)
