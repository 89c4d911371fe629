"""The study's conclusions, made from its figures alone: which prompts beat the pair prior, where, and which do not."""

from __future__ import annotations

from collections.abc import Sequence

from nngpt_ext.evaluation.wording import count, interval, number, p_value
from nngpt_ext.study.paper import EXAMPLES, FIGURES
from nngpt_ext.study.schema import CellResult, Figures, Part, Study
from nngpt_ext.study.words import (
    ALPHA,
    Verdict,
    finished,
    full_name,
    is_leaky,
    is_usual,
    setting,
    shows_the_answer,
    verdict,
)

_LEADS: tuple[tuple[Verdict, str], ...] = (
    ("beats the prior", "Beats the pair prior"),
    ("is not told apart from the prior", "Not told apart from the pair prior"),
    ("is below the prior", "Below the pair prior"),
)

_PLURALS: dict[Verdict, str] = {
    "beats the prior": "beat the pair prior",
    "is not told apart from the prior": "cannot be told apart from it",
    "is below the prior": "are below it",
}
_FEW_NETWORKS = 10  # of a part, below which its interval is no ground for a sentence


def conclusions(study: Study) -> list[str]:
    """Sentences, the most important first."""
    done = finished(study.cells)
    found = [(cell, figures) for cell, figures in done if not shows_the_answer(cell) and not is_leaky(cell)]
    if not done:
        return ["No cell is finished: there is nothing to conclude."]
    tests = max(len(found), 1)
    lines = [_digest(found, tests)]
    for outcome, lead in _LEADS:
        cells = [(cell, figures) for cell, figures in found if verdict(figures, tests) == outcome]
        lines += [f"{lead}: {full_name(cell)}: {_skill(figures)}.{_where(figures)}" for cell, figures in cells]
    lines.append(
        f"“Beats” and “below” mean that the skill's 95 % interval over networks is clear of zero and p is below "
        f"{ALPHA:g} / {tests}, the number of cells looked at. “Not told apart” means no more than that: with so many "
        "networks the difference could not be told from none."
    )
    lines += [
        f"{full_name(cell)} reaches {number(figures.accuracy.value)}, and says nothing of the task: both accuracies, "
        "of which the answer is the larger, stand in the prompt."
        for cell, figures in done
        if shows_the_answer(cell)
    ]
    lines += [
        f"{full_name(cell)}: skill {number(figures.skill.value, sign=True)} "
        f"({interval(figures.skill.ci95, sign=True)}), beside published figures only: its networks are in training too."
        for cell, figures in done
        if is_leaky(cell) and not shows_the_answer(cell)
    ]
    return [*lines, *_splits(found), *_capacity(found), *_against_the_paper(found), *_missing(study.cells)]


def _digest(found: Sequence[tuple[CellResult, Figures]], tests: int) -> str:
    """How many cells stand where, in a sentence."""
    outcomes = [verdict(figures, tests) for _, figures in found]
    counts = ", ".join(f"{outcomes.count(outcome)} {_PLURALS[outcome]}" for outcome, _ in _LEADS)
    return f"Of {count(len(found), 'finished cell')} that can tell (no answer in the prompt, no leaky split), {counts}."


def _skill(figures: Figures) -> str:
    skill = figures.skill
    return (
        f"skill {number(skill.value, sign=True)} ({interval(skill.ci95, sign=True)}), {p_value(skill)}; accuracy "
        f"{number(figures.accuracy.value)} against {number(figures.prior.value)} on "
        f"{count(figures.n_test_pairs, 'pair')} of {count(figures.n_test_networks, 'network')}"
    )


def _where(figures: Figures) -> str:
    """On which datasets, and whether far from training, the difference is clear of zero."""
    above = [part.name for part in figures.involving if _sign(part) > 0]
    below = [part.name for part in figures.involving if _sign(part) < 0]
    words = []
    if above:
        words.append(f"above it on pairs with {', '.join(above)}")
    if below:
        words.append(f"below it on pairs with {', '.join(below)}")
    far = next((part for part in figures.near_duplicate if part.name == "without"), None)
    if far is not None and far.networks >= _FEW_NETWORKS:
        words.append(
            f"{number(far.gain, sign=True)} ({interval(far.gain_ci95, sign=True)}) on the {count(far.n, 'pair')} of "
            "networks without a near-duplicate in training"
        )
    return f" By parts, each interval by itself: {'; '.join(words)}." if words else ""


def _sign(part: Part) -> int:
    if part.gain_ci95 is None or part.networks < _FEW_NETWORKS:
        return 0
    low, high = part.gain_ci95
    return 1 if low > 0 else -1 if high < 0 else 0


def _splits(found: Sequence[tuple[CellResult, Figures]]) -> list[str]:
    """What becomes of a prompt's skill when no near-duplicate is in training."""
    lines = []
    for cell, figures in found:
        if cell.split != "by_network":
            continue
        same = (cell.prompt, cell.base, cell.label, cell.seed, cell.tested_on, cell.train_networks)
        for other, theirs in found:
            key = (other.prompt, other.base, other.label, other.seed, other.tested_on, other.train_networks)
            if other.split == "by_cluster" and key == same:
                lines.append(
                    f"{cell.prompt} on {cell.base}, {setting(cell, 'split')}: skill "
                    f"{number(figures.skill.value, sign=True)} under by_network and "
                    f"{number(theirs.skill.value, sign=True)} ({interval(theirs.skill.ci95, sign=True)}) under "
                    "by_cluster, where the networks tested are unlike those in training."
                )
    return lines


def _capacity(found: Sequence[tuple[CellResult, Figures]]) -> list[str]:
    """The same question on bases of other sizes, side by side."""
    groups: dict[str, list[str]] = {}
    for cell, figures in found:
        seed = f", seed {cell.seed}" if cell.seed else ""
        words = f"{number(figures.skill.value, sign=True)} ({interval(figures.skill.ci95, sign=True)}) on {cell.base}"
        groups.setdefault(f"{cell.prompt}, {setting(cell)}{seed}", []).append(words)
    return [
        f"By base model, {name}: skill {', '.join(words)}; the difference itself was not tested."
        for name, words in groups.items()
        if len(words) > 1
    ]


def _against_the_paper(found: Sequence[tuple[CellResult, Figures]]) -> list[str]:
    code = next(figure for figure in FIGURES if figure.prompt == "code_only")
    ours = [figures for cell, figures in found if cell.prompt == "code_only" and is_usual(cell)]
    if not ours:
        return []
    prior = ours[0].prior.value
    low, high = code.ci95 or (0.0, 1.0)
    holds = "contains" if low <= prior <= high else "does not contain"
    return [
        f"The paper's {code.accuracy:.0%} for the code-only prompt, of {EXAMPLES} examples, has a 95 % interval of "
        f"{number(low)} to {number(high)}, which {holds} the pair prior of our test pairs, {number(prior)}."
    ]


def _missing(cells: Sequence[CellResult]) -> list[str]:
    words = {"failed": "Failed", "not run": "Not run", "waiting": "Not run yet"}
    return [
        f"{lead}: {'; '.join(full_name(cell) for cell in cells if cell.status == status)}."
        for status, lead in words.items()
        if any(cell.status == status for cell in cells)
    ]
