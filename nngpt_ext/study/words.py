"""How cells are called, and what of a result may be said in words."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from nngpt_ext.evaluation.wording import NO_NUMBER, count
from nngpt_ext.study.schema import CellResult, Figures, Part

PAPERS_PROTOCOL = "peak over epochs (paper's protocol)"
AXES = ("prompt", "base", "split", "label", "seed", "train_networks", "tested_on", "tag")
_SHOWS_THE_ANSWER = "normalized_accuracy"
_SHOWS_RECIPES = "recipe"
_LEAKY = "random_pairs"
ALPHA = 0.05

FEW_NETWORKS = 10  # of a part, below which its interval is no ground for a sentence

Verdict = Literal["beats the prior", "is below the prior", "is not told apart from the prior"]
# What a table says of a cell that is not judged.
_SHORT: dict[Verdict, str] = {
    "beats the prior": "beats the prior",
    "is not told apart from the prior": "not told apart",
    "is below the prior": "below the prior",
}
_STATES = {"waiting": "not run yet"}


def finished(cells: Iterable[CellResult]) -> list[tuple[CellResult, Figures]]:
    """The cells that have figures, with them."""
    return [(cell, cell.figures) for cell in cells if cell.figures is not None]


def value_of(cell: CellResult, axis: str) -> str:
    """What a cell has on an axis, in words."""
    value = getattr(cell, axis)
    if axis == "tested_on":
        return f"{value} trials"
    if axis == "train_networks":
        return "all" if value is None else f"{value:,}"
    return NO_NUMBER if value is None else str(value)


def setting(cell: CellResult, *without: str) -> str:
    """The setting that a cell has in common with others: split, label, trials, and what is not as usual."""
    words = {
        "split": f"{cell.split} (leaky)" if is_leaky(cell) else cell.split,
        "label": f"{cell.label} label",
        "tested_on": "tested on random trials" if cell.tested_on == "random" else "",
        "train_networks": "" if cell.train_networks is None else f"{cell.train_networks:,} training networks at most",
        "tag": cell.tag or "",
    }
    return ", ".join(word for axis, word in words.items() if word and axis not in without)


def is_usual(cell: CellResult) -> bool:
    """Whether it is tested as the paper's question is meant: networks never seen, best trials, normalized label."""
    return (cell.split, cell.label, cell.tested_on) == ("by_network", "normalized", "best")


def full_name(cell: CellResult) -> str:
    """A cell in words."""
    seed = f", seed {cell.seed}" if cell.seed else ""
    return f"{cell.prompt}, {cell.base}, {setting(cell)}{seed}"


def tested(figures: Figures) -> str:
    """Such as `3,873 test pairs of 388 networks`."""
    return f"{count(figures.n_test_pairs, 'test pair')} of {count(figures.n_test_networks, 'network')}"


def shows_the_answer(cell: CellResult) -> bool:
    """Whether the prompt holds the answer itself, so that its accuracy says nothing of the task."""
    return cell.prompt == _SHOWS_THE_ANSWER


def shows_recipes(cell: CellResult) -> bool:
    """Whether the prompt holds the two training recipes."""
    return cell.prompt == _SHOWS_RECIPES


def judged(cells: Iterable[CellResult]) -> list[tuple[CellResult, Figures]]:
    """The finished cells that can tell something of the task: no answer in the prompt, no leaky split."""
    return [(cell, figures) for cell, figures in finished(cells) if not shows_the_answer(cell) and not is_leaky(cell)]


def is_leaky(cell: CellResult) -> bool:
    """Whether the same networks are in training and in test."""
    return cell.split == _LEAKY


def verdict(figures: Figures, tests: int) -> Verdict:
    """Whether a cell beats the pair prior, where `tests` cells are looked at.

    Its skill's 95 % interval must be clear of zero and its p below 0.05 / tests (Bonferroni): of twelve cells
    without any skill one would otherwise seem to have some almost every other time. One network has no spread.
    """
    skill = figures.skill
    if not skill.clear_of_zero or skill.p >= ALPHA / tests or figures.n_test_networks < 2:
        return "is not told apart from the prior"
    return "beats the prior" if skill.value > 0 else "is below the prior"


def outcome(cell: CellResult, tests: int) -> str:
    """What is said of a cell in a table: its verdict, or why it has none."""
    if cell.figures is None:
        return state(cell)
    if shows_the_answer(cell):
        return "shows the answer"
    return "leaky" if is_leaky(cell) else _SHORT[verdict(cell.figures, tests)]


def state(cell: CellResult) -> str:
    """What became of a cell."""
    return _STATES.get(cell.status, cell.status)


def told_apart(parts: Iterable[Part], tests: int) -> tuple[list[str], list[str]]:
    """The names of the parts that are above the prior, and of those below it, where `tests` parts are looked at.

    As `verdict` has it for cells; parts of few networks are passed over.
    """
    sure = [
        part
        for part in parts
        if part.networks >= FEW_NETWORKS
        and part.gain_ci95 is not None
        and part.gain_p is not None
        and (part.gain_ci95[0] > 0 or part.gain_ci95[1] < 0)
        and part.gain_p < ALPHA / tests
    ]
    return [p.name for p in sure if (p.gain or 0) > 0], [p.name for p in sure if (p.gain or 0) < 0]
