"""The picture at the top of README.md, drawn from two finished runs.

    python scripts/picture.py --code runs/code_only --recipe runs/recipe --out docs/picture.svg

Left: the test accuracy on the pairs of each dataset, with 95 % intervals over networks, beside the pair prior. Right:
the answers of the first run about examples/alexnet.py. The script reads finished runs and trains nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))  # this tree's package, whatever is installed

from nngpt_ext.evaluation.report import read_report
from nngpt_ext.predict.predictor import Predictor
from nngpt_ext.views.drawing import INK, SERIES, as_svg, check_installed, figure


def accuracies(axes: Any, runs: dict[str, Any]) -> str:
    """A row a dataset: each run's accuracy with its interval, and the prior's; in words too."""
    first = next(iter(runs.values())).per_dataset.sort_values("involving_prior")
    names, words = list(first.index), []
    for row in range(len(names)):
        axes.axhline(row, color=INK, alpha=0.4, lw=0.5)
    for shift, (name, report), colour, marker in zip((-0.16, 0.16), runs.items(), SERIES[:2], "os", strict=True):
        table = report.per_dataset.loc[names]
        value, low, high = (table[f"involving_{part}"] for part in ("accuracy", "low", "high"))
        axes.errorbar(
            value, [i + shift for i in range(len(names))], xerr=[value - low, high - value], fmt=marker, ms=4.5, lw=0,
            elinewidth=1.4, color=colour, label=f"prompt {name}",
        )  # fmt: skip
        words.append(f"{name}: " + ", ".join(f"{dataset} {found:.3f}" for dataset, found in value.items()))
    axes.plot(
        first["involving_prior"], range(len(names)), ls="", marker="D", ms=6, mfc="none", mec=INK, label="pair prior"
    )
    axes.set(yticks=range(len(names)), yticklabels=names, xlabel="test accuracy on pairs with this dataset")
    axes.set_title("Right how often, on networks never seen?", loc="left", weight="bold")
    words.append(
        "pair prior: " + ", ".join(f"{dataset} {found:.3f}" for dataset, found in first["involving_prior"].items())
    )
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
    parser.add_argument("--code", type=Path, required=True, help="a finished run of code_only")
    parser.add_argument("--recipe", type=Path, required=True, help="a finished run of recipe, on the same test pairs")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "picture.svg")
    given = parser.parse_args()
    check_installed("pictures", "study", "matplotlib")
    runs = {report.prompt: report for report in map(read_report, (given.code, given.recipe))}
    one, other = runs.values()
    if (one.n_test_pairs, one.baselines["pair_prior"].accuracy) != (
        other.n_test_pairs,
        other.baselines["pair_prior"].accuracy,
    ):
        parser.error("the two runs were tested on different pairs")
    code = (ROOT / "examples" / "alexnet.py").read_text(encoding="utf-8")
    with figure(3.3, columns=2, width=9.2, gridspec_kw={"width_ratios": [1.25, 1]}) as (drawn, (left, right)):
        words = accuracies(left, runs)
        ranking = order(right, Predictor.from_run(given.code, store=None), code)
        handles, labels = left.get_legend_handles_labels()
        drawn.legend(handles, labels, loc="outside lower left", ncols=3)
        drawn.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
        given.out.write_text(as_svg(drawn, "answer"), encoding="utf-8")
    print(f"{words}. AlexNet: {ranking}.")  # for readers who cannot see the picture


if __name__ == "__main__":
    main()
