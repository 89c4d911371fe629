"""A study in its order: what each section says and shows. page.py and the Markdown only lay it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from nngpt_ext.evaluation.tables import Table
from nngpt_ext.study import pictures, tables
from nngpt_ext.study.canvas import Picture
from nngpt_ext.study.conclusions import conclusions
from nngpt_ext.study.paper import EXAMPLES
from nngpt_ext.study.schema import CellResult, Figures, Study
from nngpt_ext.study.words import finished, full_name, setting


class Detail(NamedTuple):
    """What a section shows of one cell, to be unfolded."""

    label: str
    tables: Sequence[Table]
    pictures: Sequence[Picture]


class Section(NamedTuple):
    """A part of the page; `key` is its id."""

    key: str
    title: str
    text: str
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    details: Sequence[Detail] = ()
    points: Sequence[str] = ()


def sections(study: Study) -> list[Section]:
    """All sections, always the same ones, whatever is finished."""
    done = finished(study.cells)
    intervals = "Intervals are 95 %, over networks; the prior is measured on the same pairs."
    return [
        Section("conclusions", "Conclusions", "Made from the figures below by fixed rules.", points=conclusions(study)),
        Section(
            "prompts", "Prompts and base models",
            "The first column of figures is the paper's protocol: the best test accuracy of any epoch, chosen by "
            "looking at the test set. The second is what may be claimed: the accuracy at the epoch that validation "
            "chose. "
            f"{intervals}",
            tables.headline(study), _curves(study, done),
        ),
        Section("datasets", "Per dataset", intervals,
                details=_details(done, "bars", tables.per_dataset, pictures.bars)),
        Section("pairs", "Pairs of datasets",
                "Accuracy minus prior of each pair of datasets, and how many test pairs that is of.",
                details=_details(done, "heat", lambda figures: [tables.pair_table(figures)], pictures.heat_map)),
        Section("parts", "Easy and hard pairs, origins, near-duplicates",
                f"The margin is the distance of the two scores that the label compares. {intervals}",
                details=_details(done, "parts", tables.by_part, None)),
        Section("splits", "The same prompt under other splits",
                "by_network tests on networks that training never saw, most of which have a near-duplicate there; "
                "by_cluster on such as have none; random_pairs is leaky, for comparison with published figures only.",
                tables.along(study, "split")),
        Section("labels", "Other labels and other trials",
                "The percentile label takes the datasets' own difficulty out of the answer, and with it most of the "
                "prior. Random trials: the run of the same name asked about one random trial for each network and "
                "dataset, instead of the best ones.",
                [*tables.along(study, "label"), *tables.along(study, "tested_on")]),
        Section("capacity", "Capacity", "The same question put to base models of other sizes.",
                tables.along(study, "base")),
        Section("paper", "The paper's figures",
                f"Theirs are of {EXAMPLES} examples an epoch, at their best epoch, without a split; their interval is "
                "Wilson's, as if the examples were independent.", [tables.paper(study)]),
        Section("reliability", "Reliability", "Whether a probability means what it says; ECE in 15 bins of like size.",
                details=_details(done, "reliability", None, pictures.reliability)),
        Section("coverage", "Accuracy against coverage",
                "What is left when the least sure answers are held back.", pictures=_coverages(done)),
        Section("learning", "Learning curve",
                "Accuracy after so many training networks, on the same test pairs, under by_network with the "
                "normalized label. The baselines learn from best trials; a prompt with recipes may learn from all.",
                [tables.curve(study)] if study.learning_curve else [],
                [p for p in [pictures.learning_curve(study, "learning")] if p is not None]),
        Section("made", "How this was made", "", [tables.states(study), *_made(study)]),
    ]  # fmt: skip


def _groups(done: pictures.Found) -> Iterator[list[tuple[CellResult, Figures]]]:
    """Cells of one setting, base and seed: those that share their test pairs, and so their prior."""
    groups: dict[tuple[str, str, int], list[tuple[CellResult, Figures]]] = {}
    for cell, figures in done:
        groups.setdefault((setting(cell), cell.base, cell.seed), []).append((cell, figures))
    yield from groups.values()


def _curves(study: Study, done: pictures.Found) -> list[Picture]:
    drawn = (pictures.epoch_curves(cells, f"epochs-{i}") for i, cells in enumerate(_groups(done)))
    return [picture for picture in drawn if picture is not None]


def _coverages(done: pictures.Found) -> list[Picture]:
    return [pictures.coverage(cells, f"coverage-{i}") for i, cells in enumerate(_groups(done))]


def _details(
    done: pictures.Found,
    key: str,
    made: Callable[[Figures], Sequence[Table]] | None,
    drawn: Callable[[CellResult, Figures, str], Picture] | None,
) -> list[Detail]:
    return [
        Detail(
            full_name(cell),
            made(figures) if made else [],
            [drawn(cell, figures, f"{key}-{i}")] if drawn else [],
        )
        for i, (cell, figures) in enumerate(done)
    ]


def _made(study: Study) -> list[Table]:
    rows = [
        ("command", study.command),
        *((f"machine: {name}", str(value)) for name, value in study.hardware.items()),
        *(study.versions.items()),
    ]
    return [Table("Command, machine and versions", ("what", "value"), rows)]
