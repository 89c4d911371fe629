"""The picture at the top of README.md, drawn from the study and the demo.

    python scripts/picture.py --study docs/study/study.json --run runs/demo --out docs/picture.svg

Left: the test accuracy on the pairs of each dataset, with 95 % intervals over networks, beside the pair prior, in the
study's cells of code_only and recipe. Right: the demo's answers about examples/alexnet.py. The script trains nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this tree's package, whatever is installed

from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.study.outcome import Slice, Study
from nngpt_ext.views.drawing import INK, SERIES, as_svg, check_installed, figure

CELLS = ("code_only.embedded.by_network.normalized.seed0", "recipe.embedded.by_network.normalized.seed0")


def slices(study: Path) -> dict[str, dict[str, Slice]]:
    """The pairs that involve each dataset, by prompt."""
    found = {cell.name: cell for cell in Study.model_validate_json(study.read_text(encoding="utf-8")).cells}
    chosen = [found[name] for name in CELLS]
    return {
        cell.prompt: {one.name: one for one in cell.figures.slices["Pairs that involve the dataset"]}
        for cell in chosen if cell.figures is not None
    }  # fmt: skip


def accuracies(axes: Any, runs: dict[str, dict[str, Slice]]) -> str:
    """A row a dataset: each run's accuracy with its interval, and the prior's; in words too."""
    first = next(iter(runs.values()))
    names, words = sorted(first, key=lambda name: first[name].prior or 0), []
    for row in range(len(names)):
        axes.axhline(row, color=INK, alpha=0.4, lw=0.5)
    for shift, (name, found), colour, marker in zip((-0.16, 0.16), runs.items(), SERIES[:2], "os", strict=True):
        value = [found[dataset].accuracy or 0.0 for dataset in names]
        ends = [found[dataset].ci95 or (one, one) for dataset, one in zip(names, value, strict=True)]
        below = [one - low for one, (low, _) in zip(value, ends, strict=True)]
        above = [high - one for one, (_, high) in zip(value, ends, strict=True)]
        axes.errorbar(
            value, [i + shift for i in range(len(names))], xerr=[below, above], fmt=marker, ms=4.5, lw=0,
            elinewidth=1.4, color=colour, label=f"prompt {name}",
        )  # fmt: skip
        words.append(f"{name}: " + ", ".join(f"{a} {b:.3f}" for a, b in zip(names, value, strict=True)))
    prior = [first[dataset].prior or 0.0 for dataset in names]
    axes.plot(prior, range(len(names)), ls="", marker="D", ms=6, mfc="none", mec=INK, label="pair prior")
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="test accuracy on pairs with this dataset")
    axes.set_title("Right how often, on networks never seen?", loc="left", weight="bold")
    words.append("pair prior: " + ", ".join(f"{a} {b:.3f}" for a, b in zip(names, prior, strict=True)))
    return "; ".join(words)


def order(axes: Any, predictor: Predictor, code: str) -> str:
    """The datasets in order for one network, each with its probability against the first."""
    ranked = predictor.rank(code)
    best, *others = ranked.datasets
    against = [predictor.compare(code, one, best).probability for one in others]
    values = [0.0, *against]  # the first has nothing to beat
    rows = range(len(values), 0, -1)
    axes.barh(rows, values, height=0.62, color=SERIES[0], alpha=0.85)
    axes.axvline(0.5, color=INK, lw=1, ls="--")
    for row, value in zip(rows, values, strict=True):
        said = "does best" if row == len(values) else f"{value:.2f}"
        axes.text(value + 0.012, row, said, va="center", color=INK)
    axes.set(yticks=list(rows), yticklabels=ranked.datasets, xlim=(0, 0.55), xlabel=f"probability of beating {best}")
    axes.grid(visible=False, axis="y")
    axes.set_title("AlexNet: on which does it do best?", loc="left", weight="bold")
    return f"{best} first; probability of beating it: " + ", ".join(
        f"{name} {value:.2f}" for name, value in zip(others, against, strict=True)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=ROOT / "docs" / "study" / "study.json")
    parser.add_argument("--run", type=Path, default=ROOT / "runs" / "demo", help="the finished demo")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "picture.svg")
    given = parser.parse_args()
    check_installed("pictures", "study", "matplotlib")
    code = (ROOT / "examples" / "alexnet.py").read_text(encoding="utf-8")
    with figure(3.3, columns=2, width=9.2, gridspec_kw={"width_ratios": [1.25, 1]}) as (drawn, (left, right)):
        words = accuracies(left, slices(given.study))
        ranking = order(right, Predictor.from_run(given.run, store=None), code)
        handles, labels = left.get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower left", ncols=3)
        drawn.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        given.out.write_text(as_svg(drawn, "answer"), encoding="utf-8")
    print(f"{words}. AlexNet: {ranking}.")  # for readers who cannot see the picture


if __name__ == "__main__":
    main()
