"""The pictures of a study."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nngpt_ext.study.measurement import DATASETS
from nngpt_ext.study.outcome import OVER, CellResult, Figures, Study, Verdict
from nngpt_ext.views.drawing import INK, SERIES, as_svg, figure
from nngpt_ext.views.wording import count, interval, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MARKERS, DASHES = "os^DvP", ("-", "--", "-.", ":")
_PRIOR: dict[str, Any] = {"color": INK, "lw": 1.2, "ls": (0, (2, 1)), "label": "pair prior"}
_VERDICTS: dict[Verdict, dict[str, Any]] = {
    "skill shown": {"color": SERIES[2], "marker": "o"},
    "no skill shown": {"color": INK, "marker": "o", "mfc": "none"},
    "below the prior": {"color": SERIES[1], "marker": "s"},
}


@dataclass(frozen=True)
class Picture:
    """An SVG with its caption, and in words what it shows."""

    caption: str
    alt: str
    svg: str


@dataclass(frozen=True)
class Line:
    """A cell in a picture, with a colour for its prompt, a marker and a dash for its base model."""

    cell: CellResult
    figures: Figures
    style: dict[str, Any]


Group = list[Line]


def groups(study: Study) -> list[Group]:
    """The finished cells by setting: those of one setting share their test pairs and their prior.

    Cells whose prompt contains the answer have groups of their own: beside them, all others would look alike.
    """
    prompts = list(dict.fromkeys(cell.prompt for cell in study.cells))
    bases = list(dict.fromkeys(cell.base for cell in study.cells))
    found: dict[tuple[str, bool], Group] = {}
    for cell, figures in study.finished():
        prompt, base = prompts.index(cell.prompt), bases.index(cell.base)
        style = {"color": SERIES[prompt % len(SERIES)], "marker": MARKERS[base % 6], "ls": DASHES[base % 4]}
        found.setdefault((cell.setting, cell.shows_answer), []).append(Line(cell, figures, style))
    return list(found.values())


def _picture(drawn: Figure, axes: Any, caption: str, alt: str, key: str) -> Picture:
    """The picture with a legend below the axes, where it covers nothing."""
    handles, labels = axes.get_legend_handles_labels()
    found = dict(zip(labels, handles, strict=True))  # one entry for each label
    columns = 1 if max(map(len, found), default=0) > 26 else 2
    drawn.legend(list(found.values()), list(found), loc="outside lower left", ncols=columns, handlelength=2.6)
    return Picture(caption, alt, as_svg(drawn, key))


def _of_group(drawn: Figure, axes: Any, group: Group, kind: str, words: Callable[[Figures], str]) -> Picture:
    """A group's picture; `words` says what it shows of one cell."""
    cell, figures = group[0].cell, group[0].figures
    tested = f"{count(figures.n_test_pairs, 'test pair')} of {count(figures.n_test_networks, 'network')}"
    alt = "; ".join(f"{line.cell.title}: {words(line.figures)}" for line in group)
    return _picture(drawn, axes, f"{cell.setting}: {tested}", alt, f"{kind} {cell.name}")


def _name_rows(axes: Any, names: Sequence[str], what: str) -> None:
    """Name the rows, the first of which is at the top."""
    axes.set(yticks=range(len(names)), yticklabels=names, ylim=(len(names) - 0.4, -0.6), xlabel=what)
    axes.grid(axis="y", visible=False)
    axes.tick_params(axis="y", length=0)


def skills(study: Study) -> Picture | None:
    """The skill of every cell that can show any, with its interval; None if there is no such cell."""
    from matplotlib.transforms import blended_transform_factory

    found = study.compared()
    if not found:
        return None
    settings = list(dict.fromkeys(cell.setting for cell, _ in found))
    names: list[str] = []
    with figure(0.8 + 0.2 * (len(found) + len(settings))) as (drawn, axes):
        across = blended_transform_factory(drawn.transFigure, axes.transData)
        for setting in settings:
            # A setting may be long, so it begins at the figure's edge.
            heading = axes.text(0.005, len(names), setting, transform=across, va="center", fontweight="bold")
            heading.set_in_layout(False)
            names.append("")
            for cell, figures in found:
                if cell.setting == setting and cell.verdict is not None:
                    style = _VERDICTS[cell.verdict]
                    axes.hlines(len(names), *figures.skill.ci95, color=style["color"], lw=1.6)
                    axes.plot([figures.skill.value], [len(names)], ls="", ms=5, label=cell.verdict, **style)
                    names.append(cell.title if len(cell.title) <= 32 else f"…{cell.title[-31:]}")
        axes.axvline(0, color=INK, lw=1, ls="--")
        _name_rows(axes, names, "skill: accuracy minus pair prior")
        axes.spines["left"].set_visible(False)
        alt = "; ".join(
            f"{cell.title}, {cell.setting}: {number(f.skill.value, sign=True)} ({interval(f.skill.ci95, sign=True)})"
            for cell, f in found
        )
        caption = f"Skill of {count(len(found), 'cell')} over the pair prior, with 95 % intervals over {OVER}"
        return _picture(drawn, axes, caption, alt, "skills")


def datasets(group: Group) -> Picture:
    """Accuracy on the pairs that involve each dataset, with intervals, beside the prior on the same pairs."""

    def words(figures: Figures) -> str:
        own = figures.slices[DATASETS]
        return ", ".join(f"{part.name} {number(part.accuracy)} (prior {number(part.prior)})" for part in own)

    parts = group[0].figures.slices[DATASETS]
    with figure(0.9 + len(parts) * max(0.3, 0.08 * len(group))) as (drawn, axes):
        for i, line in enumerate(group):
            shift = 0.7 * ((i + 0.5) / len(group) - 0.5)  # the cells' points stand below one another
            known = [(row + shift, part) for row, part in enumerate(line.figures.slices[DATASETS]) if part.n]
            for row, part in known:
                axes.hlines(row, *(part.ci95 or [part.accuracy] * 2), color=line.style["color"], lw=1)
            points = [part.accuracy for _, part in known], [row for row, _ in known]
            axes.plot(*points, ms=3.5, label=line.cell.title, **line.style | {"ls": ""})
        rows = [row for row, part in enumerate(parts) if part.n]
        ends = [row - 0.42 for row in rows], [row + 0.42 for row in rows]
        axes.vlines([parts[row].prior for row in rows], *ends, **_PRIOR | {"ls": "-", "lw": 1.8})
        _name_rows(axes, [part.name for part in parts], "accuracy")
        return _of_group(drawn, axes, group, "datasets", words)


def epochs(group: Group) -> Picture | None:
    """Test accuracy after each epoch; None if no cell was tested after two epochs or more."""

    def points(figures: Figures) -> list[tuple[float, float]]:
        return [(e.epoch, e.test_accuracy) for e in figures.epochs if e.test_accuracy is not None]

    def words(figures: Figures) -> str:
        return ", ".join(f"{value:.3f} after epoch {epoch:g}" for epoch, value in points(figures))

    if all(len(points(line.figures)) < 2 for line in group):
        return None
    with figure(2.9) as (drawn, axes):
        for line in group:
            tested = points(line.figures)
            axes.plot(*zip(*tested, strict=True), mfc="none", ms=4, label=line.cell.title, **line.style)
            selected = [point for point in tested if point[0] == line.figures.selected_epoch]
            axes.plot(*zip(*selected, strict=True), ms=6, **line.style)
        axes.axhline(group[0].figures.prior, **_PRIOR)
        axes.set(xlabel="epoch", ylabel="test accuracy")
        axes.xaxis.get_major_locator().set_params(integer=True)
        return _of_group(drawn, axes, group, "epochs", words)


def reliability(group: Group) -> Picture:
    """How often dataset 1 wins at each probability of it, calibrated where there is a calibration."""

    def words(figures: Figures) -> str:
        return f"calibration error {number(figures.ece)} as trained, {number(figures.ece_calibrated)} calibrated"

    with figure(3.2) as (drawn, axes):
        axes.plot([0, 1], [0, 1], **_PRIOR | {"label": "perfectly calibrated"})
        for line in group:
            bins = line.figures.reliability_calibrated or line.figures.reliability
            points = [one.probability for one in bins], [one.share for one in bins]
            axes.plot(*points, ms=3, label=line.cell.title, **line.style)
        axes.set(xlabel="probability of dataset 1", ylabel="share of pairs that it wins")
        return _of_group(drawn, axes, group, "reliability", words)


def coverage(group: Group) -> Picture:
    """Accuracy among the most confident answers, and the pair prior's by its own confidence."""

    def words(figures: Figures) -> str:
        half = min(figures.coverage, key=lambda point: abs(point.coverage - 0.5))
        return f"{half.accuracy:.3f} at {half.coverage:.0%} coverage, {figures.accuracy.value:.3f} at 100%"

    with figure(2.9) as (drawn, axes):
        for line in group:
            points = line.figures.coverage
            axes.plot(
                *zip(*map(astuple, points), strict=True), markevery=len(points), label=line.cell.title, **line.style
            )
        axes.plot(*zip(*map(astuple, group[0].figures.coverage_prior), strict=True), marker=".", ms=3, **_PRIOR)
        axes.set(xlabel="share of pairs answered, the most confident first", ylabel="accuracy among them")
        return _of_group(drawn, axes, group, "coverage", words)


def price(study: Study, level: str) -> Picture:
    """Accuracy before and after training for some epochs, beside the end, where the answer is known."""
    points = study.priced()[level]
    spent = sorted({point.spent for point in points})
    at = {share: float(place) for place, share in enumerate(spent)}
    knows = {p.spent: p.knows.replace(" on ", "\non ") for p in points} | {0.0: "nothing\ntrained"}
    lines = {
        "the higher accuracy so far": ("early_rule",),
        "the same with recipe and structure": ("bt_recipe_structure", "bt_all"),
    }
    priors = [p for p in points if p.baseline == p.beyond.prior]
    with figure(3.6) as (drawn, axes):
        axes.axhline(priors[0].accuracy.value, **_PRIOR | {"label": "the usual winner, without a look at the network"})
        for i, (name, baselines) in enumerate(lines.items()):
            own = [point for point in points if point.baseline in baselines]
            style = {"color": SERIES[1 - i], "marker": "so"[i]}
            places = [at[point.spent] + 0.06 * i for point in own]
            for x, point in zip(places, own, strict=True):
                axes.vlines(x, *point.accuracy.ci95, color=style["color"], lw=1.2)
            axes.plot(places, [point.accuracy.value for point in own], ms=5, lw=1.2, label=name, **style)
        cells = [
            (cell, found) for cell, found in study.compared()
            if cell.family_level == level and cell.spent is not None and cell.label == "normalized"
        ]  # fmt: skip
        for i, (cell, found) in enumerate(cells):
            x, colour = float(np.interp(cell.spent or 0.0, spent, list(at.values()))) - 0.08, SERIES[2 + i % 5]
            axes.vlines(x, *found.accuracy.ci95, color=colour, lw=1.2)
            axes.plot(x, found.accuracy.value, color=colour, marker="^", ms=6, ls="", label=cell.title)
        axes.plot(len(at), 1.0, color=INK, marker="*", ms=9, ls="")
        axes.set_xticks(
            range(len(at) + 1), [*(f"{knows[share]}\n{share:.0%}" for share in spent), "both to\nthe end\n100%"]
        )
        axes.set(
            xlabel="share of both trainings that is paid", ylabel="pairs answered correctly", xlim=(-0.4, len(at) + 0.4)
        )
        axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}")
        axes.grid(axis="x", visible=False)
        alt = "; ".join(f"{p.knows}, {p.baseline}: {p.accuracy.value:.3f} at {p.spent:.0%}" for p in points)
        pairs = f"{count(points[0].accuracy.n, 'pair')} of {points[0].families:,} families"
        caption = f"by_family {level}: {pairs}, with 95 % intervals over families"
        return _picture(drawn, axes, caption, alt, f"price {level}")


def learning_curve(study: Study) -> Picture | None:
    """Accuracy over the number of training networks: the baselines, and the cells tested on the same pairs."""
    lines: dict[str, list[tuple[int, float, Sequence[float]]]] = {}
    for point in study.learning_curve:
        for name, value in point.accuracy.items():
            lines.setdefault(name.replace("_", " "), []).append((point.networks, value, point.ci95.get(name, ())))
    n_baselines, usual = len(lines), ("by_network", "normalized", "best", None, 0)
    for cell, found in study.compared():
        is_usual = (cell.split, cell.label, cell.tested_on, cell.tag, cell.seed) == usual
        if is_usual and found.n_train_networks is not None:
            line = (found.n_train_networks, found.accuracy.value, found.accuracy.ci95)
            lines.setdefault(cell.title, []).append(line)
    if not lines:
        return None
    with figure(3.4) as (drawn, axes):
        for i, (name, points) in enumerate(lines.items()):
            is_baseline = i < n_baselines
            colour = INK if is_baseline else SERIES[(i - n_baselines) % len(SERIES)]
            points.sort()
            # Points at the same number of networks stand a little beside each other.
            at = [n * 1.025 ** (i - len(lines) / 2) for n, *_ in points]
            values, dash = [value for _, value, _ in points], DASHES[i % 4] if is_baseline else "-"
            axes.plot(at, values, color=colour, marker=MARKERS[i % 6], ms=4, lw=1.2, ls=dash, label=name)
            for x, (_, _, ci95) in zip(at, points, strict=True):
                if ci95:
                    axes.vlines(x, *ci95, color=colour, lw=0.8)
        ticks = sorted({n for points in lines.values() for n, *_ in points})
        axes.set_xscale("log")
        axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="training networks", ylabel="test accuracy")
        alt = "; ".join(
            f"{name}: {', '.join(f'{value:.3f} after {n:,}' for n, value, _ in points)}"
            for name, points in lines.items()
        )
        caption = "Split by_network, normalized label, with 95 % intervals"
        return _picture(drawn, axes, caption, alt, "learning curve")
