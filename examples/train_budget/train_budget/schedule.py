"""The task `epoch_budget`: with few epochs to spend on each network, which datasets to go on training it on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, model_validator

from nngpt_ext import RunResult, UserError, register_task
from nngpt_ext.data.selection import DataConfig

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

WAYS = EARLY, PROBABILITIES, BOTH = "early accuracies alone", "probabilities alone", "both"
RUNGS = (1, 2)  # epochs after which the worse half is stopped; the one that is left goes on to the end


class Config(BaseModel):
    """How many networks and epochs, and which records."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    networks: PositiveInt = Field(200, description="unseen networks, those with the most datasets")
    budgets: list[PositiveInt] = Field([5, 6, 7, 9, 12], min_length=1, description="epochs for each network")
    runs: dict[int, str] = Field(
        {},
        description="finished runs whose probabilities replace the trees', before training (0) and after 1, 2 epochs",
    )
    data: DataConfig = Field(
        DataConfig(split="by_family"), description="records, epoch to be reached, folds and level of families"
    )

    @model_validator(mode="after")
    def _one_training(self) -> Config:
        if wrong := [step for step in self.runs if step not in (0, *RUNGS)]:
            raise ValueError(f"runs are of 0, 1 or 2 epochs of training, not {wrong[0]}")
        if min(self.budgets) < self.data.epoch:
            raise ValueError(
                f"a budget is {self.data.epoch} epochs or more, one whole training, not {min(self.budgets)}"
            )
        return self


@dataclass(frozen=True)
class Candidate:
    """An unseen network, one trial on each of its datasets.

    Attributes:
        reached: normalised accuracy at the end, by dataset.
        early: accuracy by dataset after each epoch of `RUNGS`, relative to the best of training networks.
        probability: P(first is better) by pair of datasets: `prior` without a look at the network, and what is
            predicted before training (0) and after each epoch of `RUNGS`.
    """

    reached: Mapping[str, float]
    early: Mapping[int, Mapping[str, float]]
    probability: Mapping[str | int, Mapping[tuple[str, str], float]]

    def best(self, datasets: Sequence[str], by: str | int) -> list[str]:
        """Datasets by these probabilities, best first."""
        from nngpt_ext.scoring.strengths import strengths

        own = {pair: p for pair, p in self.probability[by].items() if set(pair) <= set(datasets)}
        scores = strengths(datasets, own) if own else dict.fromkeys(datasets, 0.0)
        return sorted(datasets, key=lambda name: (-scores[name], name))


def spent(datasets: int, epoch: int) -> int:
    """Epochs that successive halving takes if it begins with this many datasets."""
    total, before = 0, 0
    for rung in (*RUNGS, epoch):
        total, before, datasets = total + datasets * (rung - before), rung, max(1, datasets // 2)
    return total


def chosen(one: Candidate, way: str, budget: int, epoch: int) -> tuple[str, int]:
    """The dataset that a way to decide ends with, and the epochs that it took.

    Early accuracies alone: successive halving (Jamieson & Talwalkar 2016) by the higher relative accuracy, begun with
    the datasets that the pair prior prefers. Probabilities alone: as many datasets as the budget reaches to the end,
    the likeliest first. Both: successive halving, begun with the likeliest, by the probability given the accuracies so
    far.
    """
    names = one.best([*one.reached], "prior" if way == EARLY else 0)
    if way == PROBABILITIES:
        names = names[: max(1, budget // epoch)]
        return max(names, key=lambda name: one.reached[name]), len(names) * epoch
    begun = max(n for n in range(1, len(names) + 1) if spent(n, epoch) <= budget)
    names = names[:begun]
    for rung in RUNGS:
        if len(names) > 1:
            ranked = one.best(names, rung) if way == BOTH else sorted(names, key=lambda name: -one.early[rung][name])
            names = ranked[: len(names) // 2]
    return names[0], spent(begun, epoch)


class Row(BaseModel):
    """A way to decide at a budget: mean regret, and `both` minus it on the same networks, with 95 % intervals."""

    budget: int
    way: str
    epochs: float
    regret: float
    low: float
    high: float
    best_chosen: float
    both_minus_it: tuple[float, float, float] | None = None


class Schedule(BaseModel):
    """Regrets in normalised accuracy against the network's best dataset."""

    networks: int
    families: int
    datasets: float  # of a network, in the mean
    whole: float  # epochs of training on all datasets to the end, in the mean
    rows: list[Row]

    def __str__(self) -> str:
        lines = [
            f"{self.networks} unseen networks of {self.families} families, {self.datasets:.1f} datasets each; training "
            f"on all of them takes {self.whole:.0f} epochs.",
            "Mean regret in normalised accuracy, 95 % intervals over families:",
        ]
        for row in self.rows:
            line = (
                f"  {row.budget:3} epochs, {row.way:22} {row.regret:.4f} ({row.low:.4f} to {row.high:.4f}), best "
                f"dataset chosen: {row.best_chosen:.3f}, spent {row.epochs:.1f}"
            )
            if row.both_minus_it is not None:
                value, low, high = row.both_minus_it
                line += f"; both − it {value:+.4f} ({low:+.4f} to {high:+.4f})"
            lines.append(line)
        return "\n".join(lines)


@register_task("epoch_budget")
class EpochBudget:
    """Successive halving over datasets by early accuracies, by predicted probabilities, and by both."""

    name = "epoch_budget"
    Config = Config

    def run(self, config: Config, output_dir: Path, resume: bool = False) -> RunResult:
        """Decide for each unseen network and budget; the accuracies are LEMUR's."""
        import pandas as pd

        from nngpt_ext.io import write_text

        if (output_dir / "report.json").exists() and not resume:
            raise UserError(f"'{output_dir}' already has a report; give another folder with --out, or --resume")
        candidates, families = unseen(config.data, config.runs)
        names = sorted(candidates, key=lambda nn: (-len(candidates[nn].reached), nn))[: config.networks]
        found = compare(candidates, families, names, config.budgets, config.data.epoch)
        output_dir.mkdir(parents=True, exist_ok=True)
        text = json.dumps(found.model_dump(), indent=2, ensure_ascii=False)
        write_text(output_dir / "report.json", text + "\n")
        return RunResult(output_dir, found, pd.DataFrame([row.model_dump() for row in found.rows]), None)


def compare(
    candidates: Mapping[str, Candidate], families: Mapping[str, str], names: Sequence[str], budgets: Sequence[int],
    epoch: int,
) -> Schedule:  # fmt: skip
    """All ways to decide at all budgets, on the same networks; intervals are over families."""
    from train_budget.regret import differences, regrets

    known = {nn: candidates[nn].reached for nn in names}
    rows = []
    for budget in budgets:
        ends = {way: {nn: chosen(candidates[nn], way, budget, epoch) for nn in names} for way in WAYS}
        choices = {way: {nn: dataset for nn, (dataset, _) in own.items()} for way, own in ends.items()}
        table = regrets(known, choices, names, families)
        paired = differences(known, choices, names, BOTH, families)
        for way, own in ends.items():
            figures = table.loc[way].drop("n").to_dict()
            more = None if way == BOTH else tuple(paired.loc[way, ["difference", "low", "high"]])
            epochs = sum(n for _, n in own.values()) / len(names)
            rows.append(Row(budget=budget, way=way, epochs=epochs, both_minus_it=more, **figures))
    datasets = sum(map(len, known.values())) / len(names)
    return Schedule(
        networks=len(names), families=len({families[nn] for nn in names}), datasets=datasets, whole=datasets * epoch,
        rows=rows,
    )  # fmt: skip


def unseen(data: DataConfig, runs: Mapping[int, str]) -> tuple[dict[str, Candidate], dict[str, str]]:
    """The networks that no training of their fold saw, with what is predicted of them, and their families."""
    from nngpt_ext.study.price import ONE_EPOCH, TWO_EPOCHS, answers_by_step
    from nngpt_ext.tasks.pipeline import Loader

    for step, run in runs.items():
        check_run(Path(run), step, data)

    found = answers_by_step(data, Loader(), (ONE_EPOCH, TWO_EPOCHS), ("bt_all",))
    last = found[TWO_EPOCHS]
    probabilities = {
        "prior": last.answers["pair_prior"], 0: last.answers["bt_recipe_structure"],
        1: found[ONE_EPOCH].answers["bt_all"], 2: last.answers["bt_all"],
    }  # fmt: skip
    for step, run in runs.items():
        probabilities[step] = of_run(Path(run), last.test)
    rows = last.test.assign(**{f"p_{name}": values for name, values in probabilities.items()}, family=last.units)
    own = {str(nn): _candidate(pairs, [*probabilities]) for nn, pairs in rows.groupby("nn")}
    return own, dict(rows[["nn", "family"]].drop_duplicates().to_numpy())


def check_run(folder: Path, step: int, data: DataConfig) -> None:
    """Check that a run knew nothing of the tested families, and no more than `step` epochs of their networks.

    Raises:
        UserError: if it is not a finished run over all folds of these families, or its evidence is of other epochs.
    """
    from nngpt_ext import TaskConfig
    from nngpt_ext.run_folder import CONFIG, PREDICTIONS, read_config
    from nngpt_ext.settings import build_config

    if not (folder / PREDICTIONS).is_file():
        raise UserError(f"no finished run at '{folder}' (runs.{step}): it has no {PREDICTIONS}")
    own = build_config(TaskConfig, read_config(folder / CONFIG)).data
    for name in ("split", "fold", "folds", "family_level", "seed", "epoch"):
        if getattr(own, name) != getattr(data, name):
            raise UserError(
                f"run '{folder}' (runs.{step}) has data.{name} {getattr(own, name)}, not {getattr(data, name)}: it may "
                "have seen what is tested here; name one that was trained with the same data"
            )
    if (knows := max(own.evidence.epochs, default=0)) != step:
        raise UserError(f"run '{folder}' knows {knows} epochs of training; name it as runs.{knows}, not runs.{step}")


def of_run(folder: Path, pairs: pd.DataFrame) -> np.ndarray:
    """P(dataset_1) of each pair, as a run over all folds answered it when it was tested; shape (pairs,).

    Raises:
        UserError: if the run has not answered every pair, or was tested on other trials.
    """
    import pandas as pd

    from nngpt_ext.run_folder import KEYS, PREDICTIONS

    own = pd.read_parquet(folder / PREDICTIONS)
    own = own[own["split"] == "test"].set_index(KEYS).reindex(pd.MultiIndex.from_frame(pairs[KEYS]))
    lacking = int(own["calibrated_1"].isna().sum())
    others = int((own["better_dataset"].to_numpy() != pairs["better_dataset"].to_numpy()).sum()) - lacking
    if lacking or others:
        raise UserError(
            f"run '{folder}' was not tested on these trials: {lacking} of {len(own)} pairs are not among its test "
            f"pairs, {others} have another winner; train it with the same data, --set data.test_trials=random"
        )
    return own["calibrated_1"].to_numpy()


def _candidate(pairs: pd.DataFrame, names: Sequence[str | int]) -> Candidate:
    from train_budget.regret import known_accuracies

    [reached] = known_accuracies(pairs).values()
    seen: dict[str, Any] = {}
    for i in (1, 2):
        seen |= dict(zip(pairs[f"dataset_{i}"], pairs[f"evidence_{i}"], strict=True))
    keys = list(zip(pairs["dataset_1"], pairs["dataset_2"], strict=True))
    return Candidate(
        reached=reached,
        early={rung: {name: known[rung] for name, known in seen.items()} for rung in RUNGS},
        probability={name: dict(zip(keys, pairs[f"p_{name}"], strict=True)) for name in names},
    )
