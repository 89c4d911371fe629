"""The task `train_budget`: of many generated networks, which to train on which dataset."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field

from nngpt_ext import RunResult, UserError, register_task
from train_budget.report import Choice, Regret, Report

if TYPE_CHECKING:
    import pandas as pd

    from nngpt_ext import Predictor, Ranking

PREDICTOR, PRIOR = "predictor", "prior"


class Config(BaseModel):
    """Which run to ask, about which networks, and how many may be trained."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run: str = Field(description="folder of a finished run of dataset_compare")
    budget: int = Field(20, ge=1, description="networks that can be trained, each on one dataset")
    codes: str | None = Field(None, description="generated networks: folder or Parquet; else the run's test networks")
    recipe: dict[str, Any] | None = Field(
        None, description="for generated networks, where the prompt shows recipes: one for all, or one each dataset"
    )
    datasets: list[str] | None = Field(
        None,
        description="where a network may be trained; by default those of the run's training, for test networks those "
        "that most of them have",
    )
    store: str | None = Field(None, description="prediction store (URL); by default the run's own")


@register_task("train_budget")
class TrainBudget:
    """Asks a run's adapter, through the prediction store, where each network belongs."""

    name = "train_budget"
    Config = Config

    def run(self, config: Config, output_dir: Path, resume: bool = False) -> RunResult:
        """Propose `budget` networks, the surest first, each with its dataset."""
        from nngpt_ext import Predictor
        from nngpt_ext.io import write_text

        if (output_dir / "report.json").exists() and not resume:
            raise UserError(f"'{output_dir}' already has a report; give another folder with --out, or --resume")
        run = Path(config.run)
        predictor = Predictor.from_run(run, store=config.store or f"sqlite:///{run / 'predictions.db'}")
        if config.datasets is not None:
            predictor.check_datasets(config.datasets)
        found = _generated(predictor, config) if config.codes else _held_out(predictor, config, run)
        output_dir.mkdir(parents=True, exist_ok=True)
        write_text(output_dir / "report.json", json.dumps(found.model_dump(), indent=2, ensure_ascii=False) + "\n")
        import pandas as pd

        return RunResult(output_dir, found, pd.DataFrame([row.model_dump() for row in found.proposal]), None)


def propose(rankings: Iterable[Ranking], budget: int) -> list[Choice]:
    """The surest networks, those first whose choice rests on no comparison that abstains.

    The rankings are to be of the same datasets: to be the best of two is likelier than to be the best of seven.
    """
    choices = [_choice(ranking) for ranking in rankings]
    return sorted(choices, key=lambda row: (row.abstains > 0, -row.probability, row.nn))[:budget]


def _choice(ranking: Ranking) -> Choice:
    best = ranking.datasets[0]
    own = [c.abstain for c in ranking.comparisons if best in (c.dataset_1, c.dataset_2)]
    return Choice(nn=ranking.nn, dataset=best, probability=ranking.probability, abstains=sum(own), others=len(own))


def _generated(predictor: Predictor, config: Config) -> Report:
    from nngpt_ext.predict.collection import askable

    assert config.codes is not None
    names = predictor.check_datasets(config.datasets)
    networks, refused = askable(predictor, Path(config.codes), names, config.recipe)
    rankings = predictor.rank_many([(one.code, one.nn, one.recipe) for one in networks], names, config.recipe)
    return Report(
        datasets=names,
        considered=len(networks),
        proposal=propose(rankings, config.budget),
        refused=[asdict(one) for one in refused],
    )


def _held_out(predictor: Predictor, config: Config, run: Path) -> Report:
    """The run's own test networks, whose accuracies are known: the proposal and its regret."""
    from nngpt_ext.config import TaskConfig
    from nngpt_ext.data.load import load_pairs
    from nngpt_ext.run_folder import read_config
    from nngpt_ext.settings import build_config
    from train_budget.regret import among, commonest_datasets, known_accuracies, prior_choice

    if config.recipe is not None:
        raise UserError("recipe is for generated networks (codes); the test networks have their own")
    data = load_pairs(build_config(TaskConfig, read_config(run / "config.yaml")).data)
    test, train = data.part("test"), data.pairs[data.pairs["split"] == "train"]
    if config.datasets is not None:
        test = among(test, config.datasets)
    known = known_accuracies(test)
    shared = sorted(config.datasets or commonest_datasets(known)) if known else []
    able = sorted(nn for nn, own in known.items() if own.keys() >= set(shared))
    if not able:
        raise UserError(
            f"no test network was trained on all of {', '.join(config.datasets or [])}; the commonest datasets of "
            f"the test networks: {', '.join(commonest_datasets(known_accuracies(data.part('test'))))}"
        )
    own = {nn: _ranking(predictor, nn, data.sources[nn], pairs, known[nn]) for nn, pairs in test.groupby("nn")}
    choices = {PREDICTOR: _firsts(own), PRIOR: prior_choice(train, test)}
    # From here on all networks have the same datasets.
    narrow = {nn: {name: known[nn][name] for name in shared} for nn in able}
    rankings = {nn: _within(own[nn], shared) for nn in able}
    pairs = among(test[test["nn"].isin(able)], shared)
    narrow_choices = {PREDICTOR: _firsts(rankings), PRIOR: prior_choice(train, pairs)}
    proposal = propose(rankings.values(), config.budget)
    answered = [nn for nn, ranking in rankings.items() if not _choice(ranking).abstains]
    return Report(
        datasets=shared,
        considered=len(able),
        proposal=proposal,
        regret_all=_regret(known, choices, known),
        regret_shared=_regret(narrow, narrow_choices, able),
        regret_answered=_regret(narrow, narrow_choices, answered),
        regret_budget=_regret(narrow, narrow_choices, [row.nn for row in proposal]),
    )


def _ranking(predictor: Predictor, nn: str, code: str, pairs: pd.DataFrame, known: Mapping[str, float]) -> Ranking:
    """The ranking of the datasets that a network was trained on, with the recipe it had on each."""
    recipes: dict[str, Any] = {}
    for row in pairs.itertuples(index=False):
        recipes |= {row.dataset_1: row.recipe_1, row.dataset_2: row.recipe_2}
    # A prompt takes of these what it shows.
    return predictor.rank(code, recipes, recipes, accuracies=known, nn=nn)


def _within(ranking: Ranking, datasets: list[str]) -> Ranking:
    from nngpt_ext.predict.answers import ranking_of

    own = tuple(c for c in ranking.comparisons if c.dataset_1 in datasets and c.dataset_2 in datasets)
    return ranking_of(datasets, own)


def _firsts(rankings: Mapping[str, Ranking]) -> dict[str, str]:
    return {nn: ranking.datasets[0] for nn, ranking in rankings.items()}


def _regret(
    known: Mapping[str, Mapping[str, float]], choices: Mapping[str, Mapping[str, str]], networks: Collection[str]
) -> Regret | None:
    from train_budget.regret import differences, regrets

    if not networks:
        return None
    return Regret(
        networks=len(networks),
        ways=_rows(regrets(known, choices, networks)),
        differences=_rows(differences(known, choices, networks, PREDICTOR)),
    )


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.rename_axis("way").reset_index().to_dict("records")
