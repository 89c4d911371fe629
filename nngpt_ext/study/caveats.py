"""What has to be said beside a study's conclusions, each sentence only where a finished cell gives rise to it."""

from __future__ import annotations

from collections.abc import Sequence

from nngpt_ext.evaluation.wording import interval, number
from nngpt_ext.study.paper import EXAMPLES, FIGURES
from nngpt_ext.study.schema import CellResult, Figures, Study
from nngpt_ext.study.words import (
    ALPHA,
    finished,
    full_name,
    is_leaky,
    is_usual,
    judged,
    setting,
    shows_recipes,
    shows_the_answer,
)

_STAND_INS = ("embedded", "embedded-small")
# The trees that see what a prompt shows.
_TREES = {
    "code_only": ("code_gbm", "Boosted trees on the source"),
    "metadata": ("code_gbm", "Boosted trees on the source"),
    "recipe": ("recipe_gbm", "Boosted trees on the two recipes"),
}


def caveats(study: Study) -> list[str]:
    """Sentences on what the figures do not say."""
    done, found = finished(study.cells), judged(study.cells)
    return [
        *_trees(found),
        *_recipes(found),
        *_stand_ins(found),
        *_against_the_paper(found),
        *[
            f"{full_name(cell)} reaches {number(figures.accuracy.value)}, and says nothing of the task: both "
            "accuracies, of which the answer is the larger, stand in the prompt. It shows that the base can learn."
            for cell, figures in done
            if shows_the_answer(cell)
        ],
        *[
            f"{full_name(cell)}: skill {number(figures.skill.value, sign=True)} "
            f"({interval(figures.skill.ci95, sign=True)}), beside published figures only: its networks are in training "
            "too."
            for cell, figures in done
            if is_leaky(cell) and not shows_the_answer(cell)
        ],
    ]


def _trees(found: Sequence[tuple[CellResult, Figures]]) -> list[str]:
    """Each prompt, where it is tested as usual, beside the boosted trees that see what it sees."""
    shown = []
    for cell, figures in found:
        name, words = _TREES.get(cell.prompt, ("", ""))
        if is_usual(cell) and cell.tag is None and cell.seed == 0 and name in figures.against:
            shown.append((cell, figures, name, words))
    lines = []
    for cell, figures, name, trees in shown:
        gain = figures.against[name]
        apart = gain.clear_of_zero and gain.p < ALPHA / len(shown) and figures.n_test_networks > 1
        words = f"{'above' if gain.value > 0 else 'below'} them" if apart else "not told apart from them"
        lines.append(
            f"{trees}, fitted on the same training trials, reach {number(figures.baselines.get(name))}; {cell.prompt} "
            f"on {cell.base} is {words} ({setting(cell)}: {number(gain.value, sign=True)}, "
            f"{interval(gain.ci95, sign=True)})."
        )
    return lines


def _recipes(found: Sequence[tuple[CellResult, Figures]]) -> list[str]:
    if not any(shows_recipes(cell) for cell, _ in found):
        return []
    return [
        "What recipe reads are the settings of the two trainings it compares (learning rate, batch, momentum, dropout, "
        "transform): its skill says which training went better, not which dataset suits the network. LEMUR's networks "
        "were trained with other settings on each dataset, so “does better” holds luck with the recipe under every "
        "prompt."
    ]


def _stand_ins(found: Sequence[tuple[CellResult, Figures]]) -> list[str]:
    if not found or any(cell.base not in _STAND_INS for cell, _ in found):
        return []
    return [
        "All of this is of small base models that ship with the package and are no code models: what they do not see "
        "in a source, a larger one may."
    ]


def _against_the_paper(found: Sequence[tuple[CellResult, Figures]]) -> list[str]:
    code = next(figure for figure in FIGURES if figure.prompt == "code_only")
    ours = [figures for cell, figures in found if cell.prompt == "code_only" and is_usual(cell)]
    if not ours:
        return []
    prior = ours[0].prior.value
    low, high = code.ci95 or (0.0, 1.0)
    holds = "contains" if low <= prior <= high else "does not contain"
    so = ": so few examples cannot tell a model from a look-up" if holds == "contains" else ""
    return [
        f"The paper's {code.accuracy:.0%} for the code-only prompt, of {EXAMPLES} examples, has a 95 % interval of "
        f"{number(low)} to {number(high)}, which {holds} the pair prior of our test pairs, {number(prior)}{so}."
    ]
