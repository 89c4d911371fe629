"""Cells with made-up figures, to see what is said of them."""

from __future__ import annotations

from typing import Any

from nngpt_ext.evaluation.metrics import Bin, Coverage
from nngpt_ext.study.measurement import DATASETS, NEAR
from nngpt_ext.study.outcome import CellResult, Figures, Slice, Study


def part(name: str, gain: float, networks: int = 40, n: int = 100) -> Slice:
    """A slice whose interval is the gain ± 0.02."""
    return Slice(
        name=name, n=n, networks=networks, accuracy=0.8 + gain, ci95=(0.7, 0.9), prior=0.8, gain=gain,
        gain_ci95=(gain - 0.02, gain + 0.02),
    )  # fmt: skip


def figures(skill: float = 0.05, p: float = 0.0001, **changes: Any) -> Figures:
    """Figures with that skill, its interval ± 0.02."""
    found = {
        "n_train_pairs": 900, "n_train_networks": 90, "n_test_pairs": 100, "n_test_networks": 40,
        "accuracy": {"value": 0.8 + skill, "ci95": (0.7, 0.9), "n": 100},
        "skill": {"value": skill, "ci95": (skill - 0.02, skill + 0.02), "p": p},
        "peak_test_accuracy": 0.88, "selected_epoch": 1,
        "epochs": [{"epoch": 1, "test_accuracy": 0.8 + skill}, {"epoch": 2, "test_accuracy": 0.88}],
        "baselines": {"pair_prior": {"accuracy": 0.8}}, "within_pair_auc": 0.6, "log_loss": 0.4, "ece": 0.05,
        "ece_calibrated": None, "flip_rate": 0.1,
        "slices": {
            DATASETS: [part("cifar-10", skill), part("mnist", 0.0)],
            NEAR: [part("with", skill, networks=30), part("without", 0.01, networks=10)],
        },
        "reliability": [Bin(0.4, 0.5, 50), Bin(0.9, 0.9, 50)], "reliability_calibrated": [],
        "coverage": [Coverage(0.5, 0.95), Coverage(1.0, 0.8 + skill)],
        "coverage_prior": [Coverage(0.5, 0.9), Coverage(1.0, 0.8)],
    }  # fmt: skip
    return Figures.model_validate({**found, **changes})


def of_families(beyond: float = 0.02, families: int = 40, **changes: Any) -> Figures:
    """Figures of families never seen, with that skill beyond the kind prior, its interval ± 0.01."""
    gain = {"value": beyond, "ci95": (beyond - 0.01, beyond + 0.01), "p": 0.002}
    accuracy = {"value": 0.87, "ci95": (0.84, 0.9), "n": 90}
    names = ("pair_prior", "kind_prior", "bt_recipe", "bt_structure", "bt_recipe_structure")
    found: dict[str, Any] = {
        "skill_beyond_best_prior": {**gain, "prior": "kind_prior"},
        "families": {
            "families": families, "largest": "abc", "largest_share": 0.41,
            "mean": {"accuracy": accuracy, "difference": gain}, "without_largest": None,
        },
        "baselines": {name: {"accuracy": 0.8 + i / 100} for i, name in enumerate(names)},
        "n_train_networks": None, "epochs": [], "selected_epoch": None, "peak_test_accuracy": None,
    }  # fmt: skip
    return figures(**{**found, **changes})


def cell(prompt: str = "recipe", found: Figures | None = None, **changes: Any) -> CellResult:
    """A finished cell with these figures, or one that was not run."""
    own: dict[str, Any] = {
        "prompt": prompt, "base": "embedded", "split": "by_network", "label": "normalized", "seed": 0,
        "train_networks": None, "tested_on": "best", "tag": None, "status": "not run" if found is None else "finished",
        "reason": "no card" if found is None else None, "figures": found,
        "shows_answer": prompt == "normalized_accuracy", **changes,
    }  # fmt: skip
    name = ".".join(
        str(own[key]) for key in ("prompt", "base", "split", "label", "seed", "train_networks", "tested_on")
    )
    return CellResult.model_validate({"name": name, **own})


def study(*cells: CellResult, **changes: Any) -> Study:
    """A study of these cells."""
    own: dict[str, Any] = {
        "title": "A study", "command": "nngpt-ext study", "learning_curve": [], "comparisons": [],
        "versions": {"torch": "2"}, "timings": {c.name: 60.0 for c in cells if c.figures is not None},
    }  # fmt: skip
    return Study(cells=list(cells), **{**own, **changes})
