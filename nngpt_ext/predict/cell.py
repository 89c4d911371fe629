"""A comparison or a ranking in a notebook's cell; everything that comes from outside is escaped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nngpt_ext.evaluation.page import template
from nngpt_ext.evaluation.wording import count, share

if TYPE_CHECKING:
    from nngpt_ext.predict.answers import Comparison, Ranking


def comparison_cell(found: Comparison) -> str:
    """HTML of a comparison."""
    sides = ((found.dataset_1, found.probability), (found.dataset_2, 1.0 - found.probability))
    remarks = [f"Log-odds of {found.dataset_1}, uncalibrated: {found.log_odds:+.3f}; answered by {found.model}."]
    if found.flipped:
        remarks.append("The two orders of the names gave different winners.")
    if found.abstain and not found.unseen:
        remarks.append(f"It abstains: {found.reason}.")
    return _cell(
        _abstains(found) or f"{found.nn} does better on {found.winner}.",
        ("dataset", "", "probability"),
        [(name, value, (f"{value:.3f}",)) for name, value in sides],
        remarks,
    )


def ranking_cell(found: Ranking) -> str:
    """HTML of a ranking."""
    strengths = np.array([found.scores[name] for name in found.datasets])
    best = np.exp(strengths - strengths.max())
    best /= best.sum()  # Luce's choice rule, as `Ranking.probability`
    abstains = sum(c.abstain for c in found.comparisons)
    remarks = [
        "Strength: by Bradley and Terry, mean zero. Best of all: its share by Luce's rule.",
        f"{abstains} of {count(len(found.comparisons), 'comparison')} abstain; answered by {found.model}.",
    ]
    if found.intransitive:
        remarks.append(f"{share(found.intransitive)} of the triples contradict each other.")
    return _cell(
        _abstains(found) or f"{found.nn} does best on {found.datasets[0]}.",
        ("dataset", "", "best of all", "strength"),
        [
            (name, chance, (f"{chance:.3f}", f"{value:+.3f}"))
            for name, chance, value in zip(found.datasets, best.tolist(), strengths.tolist(), strict=True)
        ],
        remarks,
    )


def _abstains(found: Comparison | Ranking) -> str | None:
    """What stands in place of an answer about a dataset that the adapter was not trained on."""
    return f"About {found.nn} the model abstains: {found.reason}." if found.unseen else None


def _cell(sentence: str, header: tuple[str, ...], rows: list[tuple[str, float, Any]], remarks: list[str]) -> str:
    return template("nngpt_ext.predict/cell.html.jinja").render(
        sentence=sentence, header=header, rows=rows, remarks=remarks
    )
