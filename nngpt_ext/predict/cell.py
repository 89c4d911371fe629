"""A comparison or a ranking as HTML for a notebook's cell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nngpt_ext.views.faces import to_cell
from nngpt_ext.views.table import Table
from nngpt_ext.views.wording import count, share

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
    opening = _abstains(found) or f"{found.nn} does better on {found.winner}."
    rows = [(name, f"{value:.3f}") for name, value in sides]
    return to_cell(opening, [Table("", ("dataset", "probability"), rows, bars=[p for _, p in sides])], remarks)


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
    opening = _abstains(found) or f"{found.nn} does best on {found.datasets[0]}."
    rows = [
        (name, f"{chance:.3f}", f"{value:+.3f}")
        for name, chance, value in zip(found.datasets, best.tolist(), strengths.tolist(), strict=True)
    ]
    return to_cell(opening, [Table("", ("dataset", "best of all", "strength"), rows, bars=best.tolist())], remarks)


def _abstains(found: Comparison | Ranking) -> str | None:
    """What stands in place of an answer about a dataset that the adapter was not trained on."""
    return f"About {found.nn} the model abstains: {found.reason}." if found.unseen else None
