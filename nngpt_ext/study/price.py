"""The price of knowing: how often baselines are right before and after training for some epochs, on the same pairs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial, reduce

import pandas as pd

from nngpt_ext.data.evidence import EvidenceConfig
from nngpt_ext.data.load import per_fold, read_records
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError, shown
from nngpt_ext.evaluation import metrics, slices
from nngpt_ext.evaluation.baselines import BASELINES
from nngpt_ext.evaluation.figures import Accuracy, SkillBeyondPrior
from nngpt_ext.evaluation.pool import FoldAnswers, best_prior, pooled
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.settings import build_config
from nngpt_ext.study.outcome import PricePoint
from nngpt_ext.tasks.pipeline import Loader
from nngpt_ext.views.table import Table
from nngpt_ext.views.wording import interval, number

log = logging.getLogger(__name__)

# What training shows, from the cheapest.
ONE_EPOCH, TWO_EPOCHS = "epoch 1 on both", "epoch 2 on both"
STEPS = {
    "epoch 1 on one": EvidenceConfig(epochs=(1,), sides="one"),
    ONE_EPOCH: EvidenceConfig(epochs=(1,)),
    TWO_EPOCHS: EvidenceConfig(epochs=(1, 2)),
}
BEFORE = {"pair_prior": "nothing", "kind_prior": "the kind", "bt_recipe_structure": "recipe and structure"}
AFTER = ("early_rule", "bt_all")
_PAIR = ["nn", "dataset_1", "dataset_2"]


def answers_by_step(
    config: DataConfig, loader: Loader, steps: Sequence[str] = (*STEPS,), after: Sequence[str] = AFTER
) -> dict[str, FoldAnswers]:
    """Answers to the test pairs of all folds that have the evidence of every step, in one order.

    Args:
        config: where the records are, the epoch that is compared, the folds and what makes a family. Pairs are of one
            random trial of each network and dataset.
        loader: of records and pairs.
        steps: names in `STEPS`.
        after: baselines that know the evidence.

    Returns:
        By step; those of the last step have the baselines of `BEFORE` as well.

    Raises:
        UserError: as `load_pairs`; for another label, choice of trials or the like, and an epoch before the third.
    """
    usual: dict[str, object] = {"split": "by_family", "fold": None, "hold_out": None, "label": "normalized"}
    usual |= {"trials": "random", "test_trials": None, "evidence": EvidenceConfig()}
    default = DataConfig()
    for name, value in usual.items():
        if (given := getattr(config, name)) not in (value, getattr(default, name)):
            raise UserError(
                f"data.{name} cannot be {shown(given)} here: what early epochs tell is measured by_family, on all "
                "folds, with the normalized label and one random trial of each network and dataset"
            )
    if config.epoch <= (latest := max(max(STEPS[step].epochs, default=0) for step in steps)):
        raise UserError(
            f"epochs up to {latest} tell of a later one: data.epoch must be above {latest}, not {config.epoch}"
        )
    found = {}
    for step in steps:
        names, folds = (*BEFORE, *after) if step == steps[-1] else after, []
        own = build_config(DataConfig, config.model_dump() | usual | {"evidence": STEPS[step].model_dump()})
        for one in per_fold(own, partial(read_records, own)):
            data = loader.data(one)
            folds.append(FoldAnswers.of(data, {name: BASELINES[name].fit(data) for name in names}))
            log.info("%s, %s, fold %s of %d", step, config.family_level, one.fold, config.folds)
        found[step] = pooled(folds)
    keys = {step: pd.MultiIndex.from_frame(own.test[_PAIR]) for step, own in found.items()}
    common = reduce(pd.MultiIndex.intersection, keys.values())
    return {step: own.rows(keys[step].isin(common)) for step, own in found.items()}


def price_of_knowing(config: DataConfig, level: str, loader: Loader) -> list[PricePoint]:
    """The baselines after each step, on one random trial of each network and dataset, over all folds of by_family.

    Args:
        config: as in `answers_by_step`.
        level: what makes a family.
        loader: of records and pairs.

    Raises:
        UserError: as `load_pairs`.
    """
    found = answers_by_step(config.model_copy(update={"family_level": level}), loader)
    last = [*found.values()][-1]
    first, units = metrics.first_wins(last.test), last.units
    right = {name: metrics.correct(p, first) for name, p in last.answers.items()}
    prior = best_prior(right)
    known = [(BEFORE[name], 0.0, name, right[name]) for name in BEFORE] + [
        (step, STEPS[step].spent(config.epoch), name, metrics.correct(answers.answers[name], first))
        for step, answers in found.items()
        for name in AFTER
    ]
    return [
        PricePoint(
            family_level=level, baseline=name, knows=knows, spent=spent, families=len(set(units)),
            accuracy=Accuracy(value=answer.mean(), ci95=bootstrap_networks(answer, units), n=len(answer)),
            beyond=SkillBeyondPrior(prior=prior, **slices.difference(answer, right[prior], units).model_dump()),
        )
        for knows, spent, name, answer in known
    ]  # fmt: skip


def price_table(points: Sequence[PricePoint]) -> Table:
    """The points of a level, which are of the same pairs."""
    rows = [
        (
            p.knows, f"{p.spent:.0%}", p.baseline, number(p.accuracy.value), interval(p.accuracy.ci95),
            number(p.beyond.value, sign=True), interval(p.beyond.ci95, sign=True), f"{p.beyond.p:.4f}",
        )
        for p in points
    ]  # fmt: skip
    one = points[0]
    caption = (
        f"{one.accuracy.n:,} pairs of random trials, {one.families:,} families; 95 % intervals over families. The best "
        f"prior is {one.beyond.prior}."
    )
    skill = ("beyond the best prior", "95 % interval", "p")
    header = ("known", "of both trainings", "baseline", "accuracy", "95 % interval", *skill)
    return Table(f"Skill against training spent, {one.family_level}", header, rows, caption)


def price_sentence(points: Sequence[PricePoint]) -> str:
    """What one epoch on both datasets tells."""
    own = {(p.baseline, p.knows): p for p in points}
    rule, everything = (own[name, ONE_EPOCH] for name in AFTER)
    prior = rule.beyond.prior
    return (
        f"On networks of families never seen ({rule.family_level}), epoch 1 on both datasets ({rule.spent:.0%} of both "
        f"trainings) names the better one in {rule.accuracy.value:.3f} of pairs by the higher accuracy, and in "
        f"{everything.accuracy.value:.3f} together with recipe and structure; the best prior in "
        f"{own[prior, BEFORE[prior]].accuracy.value:.3f}."
    )
