"""The one description of what a report shows; markdown.py, terminal.py and page.py only lay it out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from nngpt_ext.evaluation.baselines import BASELINES
from nngpt_ext.evaluation.figures import PAPERS_WAY, SIDES, Group, Report
from nngpt_ext.evaluation.wording import NO_NUMBER, count, interval, number, p_value, share, whole

_SIDES = {
    "involving": ("Per dataset: pairs that have it", "Pairs with the dataset on either side."),
    "as_answer": ("Per dataset: pairs it wins", "Pairs whose right answer is the dataset."),
}


class Table(NamedTuple):
    """A title, a header and rows of as many cells; one column alone is a list. `marked`: rows to stress."""

    title: str
    header: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    caption: str = ""
    marked: frozenset[int] = frozenset()

    @property
    def is_list(self) -> bool:
        return len(self.header) == 1


def summary(report: Report) -> str:
    """What was measured, and whether skill is clear of zero, in one plain sentence."""
    if report.answers_only:
        return _answers_summary(report)
    unseen = "" if report.split == "random_pairs" else " that training never saw"
    skill = report.skill
    # One network has no spread: its interval is a point, and says nothing about others.
    if not skill.clear_of_zero or (report.n_test_networks or 0) < 2:
        verdict = "is not clear of zero"
    else:
        verdict = "is clear of zero" if skill.value > 0 else "is clear of zero, but below it"
    return (
        f"With the prompt {report.prompt} and the base model {report.base_model}, split {report.split}, "
        f"{share(report.accuracy.value)} of {count(report.n_test_pairs, 'test pair')} of "
        f"{count(report.n_test_networks or 0, 'network')}{unseen} were answered rightly, and the skill over "
        f"the pair prior, {skill.value:+.3f} (95 % interval {interval(skill.ci95, sign=True)}), {verdict}."
    )


def _answers_summary(report: Report) -> str:
    epoch = "" if report.selected_epoch is None else f" of epoch {report.selected_epoch:g}"
    return (
        f"Of {count(report.n_test_pairs, 'answer')}{epoch} that {report.base_model} gave and judged itself, "
        f"{share(report.accuracy.value)} are right: {report.skill.value:+.3f} against the pair prior "
        f"(95 % interval {interval(report.skill.ci95, sign=True)}, as if each answer were of a network of its own). "
        "The rows include those that it trains on, so this says nothing about networks that training never saw."
    )


def tables(report: Report) -> list[Table]:
    """All tables of a report, in the order in which they are shown."""
    excluded = [(reason, f"{n:,}") for reason, n in report.excluded.items()]
    notes = [Table("Notes", ("note",), [(note,) for note in report.notes])] if report.notes else []
    return [
        headline(report),
        *notes,
        _near_duplicates(report),
        *(per_dataset(report, side) for side in SIDES),
        _epochs(report),
        Table("Excluded trials", ("reason", "trials"), excluded or [("none", "0")]),
        _run(report),
    ]


def headline(report: Report) -> Table:
    """Accuracy, skill, baselines and the quality of the probabilities."""
    left_out = report.within_pair_auc_left_out
    auc_remark = "telling networks apart inside a dataset pair; 0.5 without a look at the network"
    if left_out.pairs:
        auc_remark += (
            f"; left out, having one answer only: {count(left_out.pairs, 'dataset pair')} "
            f"({count(left_out.rows, 'row')})"
        )
    prior_loss = report.baselines["pair_prior"].log_loss
    rows = [
        (
            "accuracy",
            number(report.accuracy.value),
            interval(report.accuracy.ci95),
            f"n = {report.accuracy.n:,}",
        ),
        _baseline(report, "pair_prior"),
        (
            "skill",
            f"{report.skill.value:+.3f}",
            interval(report.skill.ci95, sign=True),
            f"accuracy − pair prior; {p_value(report.skill)}",
        ),
        *(_baseline(report, name) for name in report.baselines if name != "pair_prior"),
        ("log loss", number(report.log_loss), NO_NUMBER, f"nats; pair prior {number(prior_loss)}"),
        ("Brier score", number(report.brier), NO_NUMBER, "0 is best; 0.25 for always 0.5"),
        ("ECE", number(report.ece), NO_NUMBER, "calibration error, 15 equal-mass bins"),
        ("flip rate", number(report.flip_rate), NO_NUMBER, "the two orders of the datasets disagree"),
        ("within-pair AUC", number(report.within_pair_auc), NO_NUMBER, auc_remark),
    ]
    caption = (
        f"{count(report.n_test_pairs, 'test pair')} of {count(report.n_test_networks or 0, 'network')}. "
        "Means are over pairs; intervals are 95 %, from 2,000 bootstrap draws of networks."
    )
    if report.answers_only:
        caption = (
            f"{count(report.n_test_pairs, 'answer')}; their networks are not known. Means are over answers; "
            "intervals are 95 %, from 2,000 bootstrap draws of answers. A dash: texts have no probability, and name no "
            "network."
        )
    rows += _calibration(report)
    return Table("Headline", ("measure", "value", "95 % interval", "remark"), rows, caption)


def _calibration(report: Report) -> list[tuple[str, ...]]:
    found = report.calibration
    if found is None:
        return []
    scaled = (
        f"log-odds divided by {found.temperature:.3g}, fitted on {count(found.n_validation_pairs, 'validation pair')}"
    )
    answered = found.answered
    if found.threshold is None:
        remark = f"no confidence reached {found.target:g} on validation: always abstains"
    else:
        remark = f"confidence at least {found.threshold:.3f}, {found.target:g} right on validation; here "
        between = "" if answered.accuracy_ci95 is None else f" ({interval(answered.accuracy_ci95)})"
        remark += f"{number(answered.accuracy)} right{between}, n = {answered.n:,}"
    rows = [
        ("log loss, calibrated", found.log_loss.after, found.log_loss.ci95, scaled),
        ("Brier score, calibrated", found.brier.after, found.brier.ci95, ""),
        ("ECE, calibrated", found.ece.after, found.ece.ci95, ""),
        ("answered", answered.share, answered.ci95, remark),
    ]
    return [(name, number(value), interval(ci95), text) for name, value, ci95, text in rows]


def _baseline(report: Report, name: str) -> tuple[str, ...]:
    baseline = report.baselines[name]
    remark = BASELINES[name].description if name in BASELINES else ""
    if name != "pair_prior" and baseline.difference is not None:
        gain = baseline.difference
        remark += f"; accuracy − this {gain.value:+.3f} ({interval(gain.ci95, sign=True)}), {p_value(gain)}"
    return (
        "pair prior" if name == "pair_prior" else name,
        number(baseline.accuracy),
        interval(baseline.ci95),
        remark.removeprefix("; "),
    )


def _near_duplicates(report: Report) -> Table:
    near = report.near_duplicates
    return Table(
        "Near-duplicates apart",
        ("test networks", "accuracy", "95 % interval", "n", "prior"),
        [
            ("with a near-duplicate in training", *_group(near.with_)),
            ("without", *_group(near.without)),
        ],
        "Unknown: the answers name no network."
        if report.answers_only
        else f"{share(near.share_of_test_networks)} of the test networks have a near-duplicate in training "
        f"(Jaccard similarity of 5-token shingles at least {near.threshold:g}).",
    )


def per_dataset(report: Report, side: str) -> Table:
    """Accuracy on each dataset; `side` is one of `SIDES`."""
    table = report.per_dataset
    rows = []
    for dataset, row in zip(table.index, table.to_dict("records"), strict=True):
        group = {name: row[f"{side}_{name}"] for name in ("accuracy", "low", "high", "n", "prior")}
        ci95 = (group["low"], group["high"]) if group["n"] else None
        cells = Group(accuracy=group["accuracy"], ci95=ci95, prior=group["prior"], n=group["n"])
        rows.append((str(dataset), *_group(cells)))
    title, caption = _SIDES[side]
    return Table(title, ("dataset", "accuracy", "95 % interval", "n", "prior"), rows, caption)


def _epochs(report: Report) -> Table:
    rows, marked = [], set()
    for i, epoch in enumerate(report.epochs):
        selected = epoch.epoch == report.selected_epoch
        if selected:
            marked.add(i)
        rows.append(
            (
                f"{epoch.epoch:g}" + (f" ({'reported' if report.answers_only else 'selected'})" if selected else ""),
                number(epoch.train_loss),
                number(epoch.validation_accuracy),
                number(epoch.test_accuracy),
            )
        )
    header = ("epoch", "train loss", "validation accuracy", "test accuracy")
    peak = f"Peak test accuracy {number(report.peak_test_accuracy)} ({PAPERS_WAY}). "
    caption = (peak if report.peak_test_accuracy is not None else "") + (
        "The host selects no epoch." if report.answers_only else "The epoch is selected by validation."
    )
    return Table("Epochs", header, rows or [(NO_NUMBER,) * 4], caption, frozenset(marked))


def _run(report: Report) -> Table:
    rows = [
        ("task", report.task),
        ("prompt", report.prompt),
        ("base model", report.base_model),
        ("split", report.split),
        ("training pairs", whole(report.n_train_pairs)),
        ("validation pairs", f"{report.n_validation_pairs:,}"),
        ("test pairs", f"{report.n_test_pairs:,}"),
        ("test networks", whole(report.n_test_networks)),
        *_flat("versions", report.versions),
        *_flat("timings", report.timings),
    ]
    return Table("Run", ("what", "value"), rows)


def _flat(prefix: str, values: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (f"{prefix}: {name}", f"{value:.1f}" if isinstance(value, float) else str(value))
        for name, value in values.items()
    ]


def _group(group: Group) -> tuple[str, str, str, str]:
    return number(group.accuracy), interval(group.ci95), f"{group.n:,}", number(group.prior)
