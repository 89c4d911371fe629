"""The tables of a study. They say what was measured; sections.py puts them into their order."""

from __future__ import annotations

from collections.abc import Sequence

from nngpt_ext.evaluation.tables import Table
from nngpt_ext.evaluation.wording import NO_NUMBER, interval, number
from nngpt_ext.data.words import SPLITS
from nngpt_ext.study.paper import EPOCHS, EXAMPLES, FIGURES
from nngpt_ext.study.schema import CellResult, Figures, Part, Study
from nngpt_ext.study.words import (
    AXES,
    PAPERS_PROTOCOL,
    finished,
    is_usual,
    judged,
    outcome,
    setting,
    state,
    told_apart,
    value_of,
)

_HEAD = (
    "verdict", PAPERS_PROTOCOL, "accuracy, epoch by validation", "95 % interval", "prior", "skill", "95 % interval",
    "p", "pairs", "networks",
)  # fmt: skip
_PART_HEAD = ("accuracy", "95 % interval", "prior", "accuracy − prior", "95 % interval", "n", "networks")
# By_origin has one split for each origin, which are not the same prompt under another split.
_SPLITS = ("by_network", "by_cluster", "random_pairs")


def verdicts(study: Study) -> Table:
    """Every cell that can tell: its skill, what follows from it, and on pairs with which datasets."""
    found = judged(study.cells)
    tests, parts = len(found), sum(len(figures.involving) for _, figures in found)
    rows = []
    for cell, figures in found:
        above, below = told_apart(figures.involving, parts)
        skill = figures.skill
        seed = f", seed {cell.seed}" if cell.seed else ""
        rows.append(
            (cell.prompt, outcome(cell, tests), cell.base, f"{setting(cell)}{seed}", number(skill.value, sign=True),
             interval(skill.ci95, sign=True), f"{skill.p:.4f}", ", ".join(above) or NO_NUMBER,
             ", ".join(below) or NO_NUMBER)
        )  # fmt: skip
    head = (
        "prompt", "verdict", "base", "tested under", "skill", "95 % interval", "p", "above the prior on pairs with",
        "below it on pairs with",
    )  # fmt: skip
    return Table("Verdicts", head, rows)


def trees(study: Study) -> Table:
    """Every finished cell beside the boosted trees, on the same pairs."""
    names = (("code_gbm", "source"), ("recipe_gbm", "recipes"))
    rows = []
    for cell, figures in finished(study.cells):
        seed = f", seed {cell.seed}" if cell.seed else ""
        row = [cell.prompt, f"{cell.base}, {setting(cell)}{seed}", number(figures.accuracy.value)]
        for name, _ in names:
            gain = figures.against.get(name)
            row += [number(figures.baselines.get(name))]
            row += [NO_NUMBER] * 2 if gain is None else [number(gain.value, True), interval(gain.ci95, True)]
        rows.append((*row, f"{figures.n_test_pairs:,}"))
    head = [word for _, what in names for word in (f"trees on the {what}", "accuracy − trees", "95 % interval")]
    return Table("Beside boosted trees", ("prompt", "base, tested under", "accuracy", *head, "pairs"), rows)


def comparisons(study: Study) -> Table:
    """One base model against another, on the same test pairs."""
    cells = {cell.name: cell for cell in study.cells}
    rows = []
    for one in study.comparisons:
        first, second, gain = cells[one.first], cells[one.second], one.difference
        rows.append(
            (f"{first.prompt}, {setting(first)}", f"{first.base} − {second.base}", number(gain.value, sign=True),
             interval(gain.ci95, sign=True), f"{gain.p:.4f}", f"{one.n:,}", f"{one.networks:,}")
        )  # fmt: skip
    head = ("question", "base models", "difference of accuracies", "95 % interval", "p", "pairs", "networks")
    return Table("The difference itself, pair by pair", head, rows)


def headline(study: Study) -> list[Table]:
    """Prompt × base, a table a setting."""
    tables = []
    for name in dict.fromkeys(setting(cell) for cell in study.cells):
        cells = [cell for cell in study.cells if setting(cell) == name]
        seeds = len({cell.seed for cell in cells}) > 1
        head = ("prompt", "base", *(("seed",) if seeds else ()), *_HEAD)
        tests = len(judged(study.cells))
        rows = [(c.prompt, c.base, *((str(c.seed),) if seeds else ()), *_cells(c, tests)) for c in cells]
        tables.append(Table(name, head, rows))
    return tables


def along(study: Study, axis: str) -> list[Table]:
    """The cells that differ on one axis only, side by side: a table for each group of two or more."""
    others = [name for name in AXES if name != axis]
    groups: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in study.cells:
        groups.setdefault(tuple(value_of(cell, name) for name in others), []).append(cell)
    tables, tests = [], len(judged(study.cells))
    for cells in groups.values():
        if len(cells) < 2:
            continue
        first = cells[0]
        rows = [(value_of(cell, axis), *_cells(cell, tests)) for cell in cells]
        if axis == "split":
            rows = _all_splits(cells, tests)
        words = [first.prompt] if axis != "prompt" else []
        words += [first.base] if axis != "base" else []
        title = ", ".join([*words, setting(first, axis)] if setting(first, axis) else words)
        tables.append(Table(title, (axis.replace("_", " "), *_HEAD), rows))
    return tables


def _all_splits(cells: Sequence[CellResult], tests: int) -> list[tuple[str, ...]]:
    """A row for each split that a prompt is to be seen under, also where the study has no such cell."""
    known = {cell.split: cell for cell in cells}
    names = [split for split in SPLITS if split in _SPLITS or split in known]
    missing = ("not in this study", *(NO_NUMBER for _ in _HEAD[1:]))
    return [(name, *(_cells(known[name], tests) if name in known else missing)) for name in names]


def per_dataset(figures: Figures) -> list[Table]:
    """Pairs whose answer is a dataset, and pairs that involve it."""
    sides = (
        ("Pairs whose answer is the dataset", figures.as_answer),
        ("Pairs that involve the dataset", figures.involving),
    )
    return [_parts(title, "dataset", parts) for title, parts in sides]


def by_part(figures: Figures) -> list[Table]:
    """By margin, origin, near-duplicates in training, and whether the source was cut."""
    return [
        _parts("By margin", "distance of the two scores", figures.margin),
        _parts("By origin of the network", "origin", figures.origin),
        _parts("By near-duplicates", "test networks", figures.near_duplicate),
        _parts("By the source shown", "test networks", figures.cut),
    ]


def pair_table(figures: Figures) -> Table:
    """7 × 7: accuracy minus prior, and n, for each pair of datasets; the lower half."""
    names = sorted({name for part in figures.pairs for name in (part.dataset_1, part.dataset_2)})
    cells = {(part.dataset_1, part.dataset_2): f"{number(part.gain, sign=True)} ({part.n:,})" for part in figures.pairs}
    rows = [
        (low, *(cells.get((high, low), NO_NUMBER) if high < low else "" for high in names[:-1])) for low in names[1:]
    ]
    return Table("Accuracy minus prior (pairs)", ("dataset", *names[:-1]), rows)


def pair_list(figures: Figures) -> Table:
    """The same pairs of datasets one below the other, with everything that was measured of each."""
    return _parts("Each pair of datasets", "datasets", figures.pairs)


def paper(study: Study) -> Table:
    """The paper's figures beside ours."""
    ours = [(c, f) for c, f in finished(study.cells) if is_usual(c) and c.train_networks is None]
    rows: list[tuple[str, ...]] = []
    for figure in FIGURES:
        rows.append(
            (f"theirs: {figure.what}", "deepseek-coder-7b", number(figure.accuracy), interval(figure.ci95),
             NO_NUMBER if figure.right is None else str(EXAMPLES), NO_NUMBER, number(figure.accuracy),
             f"peak over {EPOCHS} epochs, no split")
        )  # fmt: skip
        for cell, found in ours:
            if figure.prompt is not None and cell.prompt == figure.prompt:
                tag = f" ({cell.tag})" if cell.tag else ""
                seed = f", seed {cell.seed}" if cell.seed else ""
                rows.append(
                    (f"ours: {cell.prompt}{tag}{seed}", cell.base, number(found.accuracy.value),
                     interval(found.accuracy.ci95), f"{found.n_test_pairs:,}", number(found.prior.value),
                     number(found.peak_test_accuracy), "epoch by validation, networks never seen")
                )  # fmt: skip
    head = ("whose, prompt", "base", "accuracy", "95 % interval", "n", "prior", "peak over epochs", "how")
    return Table("The paper's figures beside ours", head, rows)


def states(study: Study) -> Table:
    """Every cell, what became of it, and how long its run took."""
    rows = []
    for cell in study.cells:
        seconds = study.timings.get(cell.name)
        took = NO_NUMBER if seconds is None else f"{seconds / 60:.1f} min"
        rows.append((cell.name, _state(cell), took, cell.device or NO_NUMBER))
    return Table("Cells", ("cell", "state", "time", "device"), rows)


def curve(study: Study) -> Table:
    """The baselines after so many training networks."""
    rows = []
    for p in study.learning_curve:
        sides = [word for name in BASELINES for word in (number(p.accuracy.get(name)), interval(p.ci95.get(name)))]
        rows.append((f"{p.networks:,}", f"{p.train_pairs:,}", *sides, f"{p.n_test_pairs:,}"))
    head = [word for label in BASELINES.values() for word in (label, "95 % interval")]
    return Table("Baselines", ("training networks", "training pairs", *head, "test pairs"), rows)


BASELINES = {"pair_prior": "pair prior", "code_gbm": "trees on the source", "recipe_gbm": "trees on the recipes"}


def _cells(cell: CellResult, tests: int) -> tuple[str, ...]:
    found = cell.figures
    if found is None:
        return (state(cell), *(NO_NUMBER for _ in _HEAD[1:]))
    skill = found.skill
    return (
        outcome(cell, tests), number(found.peak_test_accuracy), number(found.accuracy.value),
        interval(found.accuracy.ci95), number(found.prior.value), number(skill.value, sign=True),
        interval(skill.ci95, sign=True), f"{skill.p:.4f}", f"{found.n_test_pairs:,}", f"{found.n_test_networks:,}",
    )  # fmt: skip


def _state(cell: CellResult) -> str:
    return f"{state(cell)}: {cell.reason}" if cell.reason else state(cell)


def _parts(title: str, what: str, parts: Sequence[Part]) -> Table:
    rows = [
        (part.name, number(part.accuracy), interval(part.ci95), number(part.prior), number(part.gain, sign=True),
         interval(part.gain_ci95, sign=True), f"{part.n:,}", f"{part.networks:,}")
        for part in parts
    ]  # fmt: skip
    return Table(title, (what, *_PART_HEAD), rows)
