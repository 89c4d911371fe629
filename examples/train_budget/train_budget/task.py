"""The task `train_budget`: of many generated networks, which to train on which dataset."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from nngpt_ext import RunResult, UserError, register_task

if TYPE_CHECKING:
    import pandas as pd

    from nngpt_ext import Predictor, Ranking


class Config(BaseModel):
    """Which run to ask, about which networks, and how many may be trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str = Field(description="folder of a finished run of dataset_compare")
    budget: int = Field(20, ge=1, description="networks that can be trained, each on one dataset")
    codes: str | None = Field(None, description="generated networks: folder or Parquet; else the run's test networks")
    datasets: list[str] | None = Field(None, description="where a network may be trained; by default all known ones")
    store: str | None = Field(None, description="prediction store (URL); by default the run's own")


class Report(BaseModel):
    """The proposal, best first, and for held-out LEMUR networks what it costs."""

    proposal: list[dict[str, Any]]
    regret_all: list[dict[str, Any]] | None = None  # over all networks
    regret_budget: list[dict[str, Any]] | None = None  # over those proposed

    def __str__(self) -> str:
        lines = [f"{row['nn']}: {row['dataset']} ({row['probability']:.2f})" for row in self.proposal]
        for title, table in (("all networks", self.regret_all), ("the proposed networks", self.regret_budget)):
            if table:
                lines += [
                    "",
                    f"Regret in normalised accuracy, {title} (n = {table[0]['n']}), 95 % interval over networks:",
                ]
                lines += [
                    f"  {row['way']:10} {row['regret']:.4f} ({row['low']:.4f} to {row['high']:.4f}), "
                    f"best dataset chosen: {row['best_chosen']:.3f}"
                    for row in table
                ]
        return "\n".join(lines)


@register_task("train_budget")
class TrainBudget:
    """Asks a run's adapter, through the prediction store, where each network belongs."""

    name = "train_budget"
    Config = Config

    def run(self, config: Config, output_dir: Path, resume: bool = False) -> RunResult:
        """Propose `budget` networks, the surest first, each with its dataset."""
        from nngpt_ext import Predictor
        from nngpt_ext.files import write_text

        if (output_dir / "report.json").exists() and not resume:
            raise UserError(f"'{output_dir}' holds a report; give another folder with --out, or --resume")
        run = Path(config.run)
        predictor = Predictor.from_run(run, store=config.store or f"sqlite:///{run / 'predictions.db'}")
        found = _generated(predictor, config) if config.codes else _held_out(predictor, config, run)
        output_dir.mkdir(parents=True, exist_ok=True)
        write_text(output_dir / "report.json", json.dumps(found.model_dump(), indent=2, ensure_ascii=False) + "\n")
        import pandas as pd

        return RunResult(output_dir, found, pd.DataFrame(found.proposal), None)


def _proposal(rankings: Iterable[Ranking], budget: int) -> list[dict[str, Any]]:
    rows = [{"nn": r.nn, "dataset": r.datasets[0], "probability": r.probability} for r in rankings]
    return sorted(rows, key=lambda row: (-row["probability"], row["nn"]))[:budget]


def _generated(predictor: Predictor, config: Config) -> Report:
    from nngpt_ext.predict.codes import Network, read_codes

    assert config.codes is not None
    networks = [one for one in read_codes(Path(config.codes)) if isinstance(one, Network)]
    rankings = predictor.rank_many([(one.code, one.nn) for one in networks], config.datasets)
    return Report(proposal=_proposal(rankings, config.budget))


def _held_out(predictor: Predictor, config: Config, run: Path) -> Report:
    """The run's own test networks, whose accuracies are known: the proposal and its regret."""
    import yaml

    from nngpt_ext.config import TaskConfig, build_config
    from nngpt_ext.tasks.pipeline import read_data
    from train_budget.regret import known_accuracies, prior_choice, regrets

    task = build_config(TaskConfig, yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8")))
    data = read_data(task)
    test = data.part("test")
    rankings = {nn: _ranking(predictor, nn, data.sources[nn], own) for nn, own in test.groupby("nn")}
    proposal = _proposal(rankings.values(), config.budget)
    known = known_accuracies(test)
    train = data.pairs[data.pairs["split"] == "train"]
    choices = {
        "predictor": {nn: ranking.datasets[0] for nn, ranking in rankings.items()},
        "prior": prior_choice(train, test),
    }
    every = regrets(known, choices, sorted(known))
    proposed = regrets(known, choices, sorted(row["nn"] for row in proposal))
    return Report(proposal=proposal, regret_all=_rows(every), regret_budget=_rows(proposed))


def _ranking(predictor: Predictor, nn: str, code: str, own: pd.DataFrame) -> Ranking:
    """The ranking of the datasets that a network was trained on, with the recipe it had on each."""
    recipes: dict[str, Any] = {}
    for row in own.itertuples(index=False):
        recipes |= {row.dataset_1: row.recipe_1, row.dataset_2: row.recipe_2}
    return predictor.rank(code, recipes, recipes if predictor.prompt == "recipe" else None, nn=nn)


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.rename_axis("way").reset_index().to_dict("records")
