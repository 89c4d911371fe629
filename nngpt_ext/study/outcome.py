"""The contents of study.json, typed, and the verdict on a cell.

A number that could not be computed is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from nngpt_ext.data.splits import SPLITS
from nngpt_ext.evaluation.figures import PRIOR, Accuracy, Epoch, FamilyFigures, Number, Skill, SkillBeyondPrior
from nngpt_ext.evaluation.metrics import Bin, Coverage
from nngpt_ext.evaluation.statistics import FEW, Ci95

RULE = f"If the interval of the skill includes 0, or there are fewer than {FEW} test networks, no skill was shown."
OVER = "networks (by_family: over families)"  # what intervals are over, in a sentence
RANDOM = ".random_trials"  # the end of the name of a cell that is tested on random trials
Verdict = Literal["skill shown", "no skill shown", "below the prior", "answer in prompt", "leaky split"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Slice(_Frozen):
    """Some of the test pairs; `gain` is the accuracy minus the pair prior's.

    Both intervals are 95 %, over networks or, where they stay together, over families, and null for a single one, which
    has no spread.
    """

    name: str
    n: int
    networks: int
    accuracy: Number = None
    ci95: Ci95 | None = None
    prior: Number = None
    gain: Number = None
    gain_ci95: Ci95 | None = None


class BaselineResult(_Frozen):
    """A baseline on a cell's test pairs; `difference` is the cell's accuracy minus the baseline's."""

    accuracy: float
    ci95: Ci95 | None = None
    difference: Skill | None = None


class Figures(_Frozen):
    """What was measured of a finished cell on its test pairs; where report.json has the figure, it has this name.

    The figures of `METRICS` stand beside these fields.
    """

    model_config = ConfigDict(frozen=True, extra="allow")

    n_train_pairs: int
    n_train_networks: int | None  # null for all folds together, each of which has its own
    n_test_pairs: int
    n_test_networks: int
    accuracy: Accuracy
    skill: Skill
    skill_beyond_best_prior: SkillBeyondPrior | None = None  # null in studies of older versions
    families: FamilyFigures | None = None
    baselines: dict[str, BaselineResult]
    peak_test_accuracy: Number
    selected_epoch: int | float | None
    epochs: list[Epoch]
    ece: float
    ece_calibrated: Number
    slices: dict[str, list[Slice]]  # by the title of their table
    reliability: list[Bin]
    reliability_calibrated: list[Bin]
    coverage: list[Coverage]
    coverage_prior: list[Coverage]  # of the pair prior, by its own confidence

    @property
    def prior(self) -> float:
        """The accuracy of the pair prior."""
        return self.baselines[PRIOR].accuracy

    @property
    def others(self) -> dict[str, BaselineResult]:
        """The baselines other than the pair prior."""
        return {name: found for name, found in self.baselines.items() if name != PRIOR}


class Place(_Frozen):
    """Where a cell stands in the grid."""

    name: str
    prompt: str
    base: str
    split: str
    family_level: str | None = None  # of a split by families
    label: str
    seed: int
    train_networks: int | None
    tested_on: Literal["best", "random"]
    tag: str | None

    @property
    def run(self) -> str:
        """The name of the run that answers: a `random` cell uses the run that was tested on the best trials."""
        return self.name.removesuffix(RANDOM) if self.tested_on == "random" else self.name

    @property
    def setting(self) -> str:
        """Split, label, and whatever differs from the defaults; cells with the same setting share their test pairs."""
        words = [f"{self.split} {self.family_level}" if self.family_level else self.split, self.label]
        words += ["random trials"] if self.tested_on == "random" else []
        words += [] if self.train_networks is None else [f"at most {self.train_networks:,} training networks"]
        words += [self.tag] if self.tag else []
        words += [f"seed {self.seed}"] if self.seed else []
        return ", ".join(words)

    @property
    def title(self) -> str:
        return f"{self.prompt}, {self.base}"


class CellResult(Place):
    """A cell of the grid and its result."""

    status: Literal["finished", "failed", "not run", "waiting"]
    reason: str | None = None  # why it failed or was not run
    device: str | None = None
    spent: Number = None  # of both trainings, by evidence of the trials that are tested; null for best trials
    shows_answer: bool = False  # the prompt contains both accuracies, and with them the answer
    figures: Figures | None = None

    @property
    def verdict(self) -> Verdict | None:
        """The verdict on the skill, by `RULE`; None without figures.

        There is none on a prompt that contains the answer or a leaky split. A single network shows nothing about
        others: it has no spread, so that its interval is a point.
        """
        if self.figures is None:
            return None
        if self.shows_answer:
            return "answer in prompt"
        if SPLITS[self.split].leaky:
            return "leaky split"
        return self._judged(self.figures.skill, self.figures.n_test_networks)

    @property
    def verdict_beyond(self) -> Verdict | None:
        """The verdict on the skill beyond the best prior, over families; None without figures of families."""
        found = self.figures
        if found is None or found.families is None or found.skill_beyond_best_prior is None:
            return None
        if self.shows_answer:
            return self.verdict
        return self._judged(found.skill_beyond_best_prior, found.families.families)

    @staticmethod
    def _judged(skill: Skill, units: int) -> Verdict:
        if not skill.clear_of_zero or units < FEW:
            return "no skill shown"
        return "skill shown" if skill.value > 0 else "below the prior"


class CurvePoint(_Frozen):
    """The accuracies of the baselines after this many training networks, always on the same test pairs."""

    networks: int
    train_pairs: int
    n_test_pairs: int
    accuracy: dict[str, float]
    ci95: dict[str, Ci95] = {}


class PricePoint(_Frozen):
    """A baseline on networks of families never seen, after some training; all points of a level are of the same pairs.

    Attributes:
        family_level: what makes a family.
        knows: what was given.
        spent: the share of both trainings that this takes.
        families: in how many the test networks are.
    """

    family_level: str
    baseline: str
    knows: str
    spent: float
    accuracy: Accuracy
    beyond: SkillBeyondPrior
    families: int


class Comparison(_Frozen):
    """The first cell's accuracy minus the second one's, on the same test pairs."""

    first: str
    second: str
    n: int
    networks: int
    difference: Skill


class Study(_Frozen):
    """All cells and how they were made. Only `timings` differs when the same study is run again."""

    format: Literal[3] = 3  # raised if a reader of study.json has to change
    title: str
    command: str
    cells: list[CellResult]
    learning_curve: list[CurvePoint]
    price: list[PricePoint] = []  # studies of older versions have none
    comparisons: list[Comparison]
    versions: dict[str, str]
    timings: dict[str, float]  # seconds of each run, in its last session

    def finished(self) -> list[tuple[CellResult, Figures]]:
        """The cells that have figures, with them."""
        return [(cell, cell.figures) for cell in self.cells if cell.figures is not None]

    def of_families(self) -> list[CellResult]:
        """The cells that test on families never seen, finished or not."""
        return [cell for cell in self.cells if cell.split in SPLITS and SPLITS[cell.split].by_families]

    def priced(self) -> dict[str, list[PricePoint]]:
        """The points of the price of knowing, by level of families."""
        levels = dict.fromkeys(point.family_level for point in self.price)
        return {level: [point for point in self.price if point.family_level == level] for level in levels}

    def compared(self) -> list[tuple[CellResult, Figures]]:
        """The finished cells that can show skill: no answer in the prompt, no leaky split."""
        return [(c, f) for c, f in self.finished() if c.verdict not in ("answer in prompt", "leaky split")]

    def adjusted(self) -> dict[str, float]:
        """Holm's p of the skill of each compared cell, by the cell's name."""
        found = self.compared()
        return dict(zip([c.name for c, _ in found], holm([f.skill.p for _, f in found]), strict=True))


def holm(p_values: Sequence[float]) -> list[float]:
    """p adjusted for the number of tests (Holm 1979): the family-wise error stays below the level of each test."""
    adjusted, last, n = [0.0] * len(p_values), 0.0, len(p_values)
    for rank, i in enumerate(sorted(range(n), key=lambda i: p_values[i])):
        last = max(last, min(1.0, (n - rank) * p_values[i]))
        adjusted[i] = last
    return adjusted
