"""A report described as a sentence and tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nngpt_ext.data.splits import SPLITS
from nngpt_ext.evaluation.baselines import BASELINES
from nngpt_ext.evaluation.figures import PRIOR, SIDES, Group, Skill, per_dataset_nested
from nngpt_ext.evaluation.metrics import METRICS
from nngpt_ext.evaluation.statistics import FEW, few_networks
from nngpt_ext.views.plot import Span
from nngpt_ext.views.table import Table
from nngpt_ext.views.wording import NO_NUMBER, count, interval, number, p_value, share, whole, with_interval

if TYPE_CHECKING:
    from nngpt_ext.evaluation.report import Report

Row = tuple[str, ...]
_GROUP = ("accuracy", "95 % interval", "n", "prior")
_SIDES = {
    "involving": ("Per dataset: pairs that have it", "Pairs with the dataset on either side."),
    "as_answer": ("Per dataset: pairs it wins", "Pairs whose answer is the dataset."),
}


def summary(report: Report) -> str:
    """One sentence: what was measured, and whether skill was shown."""
    skill, than = report.skill, "pair prior"
    if report.split in SPLITS and SPLITS[report.split].by_datasets and report.skill_beyond_best_prior:
        skill, than = report.skill_beyond_best_prior, report.skill_beyond_best_prior.prior
    gain = with_interval(skill.value, skill.ci95, sign=True, name="95 % interval ")
    correct = share(report.accuracy.value)
    if report.answers_only:
        epoch = "" if report.selected_epoch is None else f" of epoch {report.selected_epoch:g}"
        return (
            f"Of {count(report.n_test_pairs, 'answer')}{epoch} that {report.base_model} gave and judged itself, "
            f"{correct} are correct; accuracy minus that of the pair prior is {gain}, as if each answer were about a "
            "different network. The rows include those that it trains on, so this says nothing about networks that "
            "training never saw."
        )
    if report.held_out:
        values = report.held_out.datasets.values()
        return (
            f"With the prompt {report.prompt} and the base model {report.base_model}, {count(len(values), 'dataset')} "
            f"held out in turn: the accuracy on a dataset that training never saw is {share(report.held_out.median)} "
            f"in the median ({share(min(values))} to {share(max(values))}), and better than both opponent_prior and "
            f"facts_prior on {report.held_out.beating} of {len(values)}. So few datasets show no significance."
        )
    leaky = report.split in SPLITS and SPLITS[report.split].leaky
    few = f", on fewer than {FEW} networks" if _few(report) else ""
    # A single network, or family, has no spread: its interval is a point and says nothing about others.
    units = report.families.families if report.families else report.n_test_networks or 0
    if few or not skill.clear_of_zero or units < 2:
        verdict = "no skill was shown"
    else:
        verdict = "skill was shown" if skill.value > 0 else "the model is below the prior"
    return (
        f"With the prompt {report.prompt} and the base model {report.base_model}, split {report.split}"
        f"{f' ({len(report.folds)} folds)' if report.folds else ''}, {correct} of "
        f"{count(report.n_test_pairs, 'test pair')} of {count(report.n_test_networks or 0, 'network')}"
        f"{'' if leaky else ' that training never saw'} were answered correctly; the skill (accuracy minus that of the "
        f"{than}{few}) is {gain}: {verdict}.{_early(report)}"
    )


def _early(report: Report) -> str:
    """The sentence about the early rule, where there is early evidence."""
    rule = report.baselines.get("early_rule")
    if rule is None or rule.difference is None:
        return ""
    gain = with_interval(rule.difference.value, rule.difference.ci95, sign=True)
    return f" The early rule alone has {share(rule.accuracy)}; accuracy minus that is {gain}."


def _few(report: Report) -> str:
    """The sentence about too few test networks; empty if there are enough."""
    if report.answers_only:
        return few_networks(report.n_test_pairs, "answer")
    return few_networks(report.n_test_networks or 0)


def tables(report: Report) -> list[Table]:
    """All tables of a report, in the order in which they are shown."""
    measured = [
        (
            metric.label,
            number(getattr(report, metric.name, None)),
            NO_NUMBER,
            "; ".join(filter(None, (metric.description, metric.detail(report)))),
        )
        for metric in METRICS.values()
    ]
    headline = [*_accuracies(report), *measured, *_calibration(report)]
    excluded = [(reason, f"{n:,}") for reason, n in report.excluded.items()]
    notes = [Table("Notes", ("note",), [(note,) for note in report.notes])] if report.notes else []
    return [
        Table(
            "Headline",
            ("measure", "value", "95 % interval", "remark"),
            headline,
            _caption(report),
            spans=_spans(report),
            spans_are="Accuracies with their 95 % intervals, on the same pairs.",
        ),
        *notes,
        _near_duplicates(report),
        *(_per_dataset(report, side) for side in SIDES),
        _folds(report) if report.folds else _epochs(report),
        Table("Excluded trials", ("reason", "trials"), excluded or [("none", "0")]),
        _run(report),
    ]


def brief(report: Report) -> list[Table]:
    """The accuracies with their intervals, and the table of datasets."""
    rows, caption = [row[:3] for row in _accuracies(report)], f"{_caption(report)} {_few(report)}".rstrip()
    return [Table("Headline", ("measure", "value", "95 % interval"), rows, caption), _per_dataset(report, "involving")]


def _caption(report: Report) -> str:
    intervals = "intervals are 95 %, from 2,000 bootstrap draws of"
    if report.answers_only:
        return (
            f"{count(report.n_test_pairs, 'answer')}, whose networks are unknown. Means are over answers; "
            f"{intervals} answers. A dash: texts have no probability, and name no network."
        )
    tested = f"{count(report.n_test_pairs, 'test pair')} of {count(report.n_test_networks or 0, 'network')}"
    return f"{tested}. Means are over pairs; {intervals} {report.units} (a dash: the draws had no spread)."


def _accuracies(report: Report) -> list[Row]:
    accuracy, skill, baselines = report.accuracy, report.skill, dict(report.baselines)
    prior = baselines.pop(PRIOR)
    few = "; too few networks" if _few(report) else ""
    rows: list[Row] = [
        ("accuracy", number(accuracy.value), interval(accuracy.ci95), f"n = {accuracy.n:,}{few}"),
        ("pair prior", number(prior.accuracy), interval(prior.ci95), BASELINES[PRIOR].description),
        (
            "skill", number(skill.value, sign=True), interval(skill.ci95, sign=True),
            f"accuracy − pair prior; {_p(report, skill)}{few}",
        ),
        *_beyond(report),
    ]  # fmt: skip
    if (turns := report.held_out) is not None:
        beaten = f"both opponent_prior and facts_prior beaten on {turns.beating} of {len(turns.datasets)}"
        rows.insert(0, ("median over datasets", number(turns.median), NO_NUMBER, beaten))
    for name, baseline in baselines.items():
        remarks = [BASELINES[name].description] if name in BASELINES else []
        if (gain := baseline.difference) is not None:
            remarks.append(f"accuracy − this {gain.value:+.3f} ({interval(gain.ci95, sign=True)}), {_p(report, gain)}")
        rows.append((name, number(baseline.accuracy), interval(baseline.ci95), "; ".join(remarks)))
    return rows


def _p(report: Report, found: Skill) -> str:
    return "no p for a few datasets" if report.held_out else p_value(found.p)


def _spans(report: Report) -> list[Span]:
    baselines = {
        name.replace("pair_prior", "pair prior"): (found.accuracy, found.ci95)
        for name, found in report.baselines.items()
    }
    measured = {"accuracy": (report.accuracy.value, report.accuracy.ci95), **baselines}
    return [Span(name, value, ci95) for name, (value, ci95) in measured.items() if value is not None]


def _beyond(report: Report) -> list[Row]:
    """Skill beyond the best prior, where it is not the pair prior, and what a single family decides."""
    beyond, families = report.skill_beyond_best_prior, report.families
    rows: list[Row] = []
    if beyond is not None and beyond.prior != PRIOR:
        rows.append(
            (
                "skill beyond the best prior", number(beyond.value, sign=True), interval(beyond.ci95, sign=True),
                f"accuracy − {beyond.prior}; {_p(report, beyond)}",
            )
        )  # fmt: skip
    if families is not None:
        for name, part in (
            ("without the largest family", families.without_largest),
            ("mean over families", families.mean),
        ):
            if part is not None:
                gain = part.difference
                remark = f"accuracy − best prior {number(gain.value, sign=True)} ({interval(gain.ci95, sign=True)})"
                rows.append((name, number(part.accuracy.value), interval(part.accuracy.ci95), remark))
    return rows


def _calibration(report: Report) -> list[Row]:
    found = report.calibration
    if found is None:
        return []
    by = "each fold's temperature" if found.temperature is None else f"{found.temperature:.3g}"
    scaled = f"log-odds divided by {by}, fitted on {count(found.n_validation_pairs, 'validation pair')}"
    answered = found.answered
    if found.threshold is None and not report.folds:
        remark = f"no confidence reached {found.target:g} on validation: always abstains"
    else:
        between = "" if answered.accuracy_ci95 is None else f" ({interval(answered.accuracy_ci95)})"
        least = "each fold's threshold" if found.threshold is None else f"{found.threshold:.3f}"
        remark = (
            f"confidence at least {least}, {found.target:g} correct on validation; here "
            f"{number(answered.accuracy)} correct{between}, n = {answered.n:,}"
        )
    return [
        ("log loss, calibrated", number(found.log_loss.after), interval(found.log_loss.ci95), scaled),
        ("Brier score, calibrated", number(found.brier.after), interval(found.brier.ci95), ""),
        ("ECE, calibrated", number(found.ece.after), interval(found.ece.ci95), ""),
        ("answered", number(answered.share), interval(answered.ci95), remark),
    ]


def _near_duplicates(report: Report) -> Table:
    near = report.near_duplicates
    caption = (
        f"{share(near.share_of_test_networks)} of the test networks have a near-duplicate in training (Jaccard "
        f"similarity of 5-token shingles at least {near.threshold:g})."
    )
    if report.answers_only:
        caption = "Unknown: the answers name no network."
    rows = [("with a near-duplicate in training", *_group(near.with_)), ("without", *_group(near.without))]
    return Table("Near-duplicates", ("test networks", *_GROUP), rows, caption)


def _per_dataset(report: Report, side: str) -> Table:
    nested = per_dataset_nested(report.per_dataset)
    groups = {dataset: Group.model_validate(sides[side]) for dataset, sides in nested.items()}
    title, caption = _SIDES[side]
    rows = [(dataset, *_group(group)) for dataset, group in groups.items()]
    spans = [
        Span(dataset, group.accuracy, group.ci95, group.prior) for dataset, group in groups.items()
        if group.accuracy is not None
    ]  # fmt: skip
    drawn = "Dots and lines are accuracies with their 95 % intervals, upright strokes the pair prior's accuracies."
    return Table(title, ("dataset", *_GROUP), rows, caption, spans=spans, spans_are=drawn)


def _epochs(report: Report) -> Table:
    marked = frozenset(i for i, epoch in enumerate(report.epochs) if epoch.epoch == report.selected_epoch)
    remark = " (reported)" if report.answers_only else " (selected)"
    rows = [
        (f"{e.epoch:g}{remark if i in marked else ''}",
         *map(number, (e.train_loss, e.validation_accuracy, e.test_accuracy)))
        for i, e in enumerate(report.epochs)
    ]  # fmt: skip
    header = ("epoch", "train loss", "validation accuracy", "test accuracy")
    caption = "The host selects no epoch." if report.answers_only else "The epoch is selected by validation."
    if report.peak_test_accuracy is not None:
        caption = f"Peak test accuracy {number(report.peak_test_accuracy)} ({report.peak_test_accuracy_is}). {caption}"
    return Table("Epochs", header, rows or [(NO_NUMBER,) * 4], caption, marked)


def _folds(report: Report) -> Table:
    rows = [
        (
            str(fold.fold), number(fold.accuracy.value), interval(fold.accuracy.ci95),
            number(fold.skill.value, sign=True), interval(fold.skill.ci95, sign=True),
            NO_NUMBER if fold.selected_epoch is None else f"{fold.selected_epoch:g}", f"{fold.accuracy.n:,}",
        )
        for fold in report.folds
    ]  # fmt: skip
    header = ("fold", "accuracy", "95 % interval", "skill", "95 % interval", "epoch", "test pairs")
    if report.held_out:
        header = ("held-out dataset", *header[1:3], "accuracy − better prior", *header[4:])
        gains = [(fold, fold.beyond) for fold in report.folds if fold.beyond is not None]
        rows = [
            (str(fold.held_out), *row[1:3], f"{number(gain.value, sign=True)} ({gain.prior})",
             interval(gain.ci95, sign=True), *row[5:])
            for row, (fold, gain) in zip(rows, gains, strict=True)
        ]  # fmt: skip
    return Table("Folds", header, rows, "Each fold's validation pairs select its epoch, temperature and threshold.")


def _run(report: Report) -> Table:
    rows = [
        ("task", report.task),
        ("prompt", report.prompt),
        *([("head", report.config["tuning"].get("head", "answer"))] if "tuning" in report.config else []),
        ("base model", report.base_model),
        ("split", report.split),
        ("training pairs", whole(report.n_train_pairs)),
        ("validation pairs", f"{report.n_validation_pairs:,}"),
        ("test pairs", f"{report.n_test_pairs:,}"),
        ("test networks", whole(report.n_test_networks)),
    ]
    for title, values in (("records", report.records), ("versions", report.versions), ("timings", report.timings)):
        for name, value in values.items():
            rows.append((f"{title}: {name}", f"{value:.1f}" if isinstance(value, float) else str(value)))
    return Table("Run", ("what", "value"), rows)


def _group(group: Group) -> tuple[str, str, str, str]:
    return number(group.accuracy), interval(group.ci95), f"{group.n:,}", number(group.prior)
