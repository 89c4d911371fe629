"""The pictures of a study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nngpt_ext.evaluation.wording import number
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
    check_matplotlib,
    figure,
    legend,
    picture,
)
from nngpt_ext.study.schema import CellResult, Figures, Part, Study
from nngpt_ext.study.words import finished, full_name, is_usual, setting

__all__ = ["bars", "check_matplotlib", "coverage", "epoch_curves", "heat_map", "learning_curve", "reliability"]

_FULL = 0.25  # a difference from the prior that is drawn in full colour
_ROOM = 0.1
Found = Sequence[tuple[CellResult, Figures]]


def epoch_curves(cells: Found, key: str) -> Picture | None:
    """Test accuracy after each epoch, a line a prompt, with the pair prior; the selected epoch is filled.

    All cells have one setting and one base, so that the prior is one. None where no epoch was tested.
    """
    shown = [(c, f, [e for e in f.epochs if e.test_accuracy is not None]) for c, f in cells]
    shown = [(c, f, tested) for c, f, tested in shown if tested]
    if not shown:
        return None
    prior = shown[0][1].prior.value
    with figure(3.1) as (drawn, axes):
        for i, (cell, found, tested) in enumerate(shown):
            at, values = [e.epoch for e in tested], [e.test_accuracy for e in tested]
            colour, marker = SERIES[i % 6], MARKERS[i % 6]
            axes.plot(at, values, color=colour, ls=DASHES[i % 6], marker=marker, mfc=PAGE, ms=4.5, label=cell.prompt)
            chosen = [(a, v) for a, v in zip(at, values, strict=True) if a == found.selected_epoch]
            axes.plot([a for a, _ in chosen], [v for _, v in chosen], color=colour, marker=marker, ms=6.5, ls="")
        axes.axhline(prior, color=TEXT, lw=1, ls="--", label=f"pair prior {prior:.3f}")
        axes.set(xlabel="epoch", ylabel="test accuracy")
        epochs = sorted({e.epoch for _, _, tested in shown for e in tested})
        axes.set(xticks=epochs, xlim=(min(epochs) - 0.3, max(epochs) + 0.3))
        _roomy(axes)
        legend(drawn, axes)
        words = "; ".join(
            f"{cell.prompt}: {', '.join(f'{number(e.test_accuracy)} after epoch {e.epoch:g}' for e in tested)}"
            for cell, _, tested in shown
        )
        title = f"Test accuracy by epoch: {shown[0][0].base}, {setting(shown[0][0])}"
        return picture(drawn, key, title, f"Lines, one a prompt, beside the pair prior at {prior:.3f}. {words}.")


def bars(cell: CellResult, found: Figures, key: str) -> Picture:
    """Accuracy per dataset with intervals, and the prior on the same pairs as a mark."""
    sides = (("pairs it wins", found.as_answer), ("pairs that involve it", found.involving))
    names = [part.name for part in found.involving]
    with figure(0.9 + 0.27 * len(names), columns=2, sharey=True) as (drawn, both):
        for axes, (title, parts) in zip(both, sides, strict=True):
            known = [(i, part) for i, part in enumerate(parts) if part.accuracy is not None]
            where = [i for i, _ in known]
            axes.barh(where, [p.accuracy for _, p in known], height=0.62, color=SERIES[0], alpha=0.55, label="accuracy")
            axes.hlines(
                where, [(p.ci95 or (0, 0))[0] for _, p in known], [(p.ci95 or (0, 0))[1] for _, p in known],
                color=TEXT, lw=1.2, label="95 % interval",
            )  # fmt: skip
            priors = [p.prior for _, p in known]
            axes.plot(priors, where, ls="", marker="D", ms=5, mfc=PAGE, mec=TEXT, label="pair prior")
            axes.set(
                xlim=(0, 1.03),
                xticks=(0, 0.5, 1),
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
        return picture(drawn, key, f"Per dataset: {full_name(cell)}", alt)


def heat_map(cell: CellResult, found: Figures, key: str) -> Picture:
    """Accuracy minus prior of each pair of datasets, with the number of test pairs."""
    from matplotlib.patches import Rectangle

    names = sorted({name for part in found.pairs for name in (part.dataset_1, part.dataset_2)})
    n = len(names)
    with figure(1.1 + 0.44 * n) as (drawn, axes):
        for part in found.pairs:
            column, row = names.index(part.dataset_1), names.index(part.dataset_2)
            gain = part.gain or 0.0
            for x, y in ((column, row), (row, column)):
                colour = ABOVE if gain > 0 else BELOW
                strength = min(1.0, abs(gain) / _FULL) * 0.75
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=colour, alpha=strength, lw=0))
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor=LINE, lw=0.5))
                axes.text(x, y - 0.02, f"{gain:+.2f}", ha="center", va="bottom", fontsize=7.5, color=TEXT)
                axes.text(x, y + 0.1, f"{part.n:,}", ha="center", va="top", fontsize=6.5, color=TEXT)
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
        return picture(drawn, key, f"Accuracy minus prior, and test pairs: {full_name(cell)}", alt)


def reliability(cell: CellResult, found: Figures, key: str) -> Picture:
    """How often dataset_1 wins at each probability that is given for it, before and after calibration."""
    with figure(3.3) as (drawn, axes):
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
        return picture(drawn, key, f"Reliability: {full_name(cell)}", alt)


def coverage(cells: Found, key: str) -> Picture:
    """Accuracy among the surest answers, a line a prompt; all cells have one setting and one base."""
    with figure(3.1) as (drawn, axes):
        for i, (cell, found) in enumerate(cells):
            at, values = [p.coverage for p in found.coverage], [p.accuracy for p in found.coverage]
            axes.plot(at, values, color=SERIES[i % 6], ls=DASHES[i % 6], label=cell.prompt, **_single(at, i))
        prior = cells[0][1].prior.value
        axes.axhline(prior, color=TEXT, lw=1, ls="--", label=f"pair prior on all pairs {prior:.3f}")
        axes.set(xlim=(0, 1.02), xlabel="share of pairs answered, the surest first", ylabel="accuracy among them")
        legend(drawn, axes)
        words = "; ".join(f"{cell.prompt}: {_some(found)}" for cell, found in cells)
        _roomy(axes)
        title = f"Accuracy against coverage: {cells[0][0].base}, {setting(cells[0][0])}"
        return picture(drawn, key, title, f"Lines, one a prompt. {words}.")


def learning_curve(study: Study, key: str) -> Picture | None:
    """Accuracy over the number of training networks: the baselines, and the cells under by_network."""
    points = study.learning_curve
    cells = [(c, f) for c, f in finished(study.cells) if is_usual(c) and c.tag is None and c.seed == 0]
    groups: dict[str, list[tuple[int, float]]] = {}
    for cell, found in cells:
        groups.setdefault(f"{cell.prompt}, {cell.base}", []).append((found.n_train_networks, found.accuracy.value))
    if not points and not groups:
        return None
    with figure(3.9) as (drawn, axes):
        names = (
            ("pair_prior", "pair prior"),
            ("code_gbm", "trees on the source"),
            ("recipe_gbm", "trees on the recipes"),
        )
        for (name, label), ls in zip(names, ("--", ":", "-."), strict=True):
            line = [(p.networks, p.accuracy[name]) for p in points if name in p.accuracy]
            axes.plot(*_columns(line), color=TEXT, lw=1.2, ls=ls, label=label)
        for i, (label, line) in enumerate(groups.items()):
            colour, marker = SERIES[i % 6], MARKERS[(i + i // 6) % 6]
            axes.plot(*_columns(sorted(line)), color=colour, marker=marker, ls=DASHES[i % 6], ms=5.5, label=label)
        axes.set_xscale("log")
        ticks = sorted({*(p.networks for p in points), *(n for line in groups.values() for n, _ in line)})
        ticks = [n for i, n in enumerate(ticks) if i == 0 or n >= 1.3 * ticks[i - 1]]
        axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
        axes.set_xticks([], minor=True)
        axes.set(xlabel="training networks", ylabel="test accuracy")
        _roomy(axes)
        legend(drawn, axes)
        base = "; ".join(f"{p.networks:,} networks: prior {number(p.accuracy.get('pair_prior'))}" for p in points)
        own = "; ".join(
            f"{name}: {', '.join(f'{v:.3f} after {n:,}' for n, v in line)}" for name, line in groups.items()
        )
        return picture(drawn, key, "Learning curve, by_network, normalized label", f"Lines. {base}. {own}.")


def _roomy(axes: Any) -> None:
    """At least `_ROOM` of accuracy from bottom to top: what differs little shall look so."""
    low, high = axes.get_ylim()
    if high - low < _ROOM:
        middle = (low + high) / 2
        axes.set_ylim(middle - _ROOM / 2, middle + _ROOM / 2)


def _columns(line: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in line], [y for _, y in line]


def _single(at: Sequence[float], i: int) -> dict[str, Any]:
    """A lone point is no line: it gets a marker."""
    return {"marker": MARKERS[i % 6], "ms": 5} if len(at) == 1 else {}


def _against(part: Part) -> str:
    return f"{number(part.accuracy)} (prior {number(part.prior)}, n = {part.n:,})"


def _some(found: Figures) -> str:
    last = found.coverage[-1]
    half = min(found.coverage, key=lambda point: abs(point.coverage - 0.5))
    return f"{half.accuracy:.3f} at {half.coverage:.0%} coverage, {last.accuracy:.3f} at {last.coverage:.0%}"
