"""The tables of a study. They say what was measured; sections.py puts them into their order."""

from __future__ import annotations

from collections.abc import Sequence

from nngpt_ext.evaluation.tables import Table
from nngpt_ext.evaluation.wording import NO_NUMBER, interval, number
from nngpt_ext.lemur.words import SPLITS
from nngpt_ext.study.paper import EXAMPLES, FIGURES
from nngpt_ext.study.schema import CellResult, Figures, Part, Study
from nngpt_ext.study.words import AXES, PAPERS_PROTOCOL, finished, is_usual, setting, value_of

_HEAD = (
    PAPERS_PROTOCOL, "accuracy, epoch by validation", "95 % interval", "prior", "skill", "95 % interval", "p",
    "pairs", "networks", "state",
)  # fmt: skip
_PART_HEAD = ("accuracy", "95 % interval", "prior", "accuracy − prior", "95 % interval", "n", "networks")
# By_origin has one split for each origin, which are not the same prompt under another split.
_SPLITS = ("by_network", "by_cluster", "random_pairs")


def headline(study: Study) -> list[Table]:
    """Prompt × base, a table a setting."""
    tables = []
    for name in dict.fromkeys(setting(cell) for cell in study.cells):
        cells = [cell for cell in study.cells if setting(cell) == name]
        seeds = len({cell.seed for cell in cells}) > 1
        head = ("prompt", "base", *(("seed",) if seeds else ()), *_HEAD)
        rows = [(c.prompt, c.base, *((str(c.seed),) if seeds else ()), *_cells(c)) for c in cells]
        tables.append(Table(name, head, rows))
    return tables


def along(study: Study, axis: str) -> list[Table]:
    """The cells that differ on one axis only, side by side: a table for each group of two or more."""
    others = [name for name in AXES if name != axis]
    groups: dict[tuple[str, ...], list[CellResult]] = {}
    for cell in study.cells:
        groups.setdefault(tuple(value_of(cell, name) for name in others), []).append(cell)
    tables = []
    for cells in groups.values():
        if len(cells) < 2:
            continue
        first = cells[0]
        rows = [(value_of(cell, axis), *_cells(cell)) for cell in cells]
        if axis == "split":
            rows = _all_splits(cells)
        words = [first.prompt] if axis != "prompt" else []
        words += [first.base] if axis != "base" else []
        title = ", ".join([*words, setting(first, axis)] if setting(first, axis) else words)
        tables.append(Table(title, (axis.replace("_", " "), *_HEAD), rows))
    return tables


def _all_splits(cells: Sequence[CellResult]) -> list[tuple[str, ...]]:
    """A row for each split that a prompt is to be seen under, also where the study has no such cell."""
    known = {cell.split: cell for cell in cells}
    names = [split for split in SPLITS if split in _SPLITS or split in known]
    missing = (*(NO_NUMBER for _ in _HEAD[1:]), "not in this study")
    return [(name, *(_cells(known[name]) if name in known else missing)) for name in names]


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


def paper(study: Study) -> Table:
    """The paper's figures beside ours."""
    ours = [(c, f) for c, f in finished(study.cells) if is_usual(c) and c.train_networks is None]
    rows: list[tuple[str, ...]] = []
    for figure in FIGURES:
        rows.append(
            (f"theirs: {figure.what}", "deepseek-coder-7b", number(figure.accuracy), interval(figure.ci95),
             NO_NUMBER if figure.right is None else str(EXAMPLES), NO_NUMBER, "peak over 15 epochs, no split")
        )  # fmt: skip
        for cell, found in ours:
            if figure.prompt is not None and cell.prompt == figure.prompt:
                rows.append(
                    (f"ours: {cell.prompt}", cell.base, number(found.accuracy.value), interval(found.accuracy.ci95),
                     f"{found.n_test_pairs:,}", number(found.prior.value), "epoch by validation, networks never seen")
                )  # fmt: skip
    head = ("whose, prompt", "base", "accuracy", "95 % interval", "n", "prior", "how")
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
    rows = [
        (f"{p.networks:,}", f"{p.train_pairs:,}", *(number(p.accuracy.get(name)) for name in _BASELINES),
         f"{p.n_test_pairs:,}")
        for p in study.learning_curve
    ]  # fmt: skip
    return Table("Baselines", ("training networks", "training pairs", *_BASELINES, "test pairs"), rows)


_STATES = {"waiting": "not run yet"}
_BASELINES = ("pair_prior", "code_gbm", "recipe_gbm")


def _cells(cell: CellResult) -> tuple[str, ...]:
    found = cell.figures
    if found is None:
        return (*(NO_NUMBER for _ in _HEAD[1:]), _STATES.get(cell.status, cell.status))
    skill = found.skill
    return (
        number(found.peak_test_accuracy), number(found.accuracy.value), interval(found.accuracy.ci95),
        number(found.prior.value), number(skill.value, sign=True), interval(skill.ci95, sign=True),
        f"{skill.p:.4f}", f"{found.n_test_pairs:,}", f"{found.n_test_networks:,}", "finished",
    )  # fmt: skip


def _state(cell: CellResult) -> str:
    words = _STATES.get(cell.status, cell.status)
    return f"{words}: {cell.reason}" if cell.reason else words


def _parts(title: str, what: str, parts: Sequence[Part]) -> Table:
    rows = [
        (part.name, number(part.accuracy), interval(part.ci95), number(part.prior), number(part.gain, sign=True),
         interval(part.gain_ci95, sign=True), f"{part.n:,}", f"{part.networks:,}")
        for part in parts
    ]  # fmt: skip
    return Table(title, (what, *_PART_HEAD), rows)
