"""The study's conclusions, made from its figures alone: which prompts beat the pair prior, where, and which do not."""

from __future__ import annotations

from collections.abc import Sequence

from nngpt_ext.evaluation.wording import count, interval, number, share
from nngpt_ext.study.caveats import caveats
from nngpt_ext.study.schema import CellResult, Figures, Part, Study
from nngpt_ext.study.words import (
    ALPHA,
    FEW_NETWORKS,
    Verdict,
    finished,
    full_name,
    is_usual,
    judged,
    setting,
    shows_recipes,
    told_apart,
    verdict,
)

# How one cell, and how several, stand; and what a list of them begins with.
_WORDS: tuple[tuple[Verdict, str, str, str], ...] = (
    ("beats the prior", "beats the pair prior", "beat the pair prior", "Above it"),
    ("is not told apart from the prior", "cannot be told apart from it", "cannot be told apart from it",
     "Not told apart from it"),
    ("is below the prior", "is below it", "are below it", "Below it"),
)  # fmt: skip
Found = Sequence[tuple[CellResult, Figures]]


def lede(study: Study) -> list[str]:
    """What the page answers, for whoever reads nothing else."""
    recipes = " (with the prompt recipe its training recipes too)" if any(map(shows_recipes, study.cells)) else ""
    task = (
        f"A language model reads a neural network's source code{recipes} and says on which of two image datasets the "
        "network did better."
    )
    found = judged(study.cells)
    if not found:
        return [task, "No cell that can tell how well it does so is finished yet."]
    first = next(((cell, figures) for cell, figures in found if is_usual(cell)), found[0])
    prior = (
        "The measure to beat is the pair prior, which always names the dataset that usually wins and never looks at "
        f"the network: it is right in {share(first[1].prior.value)} of "
        f"{count(first[1].n_test_pairs, 'test pair')} ({setting(first[0])})."
    )
    prompts = {cell.prompt: [(c, f) for c, f in found if c.prompt == cell.prompt] for cell, _ in found}
    beating = {name: _beating(cells, len(found)) for name, cells in prompts.items()}
    shown = sorted(prompts, key=lambda name: -beating[name] / len(prompts[name]))
    counts = [f"{name} in {_of(beating[name], len(prompts[name]))}" for name in shown]
    far = [(cell, figures) for cell, figures in found if cell.split == "by_cluster"]
    n = _beating(far, len(found))
    last = f"; on networks unlike those in training (by_cluster) it is beaten in {_of(n, len(far))}" if far else ""
    listed = " and with ".join([", ".join(counts[:-1]), counts[-1]] if len(counts) > 1 else counts)
    return [task, prior, f"Of the combinations tried (cells), it is beaten with {listed}{last}."]


def conclusions(study: Study) -> list[str]:
    """Sentences, the most important first."""
    if not finished(study.cells):
        return ["No cell is finished: there is nothing to conclude."]
    found = judged(study.cells)
    return [
        _digest(found),
        *_by_prompt(found),
        *_where(found),
        *_splits(found),
        *_capacity(study, found),
        *caveats(study),
        *_missing(study.cells),
        _rule(found),
    ]


def _digest(found: Found) -> str:
    """How many cells stand where, in a sentence."""
    outcomes = [verdict(figures, len(found)) for _, figures in found]
    words = []
    for name, one, many, _ in _WORDS:
        n = outcomes.count(name)
        words.append(f"{n or 'none'} {one if n < 2 else many}")
    return (
        f"Of {count(len(found), 'finished cell')} that can tell (no answer in the prompt, no leaky split), "
        f"{', '.join(words[:-1])} and {words[-1]}."
    )


def _by_prompt(found: Found) -> list[str]:
    """For each prompt where it beats the prior and where not; those that do first."""
    lines = []
    for prompt in dict.fromkeys(cell.prompt for cell, _ in found):
        own = [(cell, figures) for cell, figures in found if cell.prompt == prompt]
        n = _beating(own, len(found))
        words = []
        for name, _, _, lead in _WORDS:
            cells = [_skill(cell, figures) for cell, figures in own if verdict(figures, len(found)) == name]
            words += [f"{lead}: {'; '.join(cells)}."] if cells else []
        lead = f"{prompt} beats the pair prior in {_of(n, len(own), 'cell')}."
        lines.append((-n / len(own), " ".join([lead, *words])))
    return [line for _, line in sorted(lines, key=lambda entry: entry[0])]


def _skill(cell: CellResult, figures: Figures) -> str:
    name = full_name(cell).removeprefix(f"{cell.prompt}, ")
    return f"{name}, {number(figures.skill.value, sign=True)} ({interval(figures.skill.ci95, sign=True)})"


def _where(found: Found) -> list[str]:
    """For each prompt that beats the prior on which datasets it does, in the first cell in which it does."""
    lines, seen = [], set()
    tests = sum(len(figures.involving) for _, figures in found)
    for cell, figures in found:
        if cell.prompt in seen or verdict(figures, len(found)) != "beats the prior":
            continue
        seen.add(cell.prompt)
        above, below = told_apart(figures.involving, tests)
        others = [part.name for part in figures.involving if part.name not in (*above, *below)]
        words = [
            f"{lead} {', '.join(names)}"
            for lead, names in (("above it on pairs with", above), ("below it on pairs with", below),
                                ("not told apart on pairs with", others))
            if names
        ]  # fmt: skip
        lines.append(f"Where {full_name(cell)} beats the prior: {'; '.join(words)}.{_near(figures.near_duplicate)}")
    return lines


def _near(parts: Sequence[Part]) -> str:
    """The gain with and without a near-duplicate in training, where both can be spoken of."""
    spoken = [part for part in parts if part.networks >= FEW_NETWORKS]
    if len(spoken) < 2:
        return ""
    words = [
        f"{number(part.gain, sign=True)} ({interval(part.gain_ci95, sign=True)}) on the {count(part.n, 'pair')} of "
        f"networks {'with' if part is spoken[0] else 'without'} a near-duplicate in training"
        for part in spoken
    ]
    return f" {' and '.join(words)}."


def _splits(found: Found) -> list[str]:
    """What becomes of a prompt's skill when no near-duplicate is in training."""
    lines = []
    for cell, figures in found:
        for other, theirs in found:
            if (cell.split, other.split) != ("by_network", "by_cluster") or _but_split(cell) != _but_split(other):
                continue
            same = setting(cell, "split")
            lines.append(
                f"{cell.prompt} on {cell.base}, {same}: skill {number(figures.skill.value, sign=True)} "
                f"({interval(figures.skill.ci95, sign=True)}) under by_network and "
                f"{number(theirs.skill.value, sign=True)} ({interval(theirs.skill.ci95, sign=True)}) under by_cluster, "
                "where the networks tested have no near-duplicate in training (and are no sample of all networks: the "
                "large families are all in training)."
            )
    return lines


def _but_split(cell: CellResult) -> tuple[object, ...]:
    return (cell.prompt, cell.base, cell.label, cell.seed, cell.tested_on, cell.train_networks, cell.tag)


def _capacity(study: Study, found: Found) -> list[str]:
    """One base model against another on the same pairs."""
    names = {cell.name: cell for cell, _ in found}
    shown = [c for c in study.comparisons if c.first in names and c.second in names]
    lines = []
    for one in shown:
        first, second, gain = names[one.first], names[one.second], one.difference
        apart = gain.clear_of_zero and gain.p < ALPHA / len(shown) and one.networks > 1
        words = f"{'better' if gain.value > 0 else 'worse'} than" if apart else "not told apart from"
        lines.append(
            f"With {first.prompt}, {setting(first)}, {first.base} is {words} {second.base}: "
            f"{number(gain.value, sign=True)} ({interval(gain.ci95, sign=True)}) on the same {count(one.n, 'pair')}."
        )
    return lines


def _missing(cells: Sequence[CellResult]) -> list[str]:
    words = {"failed": "Failed", "not run": "Not run", "waiting": "Not run yet"}
    return [
        f"{lead}: {'; '.join(full_name(cell) for cell in cells if cell.status == status)}."
        for status, lead in words.items()
        if any(cell.status == status for cell in cells)
    ]


def _rule(found: Found) -> str:
    tests = max(len(found), 1)
    parts = max(sum(len(figures.involving) for _, figures in found), 1)
    return (
        "How this was judged: “beats” and “below” mean that the 95 % interval over networks is clear of zero and that "
        f"p is below {ALPHA:g} / {tests}, for {count(tests, 'cell')} looked at (Bonferroni); for datasets within cells "
        f"below {ALPHA:g} / {parts}. “Not told apart” is no proof of equality: with so many networks the difference "
        "could not be told from none."
    )


def _beating(cells: Found, tests: int) -> int:
    return sum(verdict(figures, tests) == "beats the prior" for _, figures in cells)


def _of(n: int, total: int, noun: str = "") -> str:
    """Such as `2 of 3`, `none of 2 cells`."""
    words = f" {noun}{'' if total == 1 else 's'}" if noun else ""
    return f"{n or 'none'} of {total}{words}"
