"""Finished runs side by side: a Markdown table of their test pairs, and the curves of their validation pairs.

    python benchmarks/embedded.py runs/recipe runs/recipe-small --svg docs/embedded.svg

It reads the runs' reports and trains nothing.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from nngpt_ext.evaluation.report import Report, read_report

HEAD = ("run", "accuracy", "pair prior", "skill (95 % interval)", "recipe GBM", "source GBM", "flips", "minutes")


def cells(run: Path) -> tuple[str, ...]:
    """One run's figures as text, in the order of `HEAD`."""
    report = read_report(run)
    low, high = report.accuracy.ci95
    s_low, s_high = report.skill.ci95
    gbm, source = (report.baselines[name].accuracy for name in ("recipe_gbm", "code_gbm"))
    data, timings = report.config["data"], report.timings
    name = f"`{report.prompt}`, {report.base_model}, {report.config['tuning']['epochs']} epochs"
    name += f", {data['code_tokens']} tokens of source"
    name += "" if data["split"] == "by_network" else f", **{data['split']}**"
    name += "" if data["seed"] == 0 else f", seed {data['seed']}"
    return (
        name,
        f"{report.accuracy.value:.3f} ({low:.3f} to {high:.3f})",
        f"{report.baselines['pair_prior'].accuracy:.3f}",
        f"{report.skill.value:+.3f} ({s_low:+.3f} to {s_high:+.3f})",
        f"{gbm:.3f}",
        f"{source:.3f}",
        f"{report.flip_rate:.3f}",
        f"{sum(timings.values()) / 60:.0f}",
    )


def curves(runs: list[Path], file: Path) -> None:
    """Training loss and validation accuracy by epoch."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams.update({"svg.hashsalt": "nngpt_ext", "font.size": 9})
    figure, (losses, accuracies) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for run in runs:
        report: Report = read_report(run)
        epochs: list[Any] = report.epochs
        name = f"{report.prompt}, {report.base_model}, {len(epochs)} epochs"
        numbers = [entry.epoch for entry in epochs]
        losses.plot(numbers, [entry.train_loss for entry in epochs], marker="o", label=name)
        accuracies.plot(numbers, [entry.validation_accuracy for entry in epochs], marker="o", label=name)
    losses.set(xlabel="epoch", ylabel="training loss (nats an answer)")
    accuracies.set(xlabel="epoch", ylabel="accuracy on the validation pairs")
    losses.legend()  # where the curves leave room
    for axes in (losses, accuracies):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.3)
    figure.savefig(file, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="folders of finished runs")
    parser.add_argument("--svg", type=Path, help="draw the curves into this file")
    given = parser.parse_args()
    print("| " + " | ".join(HEAD) + " |\n|" + "---|" * len(HEAD))
    for run in given.runs:
        print("| " + " | ".join(cells(run)) + " |")
    if given.svg:
        curves(given.runs, given.svg)


if __name__ == "__main__":
    main()
