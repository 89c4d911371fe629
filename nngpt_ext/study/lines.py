"""The pictures that are lines: over epochs, over coverage, over the number of training networks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nngpt_ext.evaluation.wording import number
from nngpt_ext.study.canvas import DASHES, MARKERS, PAGE, SERIES, TEXT, Picture, figure, legend, picture
from nngpt_ext.study.schema import CellResult, Figures, Study
from nngpt_ext.study.tables import BASELINES
from nngpt_ext.study.words import finished, is_usual, setting, shows_the_answer, tested

_ROOM = 0.1
Found = Sequence[tuple[CellResult, Figures]]


def epoch_curves(cells: Found, key: str) -> Picture | None:
    """Test accuracy after each epoch, a line a prompt, with the pair prior; the selected epoch has its interval.

    All cells have one setting, base and seed, so that the prior is one. None where no cell was tested twice: that
    is no curve.
    """
    known = [(c, f, [e for e in f.epochs if e.test_accuracy is not None]) for c, f in cells]
    shown = [(c, f, points) for c, f, points in known if points]
    if all(len(points) < 2 for _, _, points in shown):
        return None
    first, figures, _ = shown[0]
    with figure(2.9) as (drawn, axes):
        for i, (cell, found, points) in enumerate(shown):
            at, values = [e.epoch for e in points], [e.test_accuracy for e in points]
            colour, marker = SERIES[i % 6], MARKERS[i % 6]
            axes.plot(at, values, color=colour, ls=DASHES[i % 6], marker=marker, mfc=PAGE, ms=4, label=cell.prompt)
            for epoch, value in zip(at, values, strict=True):
                if epoch == found.selected_epoch:
                    beside = epoch + 0.04 * (i - (len(shown) - 1) / 2)  # intervals of one epoch side by side
                    axes.vlines(beside, *found.accuracy.ci95, color=colour, lw=1)
                    axes.plot([epoch], [value], color=colour, marker=marker, ms=6, ls="")
        axes.axhline(figures.prior.value, color=TEXT, lw=1, ls="--", label=f"pair prior {figures.prior.value:.3f}")
        axes.set(xlabel="epoch", ylabel="test accuracy")
        epochs = sorted({e.epoch for _, _, points in shown for e in points})
        axes.set(xticks=epochs, xlim=(min(epochs) - 0.3, max(epochs) + 0.3))
        _roomy(axes)
        legend(drawn, axes)
        words = "; ".join(
            f"{cell.prompt}: {', '.join(f'{number(e.test_accuracy)} after epoch {e.epoch:g}' for e in points)}"
            for cell, _, points in shown
        )
        return picture(
            drawn, key,
            f"Test accuracy by epoch: {_where(first)}; {tested(figures)}. Filled: the epoch chosen on validation, with "
            "its 95 % interval.",
            f"Lines, one a prompt, beside the pair prior at {figures.prior.value:.3f}. {words}.",
        )  # fmt: skip


def coverage(cells: Found, key: str) -> Picture:
    """Accuracy among the surest answers, a line a prompt, and the pair prior's own; all cells have one setting."""
    first, figures = cells[0]
    with figure(2.9) as (drawn, axes):
        for i, (cell, found) in enumerate(cells):
            at, values = [p.coverage for p in found.coverage], [p.accuracy for p in found.coverage]
            axes.plot(at, values, color=SERIES[i % 6], ls=DASHES[i % 6], label=cell.prompt, **_single(at, i))
        at, values = ([getattr(p, name) for p in figures.coverage_prior] for name in ("coverage", "accuracy"))
        axes.plot(at, values, color=TEXT, lw=1, ls="--", marker=".", ms=3, label="pair prior")
        axes.set(xlim=(0, 1.02), xlabel="share of pairs answered, the surest first", ylabel="accuracy among them")
        _roomy(axes)
        legend(drawn, axes)
        words = "; ".join(f"{cell.prompt}: {_some(found)}" for cell, found in cells)
        return picture(
            drawn, key, f"Accuracy against coverage: {_where(first)}; {tested(figures)}",
            f"Lines, one a prompt, and the pair prior by its own confidence. {words}.",
        )  # fmt: skip


def learning_curve(study: Study, key: str) -> Picture | None:
    """Accuracy over the number of training networks: the baselines, and the cells under by_network."""
    points = study.learning_curve
    cells = [(c, f) for c, f in finished(study.cells) if is_usual(c) and c.tag is None and c.seed == 0]
    groups: dict[str, list[tuple[int, float, Sequence[float]]]] = {}
    for cell, found in cells:
        if not shows_the_answer(cell):
            line = groups.setdefault(f"{cell.prompt}, {cell.base}", [])
            line.append((found.n_train_networks, found.accuracy.value, found.accuracy.ci95))
    if not points and not groups:
        return None
    with figure(3.6) as (drawn, axes):
        for i, ((name, label), ls) in enumerate(zip(BASELINES.items(), ("--", ":", "-."), strict=True)):
            line = [(p.networks, p.accuracy[name], p.ci95.get(name, ())) for p in points if name in p.accuracy]
            if line:
                _series(axes, line, 1 + 0.03 * (i - 1), color=TEXT, ls=ls, label=label)
        for i, (label, line) in enumerate(groups.items()):
            marker = MARKERS[(i + i // 6) % 6]
            beside = 1.08 + 0.05 * i  # to the right of the baselines', which are measured at the same number
            _series(axes, sorted(line), beside, color=SERIES[i % 6], marker=marker, ls=DASHES[i % 6], label=label)
        axes.set_xscale("log")
        ticks = sorted({*(p.networks for p in points), *(n for line in groups.values() for n, *_ in line)})
        ticks = [n for i, n in enumerate(ticks) if i == 0 or n >= 1.3 * ticks[i - 1]]
        axes.set_xticks(ticks, [f"{n:,}" for n in ticks])
        axes.set_xticks([], minor=True)
        axes.set_xlim(ticks[0] / 1.4, ticks[-1] * 1.6)
        axes.set(xlabel="training networks", ylabel="test accuracy")
        _roomy(axes)
        legend(drawn, axes)
        base = "; ".join(f"{p.networks:,} networks: prior {number(p.accuracy.get('pair_prior'))}" for p in points)
        own = "; ".join(
            f"{name}: {', '.join(f'{v:.3f} after {n:,}' for n, v, _ in line)}" for name, line in groups.items()
        )
        on = f" on {points[0].n_test_pairs:,} test pairs" if points else ""
        title = f"Accuracy{on} over training networks, by_network, normalized label, with 95 % intervals"
        return picture(drawn, key, title, f"Lines. {base}. {own}.")


def _series(axes: Any, line: Sequence[tuple[int, float, Sequence[float]]], beside: float, **style: Any) -> None:
    """A line with its intervals, drawn a little beside those of others at the same place."""
    at, values = [n * beside for n, _, _ in line], [value for _, value, _ in line]
    axes.plot(at, values, lw=1.2, ms=4.5, **style)
    for x, (_, _, ci95) in zip(at, line, strict=True):
        if ci95:
            axes.vlines(x, *ci95, color=style["color"], lw=0.8)


def _where(cell: CellResult) -> str:
    return f"{cell.base}, {setting(cell)}" + (f", seed {cell.seed}" if cell.seed else "")


def _roomy(axes: Any) -> None:
    """At least `_ROOM` of accuracy from bottom to top: what differs little shall look so."""
    low, high = axes.get_ylim()
    if high - low < _ROOM:
        middle = (low + high) / 2
        axes.set_ylim(middle - _ROOM / 2, middle + _ROOM / 2)


def _single(at: Sequence[float], i: int) -> dict[str, Any]:
    """A lone point is no line: it gets a marker."""
    return {"marker": MARKERS[i % 6], "ms": 5} if len(at) == 1 else {}


def _some(found: Figures) -> str:
    last = found.coverage[-1]
    half = min(found.coverage, key=lambda point: abs(point.coverage - 0.5))
    return f"{half.accuracy:.3f} at {half.coverage:.0%} coverage, {last.accuracy:.3f} at {last.coverage:.0%}"
