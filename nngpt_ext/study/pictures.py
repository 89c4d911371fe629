"""The pictures of one cell, and the one of all cells' skill."""

from __future__ import annotations

from typing import Any

from nngpt_ext.evaluation.wording import interval, number
from nngpt_ext.study.canvas import (
    ABOVE,
    BELOW,
    DASHES,
    LINE,
    MARKERS,
    PAGE,
    SERIES,
    SOFT,
    TEXT,
    Picture,
    figure,
    legend,
    picture,
)
from nngpt_ext.study.schema import CellResult, Figures, Part, Study
from nngpt_ext.study.words import full_name, judged, setting, tested, verdict

_LABEL = 32  # letters beside a cell's skill: a path of somebody's own prompt would leave no room for the picture
_FULL = 0.25  # a difference from the prior that is drawn in full colour


def skills(study: Study, key: str) -> Picture | None:
    """The skill of every cell that can tell, with its interval, beside none; None where there is no such cell."""
    from matplotlib.transforms import blended_transform_factory

    found = judged(study.cells)
    if not found:
        return None
    styles: dict[str, dict[str, Any]] = {
        "beats the prior": {"color": ABOVE, "marker": "o", "mfc": ABOVE, "label": "beats the prior"},
        "is not told apart from the prior": {"color": SOFT, "marker": "o", "mfc": PAGE, "label": "not told apart"},
        "is below the prior": {"color": BELOW, "marker": "s", "mfc": BELOW, "label": "below the prior"},
    }
    groups: dict[str, list[tuple[CellResult, Figures]]] = {}
    for cell, figures in found:
        groups.setdefault(setting(cell), []).append((cell, figures))
    names: list[str] = []
    with figure(0.8 + 0.2 * (len(found) + len(groups))) as (drawn, axes):
        for group, cells in groups.items():
            heading = axes.text(  # from the figure's edge on: it may be long
                0.005, len(names), group, transform=blended_transform_factory(drawn.transFigure, axes.transData),
                va="center", fontweight="bold", bbox={"facecolor": PAGE, "edgecolor": "none", "pad": 1},
            )  # fmt: skip
            heading.set_in_layout(False)
            names.append("")
            for cell, figures in cells:
                style = styles[verdict(figures, len(found))]
                axes.hlines(len(names), *figures.skill.ci95, color=style["color"], lw=1.6)
                axes.plot([figures.skill.value], [len(names)], ls="", ms=5, **style)
                name = f"{cell.prompt}, {cell.base}" + (f", seed {cell.seed}" if cell.seed else "")
                names.append(name if len(name) <= _LABEL else f"…{name[1 - _LABEL :]}")
        axes.axvline(0, color=TEXT, lw=1, ls="--")
        axes.set(yticks=range(len(names)), ylim=(len(names) - 0.4, -0.6), xlabel="skill: accuracy minus prior")
        axes.set_yticklabels(names)
        axes.locator_params(axis="x", nbins=5)
        axes.grid(axis="y", visible=False)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        legend(drawn, axes, 3)
        words = "; ".join(
            f"{full_name(cell)}: {number(f.skill.value, sign=True)} ({interval(f.skill.ci95, sign=True)})"
            for cell, f in found
        )
        return picture(
            drawn, key, "Skill over the pair prior with its 95 % interval over networks", f"Points. {words}."
        )


def bars(cell: CellResult, found: Figures, key: str) -> Picture:
    """Accuracy per dataset with intervals, and the prior on the same pairs as a mark."""
    sides = (("pairs it wins", found.as_answer), ("pairs that involve it", found.involving))
    names = [part.name for part in found.involving]
    with figure(0.95 + 0.25 * len(names), columns=2, sharey=True) as (drawn, both):
        for axes, (title, parts) in zip(both, sides, strict=True):
            known = [(i, part) for i, part in enumerate(parts) if part.accuracy is not None]
            where = [i for i, _ in known]
            axes.barh(where, [p.accuracy for _, p in known], height=0.62, color=SERIES[0], alpha=0.55, label="accuracy")
            sure = [(i, *part.ci95) for i, part in known if part.ci95 is not None]
            if sure:
                axes.hlines(*zip(*sure, strict=True), color=TEXT, lw=1.2, label="95 % interval")
            priors = [p.prior for _, p in known]
            axes.plot(priors, where, ls="", marker="D", ms=5, mfc=PAGE, mec=TEXT, label="pair prior")
            axes.set(
                xlim=(0, 1.03),
                xticks=(0, 0.5, 1),
                xticklabels=("0", "0.5", "1"),
                yticks=range(len(names)),
                yticklabels=names,
                xlabel="accuracy",
                title=title,
            )
            axes.grid(axis="y", visible=False)
        both[0].invert_yaxis()
        legend(drawn, both[0], 3)
        words = "; ".join(f"{p.name} {_against(p)}" for p in found.involving)
        alt = f"Bars. Pairs that involve each dataset: {words}. The tables of this section have all numbers."
        title = f"Accuracy per dataset: {full_name(cell)}; {tested(found)}"
        return picture(drawn, key, title, alt)


def heat_map(cell: CellResult, found: Figures, key: str) -> Picture:
    """Accuracy minus prior of each pair of datasets, with the number of test pairs; bold where it is clear of zero."""
    from matplotlib.patches import Rectangle

    names = sorted({name for part in found.pairs for name in (part.dataset_1, part.dataset_2)})
    n = len(names)
    with figure(0.9 + 0.42 * n) as (drawn, axes):
        for part in found.pairs:
            column, row = names.index(part.dataset_1), names.index(part.dataset_2)
            gain = part.gain or 0.0
            for x, y in ((column, row), (row, column)):
                colour = ABOVE if gain > 0 else BELOW
                strength = min(1.0, abs(gain) / _FULL) * 0.75
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=strength, lw=0))
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=LINE, lw=0.5))
                weight = "bold" if _clear(part) else "normal"
                axes.text(x, y, f"{gain:+.2f}", ha="center", va="bottom", fontsize=8, color=TEXT, fontweight=weight)
                axes.text(x, y + 0.1, f"{part.n:,}", ha="center", va="top", fontsize=7, color=TEXT)
        axes.set(xlim=(-0.5, n - 0.5), ylim=(n - 0.5, -0.5), xticks=range(n), yticks=range(n), yticklabels=names)
        axes.set_xticklabels(names, rotation=35, ha="right", rotation_mode="anchor")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        for side in axes.spines.values():
            side.set_visible(False)
        known = [part for part in found.pairs if part.gain is not None]
        best, worst = max(known, key=lambda p: p.gain or 0.0), min(known, key=lambda p: p.gain or 0.0)
        alt = (
            f"A square for each two datasets. Largest difference from the prior: {best.name} {best.gain:+.3f} on "
            f"{best.n:,} pairs; smallest: {worst.name} {worst.gain:+.3f} on {worst.n:,}. The table has all."
        )
        title = (
            f"Accuracy minus prior, and below it the number of test pairs: {full_name(cell)}; {tested(found)}. Bold: "
            "its own 95 % interval is clear of zero, as that of one in twenty is by chance."
        )
        return picture(drawn, key, title, alt)


def reliability(cell: CellResult, found: Figures, key: str) -> Picture:
    """How often dataset_1 wins at each probability that is given for it, before and after calibration."""
    with figure(3.0) as (drawn, axes):
        axes.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--", label="as it should be")
        sides: list[tuple[str, Any, float | None]] = [
            ("as trained", found.reliability, found.ece),
            ("calibrated", found.reliability_calibrated, found.ece_calibrated),
        ]
        for i, (name, bins, error) in enumerate(sides):
            if bins:
                axes.plot(
                    [b.probability for b in bins], [b.share for b in bins], color=SERIES[i], ls=DASHES[i],
                    marker=MARKERS[i], ms=4, label=f"{name}: ECE {number(error)}",
                )  # fmt: skip
        axes.set(
            xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), xlabel="probability given to dataset 1", ylabel="share it wins"
        )
        legend(drawn, axes)
        alt = (
            f"Reliability diagram of {sum(b.n for b in found.reliability):,} test pairs in {len(found.reliability)} "
            f"bins of like size. Expected calibration error {number(found.ece)} as trained, "
            f"{number(found.ece_calibrated)} calibrated."
        )
        return picture(drawn, key, f"Reliability: {full_name(cell)}; {tested(found)}", alt)


def _against(part: Part) -> str:
    return f"{number(part.accuracy)} (prior {number(part.prior)}, n = {part.n:,})"


def _clear(part: Part) -> bool:
    return part.gain_ci95 is not None and (part.gain_ci95[0] > 0 or part.gain_ci95[1] < 0)
