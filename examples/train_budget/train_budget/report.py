"""What `train_budget` found, and how it is printed."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class Choice(BaseModel):
    """A network and the dataset to train it on.

    `probability` is that of the dataset being the best of all; `abstains` counts the comparisons of this dataset
    with the `others` that abstain: below the adapter's threshold, or about a dataset it was not trained on.
    """

    nn: str
    dataset: str
    probability: float
    abstains: int
    others: int


class Regret(BaseModel):
    """Regrets over some networks: of each way to choose, and the predictor's minus each other's."""

    networks: int
    ways: list[dict[str, Any]]
    differences: list[dict[str, Any]]


class Report(BaseModel):
    """The proposal, best first, and for held-out LEMUR networks what it costs."""

    datasets: list[str]  # on which all proposed networks could be trained
    considered: int  # networks that could be
    proposal: list[Choice]
    refused: list[dict[str, str]] = []
    regret_all: Regret | None = None  # all networks, each on its own datasets
    regret_shared: Regret | None = None  # those that have all of `datasets`
    regret_answered: Regret | None = None  # of these the ones where no comparison of the choice abstains
    regret_budget: Regret | None = None  # those proposed

    def __str__(self) -> str:
        lines = [f"{len(self.proposal)} of {self.considered} networks, each on one of {', '.join(self.datasets)}:"]
        lines += [
            f"{row.nn}: {row.dataset} ({row.probability:.2f}"
            + (f"; {row.abstains} of {row.others} comparisons abstain)" if row.abstains else ")")
            for row in self.proposal
        ]
        if self.refused:
            lines += ["", f"{len(self.refused)} were refused; the first: {self.refused[0]['reason']}"]
        if self.regret_all is not None:
            for title, regret in (
                ("all test networks, each on its own datasets", self.regret_all),
                ("those known on all of the datasets above", self.regret_shared),
                ("of these, where no comparison of the choice abstains", self.regret_answered),
                ("the proposed networks", self.regret_budget),
            ):
                lines += ["", *_table(title, regret)]
        return "\n".join(lines)


def _table(title: str, regret: Regret | None) -> list[str]:
    if regret is None:
        return [f"{title}: none, so no number"]
    lines = [f"Regret in normalised accuracy, {title} (n = {regret.networks}), 95 % intervals over networks:"]
    lines += [
        f"  {row['way']:20} {row['regret']:7.4f} ({row['low']:.4f} to {row['high']:.4f}), "
        f"best dataset chosen: {row['best_chosen']:.3f}"
        for row in regret.ways
    ]
    return lines + [
        f"  {'predictor − ' + row['way']:20} {row['difference']:+7.4f} ({row['low']:+.4f} to {row['high']:+.4f}), "
        f"p = {row['p']:.4f}"
        for row in regret.differences
    ]
