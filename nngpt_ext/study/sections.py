"""A study as a page and as Markdown: sentences, families never seen, the verdicts, then pictures and tables."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nngpt_ext.data.splits import SPLITS
from nngpt_ext.evaluation.baselines.bradley_terry import BRADLEY_TERRY
from nngpt_ext.evaluation.baselines.priors import PRIORS
from nngpt_ext.evaluation.figures import OverFamilies, Skill
from nngpt_ext.evaluation.metrics import METRICS
from nngpt_ext.evaluation.statistics import FEW
from nngpt_ext.io import write_text
from nngpt_ext.study import pictures
from nngpt_ext.study.measurement import NEAR
from nngpt_ext.study.outcome import OVER, RULE, CellResult, Figures, Study
from nngpt_ext.study.pictures import Picture
from nngpt_ext.study.price import price_sentence, price_table
from nngpt_ext.views.faces import filled, markdown_table, plain, print_tables
from nngpt_ext.views.table import Table
from nngpt_ext.views.wording import NO_NUMBER, count, interval, number

PAGE, MARKDOWN, JSON = "index.html", "study.md", "study.json"
_SHORT = 6  # the number of columns of the main tables that fit on a terminal


@dataclass(frozen=True)
class Section:
    """A section of the page; `key` is its id, and `details` are the tables of each cell, which can be unfolded."""

    key: str
    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    details: Sequence[tuple[str, Sequence[Table]]] = ()


def write_study(study: Study, folder: Path) -> None:
    """Write study.json, study.md and index.html; each is whole or left as it was.

    Raises:
        UserError: if a file cannot be written.
    """
    found = sections(study)
    text = json.dumps(study.model_dump(mode="json"), indent=1, ensure_ascii=False, allow_nan=False)
    for name, content in ((JSON, text + "\n"), (MARKDOWN, to_markdown(study, found)), (PAGE, to_html(study, found))):
        write_text(folder / name, content)


def to_html(study: Study, found: Sequence[Section]) -> str:
    """The page: one file, which requests nothing from the network. Text from the study is escaped."""
    return filled(
        "study/page.html.jinja", study=study, sections=found, sentences=sentences(study), skills=pictures.skills(study)
    )


def to_markdown(study: Study, found: Sequence[Section]) -> str:
    """The sentences and tables of the page, without the pictures."""
    parts = [f"# {plain(study.title)}", *map(plain, sentences(study))]
    for section in found:
        if section.tables or section.details:
            parts += [f"## {plain(section.title)}", plain(section.text)]
            parts += [markdown_table(table, 3) for table in section.tables]
            for label, tables in section.details:
                parts += [f"### {plain(label)}", *(markdown_table(table, 4) for table in tables)]
    return "\n\n".join(parts) + "\n"


def print_study(study: Study) -> None:
    """Print the sentences, the first columns of the main tables, and the cells that are not finished."""
    shown = [
        Table(whole.title, whole.header[:_SHORT], [row[:_SHORT] for row in whole.rows], whole.caption)
        for whole in (*families(study)[:1], *map(price_table, study.priced().values()), verdicts(study))
        if whole.rows
    ]
    missing = [(f"{cell.name}: {_state(cell)}",) for cell in study.cells if cell.figures is None]
    if missing:
        shown.append(Table("Not finished", ("cell",), missing))
    print_tables("\n".join(sentences(study)), shown)


def sentences(study: Study) -> list[str]:
    """How many cells there are, how many showed skill, how the splits differ, and what families never seen show."""
    finished, compared = study.finished(), study.compared()
    shown = [cell for cell, _ in compared if cell.verdict == "skill shown"]
    where = ", ".join(dict.fromkeys(f"{cell.prompt} under {cell.split}" for cell in shown))
    paid = [price_sentence(points) for points in study.priced().values()]
    if not study.cells:
        return paid
    near: dict[str, float] = {}
    for cell, figures in finished:
        near.setdefault(cell.split, figures.slices[NEAR][0].networks / figures.n_test_networks)
    resembling = ", ".join(f"{share:.0%} under {split}" for split, share in near.items())
    tested = [cell for cell in study.of_families() if cell.verdict_beyond not in (None, "answer in prompt")]
    beyond = [f"{cell.prompt}, {cell.family_level}" for cell in tested if cell.verdict_beyond == "skill shown"]
    found = [
        f"Of {count(len(study.cells), 'cell')} (each a prompt, a base model, a split and a label), {len(finished)} are "
        f"finished, and {len(compared)} of these can show skill: their prompt does not contain the answer, and their "
        "split is not leaky.",
        f"{len(shown)} of them showed skill{f' ({where})' if where else ''}: they were correct more often than the "
        "pair prior, which always names the usual winner of the two datasets.",
        "Compare skill, not accuracy, between splits: each has its own test pairs and its own prior, and they differ "
        f"in how many test networks have a near-duplicate in training{f' ({resembling})' if near else ''}.",
    ]
    if tested:
        named = f" ({'; '.join(beyond)})" if beyond else ""
        found.append(
            f"On networks of families never seen, {len(beyond)} of {count(len(tested), 'cell')} showed skill beyond "
            f"the best prior, which may know the network's kind{named}."
        )
    return found + paid


def sections(study: Study) -> list[Section]:
    """The sections that are not empty."""
    groups, finished = pictures.groups(study), study.finished()
    splits = dict.fromkeys(cell.split for cell in study.cells)
    notes = [(note,) for note in (SPLITS[name].warning for name in splits if name in SPLITS) if note]
    # A study of an older version lacks the figures of metrics that were added later.
    measured = [
        metric for metric in METRICS.values()
        if any(getattr(figures, metric.name, None) is not None for _, figures in finished)
    ]  # fmt: skip
    made = Table("Command and versions", ("what", "value"), [("command", study.command), *study.versions.items()])
    found = [
        Section(
            "families", "Networks of families never seen",
            "What to expect of networks unlike those in training: every family is tested by an adapter that saw no "
            "network of it. The best prior is the better of pair prior and kind prior on all pairs of a cell; the kind "
            "prior knows where a network comes from. All baselines answer the same pairs.",
            families(study),
        ),
        Section(
            "price", "The price of knowing",
            "Networks of families never seen, trained with one recipe on each of two datasets: how often the better "
            "dataset is named before both trainings are paid for. The early rule names the one with the higher "
            "accuracy so far, relative to the best of other networks; the trees (or a ridge regression) know these "
            "accuracies, recipe and structure. All rows of a table answer the same pairs.",
            [price_table(points) for points in study.priced().values()],
            [pictures.price(study, level) for level in study.priced()],
        ),
        Section(
            "verdicts", "Verdicts",
            "The pair prior names the dataset that usually wins and never looks at the network; skill is accuracy "
            "minus the accuracy of the pair prior on the same pairs.",
            [table for table in (verdicts(study), Table("About the splits", ("note",), notes)) if table.rows],
        ),
        Section(
            "datasets", "Accuracy per dataset",
            "Points: accuracy on the test pairs that involve the dataset, with 95 % intervals over "
            f"{OVER}. Bars: the pair prior on the same pairs. The slices below have the numbers.",
            pictures=[pictures.datasets(cells) for cells in groups],
        ),
        Section(
            "epochs", "Accuracy by epoch",
            "Filled: the epoch chosen by validation, on which all other figures are based. The best of all epochs is "
            "the paper's protocol (the peak in the table): it is chosen by looking at the test set, and so too high.",
            _of_cells(
                study, "Two protocols", ("chosen epoch", "accuracy, epoch by validation", "prior", "peak over epochs"),
                lambda f: (
                    NO_NUMBER if f.selected_epoch is None else f"{f.selected_epoch:g}",
                    *map(number, (f.accuracy.value, f.prior, f.peak_test_accuracy)),
                ),
            ),
            _drawn(*map(pictures.epochs, groups)),
        ),
        Section(
            "learning", "Learning curve",
            "Baselines and prompts after training on more and more networks, always on the same test pairs.",
            [_curve(study)] if study.learning_curve else [], _drawn(pictures.learning_curve(study)),
        ),
        Section(
            "reliability", "Reliability of the probabilities",
            "If the first dataset of a pair is given a probability of 0.8, it should win eight times in ten. ECE, the "
            "expected calibration error, is the mean deviation from that in 15 bins of equally many pairs; calibration "
            "is fitted on the validation networks.",
            _of_cells(
                study, "Probabilities", (*(metric.label for metric in measured), "ECE, calibrated"),
                lambda f: (*(number(getattr(f, metric.name, None)) for metric in measured), number(f.ece_calibrated)),
            ),
            [pictures.reliability(cells) for cells in groups],
        ),
        Section(
            "coverage", "Accuracy against coverage",
            "Accuracy when the least confident answers are left out. The prior can leave out answers too, so a prompt "
            "is useful where its line is above that of the prior.",
            pictures=[pictures.coverage(cells) for cells in groups],
        ),
        Section(
            "bases", "Base models compared",
            "The answers of two base models to the same questions, compared pair by pair.",
            [_comparisons(study)] if study.comparisons else [],
        ),
        Section(
            "slices", "Slices of each cell",
            f"Intervals are 95 %, over {OVER}; about one in twenty of accuracy − prior excludes 0 by chance. Pairs "
            "whose answer is a dataset are chosen by their outcome: they show what is found and what is missed, not "
            "skill.",
            details=[
                (f"{cell.title}, {cell.setting}: accuracy {number(figures.accuracy.value)}", slices(figures))
                for cell, figures in finished
            ],
        ),
        Section("made", "How this was made", "", [*([_states(study)] if study.cells else []), made]),
    ]  # fmt: skip
    return [section for section in found if section.tables or section.pictures or section.details]


def _drawn(*found: Picture | None) -> list[Picture]:
    return [picture for picture in found if picture is not None]


def families(study: Study) -> list[Table]:
    """The cells that test on families never seen, beside the strongest baselines; empty if there are none."""
    names = [baseline.name for baseline in (*PRIORS, *BRADLEY_TERRY) if not baseline.evidence]
    rows: list[tuple[str, ...]] = []
    single: list[tuple[str, ...]] = []
    marked: set[int] = set()
    for cell in study.of_families():
        where = cell.prompt, cell.base, cell.setting
        measured = [NO_NUMBER] * (9 + len(names))
        found = cell.figures
        if found is not None and found.families is not None and (beyond := found.skill_beyond_best_prior) is not None:
            if cell.verdict_beyond == "skill shown":
                marked.add(len(rows))
            *gain, p = _gain(beyond)
            others = [found.baselines.get(name) for name in names]
            measured = [
                *gain, number(found.accuracy.value), interval(found.accuracy.ci95),
                *(number(None if other is None else other.accuracy) for other in others), beyond.prior, p,
                f"{found.n_test_pairs:,}", f"{found.n_test_networks:,}", f"{found.families.families:,}",
            ]  # fmt: skip
            own = *_over(found.families.mean), *_over(found.families.without_largest)
            single.append((*where, *own, number(found.families.largest_share)))
        rows.append((*where, cell.verdict_beyond or cell.status, *measured))
    what = "prompt", "base model", "tested under"
    columns = (
        *what, "verdict", "beyond the best prior", "95 % interval", "accuracy", "95 % interval", *names, "best prior",
        "p", "pairs", "networks", "families",
    )  # fmt: skip
    sides = [
        word for side in ("mean over families", "without the largest family")
        for word in (side, "95 % interval", "beyond the best prior", "95 % interval")
    ]  # fmt: skip
    tables = [
        Table(
            "Beyond the best prior", columns, rows,
            f"If the interval, over families, includes 0, or there are fewer than {FEW} families, no skill was shown.",
            frozenset(marked),
        ),
        Table(
            "What a single family decides", (*what, *sides, "share of the largest family"), single,
            "Accuracies in which each family counts the same, and without the family that has most of the pairs.",
        ),
    ]  # fmt: skip
    return [table for table in tables if table.rows]


def _over(found: OverFamilies | None) -> tuple[str, ...]:
    if found is None:
        return (NO_NUMBER,) * 4
    accuracy, gain = found.accuracy, found.difference
    return (
        number(accuracy.value),
        interval(accuracy.ci95),
        number(gain.value, sign=True),
        interval(gain.ci95, sign=True),
    )


def verdicts(study: Study) -> Table:
    """Every cell with its verdict and figures; the cells of a prompt are next to each other."""
    adjusted, n = study.adjusted(), len(study.compared())
    prompts = list(dict.fromkeys(cell.prompt for cell in study.cells))
    rows: list[tuple[str, ...]] = []
    marked: set[int] = set()
    for cell in sorted(study.cells, key=lambda cell: prompts.index(cell.prompt)):
        if cell.verdict == "skill shown":
            marked.add(len(rows))
        measured = [NO_NUMBER] * 10
        if (found := cell.figures) is not None:
            best = max(found.others.items(), key=lambda other: other[1].accuracy, default=None)
            holm = adjusted.get(cell.name)
            measured = [
                *_gain(found.skill), NO_NUMBER if holm is None else f"{holm:.4f}", number(found.accuracy.value),
                interval(found.accuracy.ci95), number(found.prior),
                NO_NUMBER if best is None else f"{best[0]} {best[1].accuracy:.3f}", f"{found.n_test_pairs:,}",
                f"{found.n_test_networks:,}",
            ]  # fmt: skip
        rows.append((cell.prompt, cell.base, cell.setting, cell.verdict or cell.status, *measured))
    header = (
        "prompt", "base model", "tested under", "verdict", "skill", "95 % interval", "p", "p (Holm)", "accuracy",
        "95 % interval", "prior", "best other baseline", "pairs", "networks",
    )  # fmt: skip
    caption = (
        f"{RULE} {count(n, 'cell')} {'was' if n == 1 else 'were'} compared, so some intervals may exclude 0 by chance; "
        "p (Holm) is p adjusted for their number."
    )
    return Table("Verdicts by cell", header, rows, caption, frozenset(marked))


def _of_cells(
    study: Study, title: str, columns: tuple[str, ...], measured: Callable[[Figures], tuple[str, ...]]
) -> list[Table]:
    """A table with a row for each finished cell, if there are any."""
    rows = [(cell.prompt, cell.base, cell.setting, *measured(figures)) for cell, figures in study.finished()]
    return [Table(title, ("prompt", "base model", "tested under", *columns), rows)] if rows else []


def _curve(study: Study) -> Table:
    names = list(dict.fromkeys(name for point in study.learning_curve for name in point.accuracy))
    rows: list[tuple[str, ...]] = []
    for p in study.learning_curve:
        sides = [word for name in names for word in (number(p.accuracy.get(name)), interval(p.ci95.get(name)))]
        rows.append((f"{p.networks:,}", f"{p.train_pairs:,}", *sides, f"{p.n_test_pairs:,}"))
    head = [word for name in names for word in (name, "95 % interval")]
    return Table("Baselines", ("training networks", "training pairs", *head, "test pairs"), rows)


def _comparisons(study: Study) -> Table:
    cells = {cell.name: cell for cell in study.cells}
    rows = []
    for found in study.comparisons:
        one, two = cells[found.first], cells[found.second]
        counts = f"{found.n:,}", f"{found.networks:,}"
        rows.append((one.prompt, one.setting, f"{one.base} − {two.base}", *_gain(found.difference), *counts))
    what = ("prompt", "tested under", "base models", "difference of accuracies")
    return Table("Differences", (*what, "95 % interval", "p", "pairs", "networks"), rows)


def slices(figures: Figures) -> list[Table]:
    """A cell beside each baseline, and on each slice of its test pairs."""
    against = [
        (name, number(other.accuracy), *_gain(other.difference))
        for name, other in figures.others.items()
        if other.difference is not None
    ]
    tables = [Table("Other baselines", ("baseline", "its accuracy", "accuracy − it", "95 % interval", "p"), against)]
    header = ("accuracy", "95 % interval", "prior", "accuracy − prior", "95 % interval", "n", "networks")
    for title, parts in figures.slices.items():
        rows = [
            (part.name, number(part.accuracy), interval(part.ci95), number(part.prior), number(part.gain, sign=True),
             interval(part.gain_ci95, sign=True), f"{part.n:,}", f"{part.networks:,}")
            for part in parts
        ]  # fmt: skip
        tables.append(Table(title, ("test pairs", *header), rows))
    return [table for table in tables if table.rows]


def _states(study: Study) -> Table:
    rows = []
    for cell in study.cells:
        time = f"{study.timings[cell.name] / 60:.1f} min" if cell.name in study.timings else NO_NUMBER
        rows.append((cell.name, _state(cell), time, cell.device or NO_NUMBER))
    caption = (
        "The time of a cell with folds is the sum of theirs." if any(cell.family_level for cell in study.cells) else ""
    )
    return Table("Cells", ("cell", "state", "time", "device"), rows, caption)


def _state(cell: CellResult) -> str:
    return f"{cell.status}: {cell.reason}" if cell.reason else cell.status


def _gain(gain: Skill) -> tuple[str, str, str]:
    return number(gain.value, sign=True), interval(gain.ci95, sign=True), f"{gain.p:.4f}"
