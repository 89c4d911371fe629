"""A run's adapter on test pairs of one random trial for each network and dataset, beside the baselines.

    python benchmarks/random_trials.py runs/recipe --out benchmarks/results/recipe-random-trials.json

What the study's `tested_on: [random]` measures (nngpt_ext/study/random_trials.py), for one finished run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from nngpt_ext.config import TaskConfig
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.run_folder import CONFIG, read_config
from nngpt_ext.settings import build_config
from nngpt_ext.study.random_trials import ask_random_trials
from nngpt_ext.tasks.pipeline import Loader


def measure(run: Path) -> dict[str, object]:
    """Accuracy of the adapter, the pair prior and the GBMs on pairs of random trials."""
    config = build_config(TaskConfig, read_config(run / CONFIG))
    with tempfile.TemporaryDirectory() as name:
        ask_random_trials(run, config, Path(name), Loader())
        report = read_report(Path(name))
    return {
        "run": str(run),
        "prompt": report.prompt,
        "n_test_pairs": report.n_test_pairs,
        "n_test_networks": report.n_test_networks,
        "accuracy": {"value": round(report.accuracy.value, 4), "ci95": report.accuracy.ci95},
        "skill": report.skill.model_dump(mode="json"),
        "baselines": {name: round(baseline.accuracy, 4) for name, baseline in report.baselines.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("--out", type=Path, help="JSON file to write as well")
    given = parser.parse_args()
    text = json.dumps(measure(given.run), indent=2)
    if given.out:
        given.out.write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
