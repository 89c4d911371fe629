"""A study in its order: what each section says and shows. page.py and the Markdown only lay it out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from nngpt_ext.evaluation.tables import Table
from nngpt_ext.evaluation.wording import number
from nngpt_ext.study import lines, pictures, tables
from nngpt_ext.study.canvas import Picture
from nngpt_ext.study.conclusions import conclusions
from nngpt_ext.study.glossary import glossary
from nngpt_ext.study.paper import EXAMPLES
from nngpt_ext.study.schema import CellResult, Figures, Study
from nngpt_ext.study.words import finished, full_name, judged, setting, shows_the_answer


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
    terms: Sequence[tuple[str, str]] = ()


def sections(study: Study) -> list[Section]:
    """All sections, always the same ones, whatever is finished."""
    done = finished(study.cells)
    intervals = "Intervals are 95 %, over networks; the prior is measured on the same pairs."
    narrow = (
        "An interval of no width is no certainty: all networks of that part were answered alike, and drawing them anew "
        "shows no spread."
    )
    known = judged(study.cells)
    return [
        Section("conclusions", "Conclusions", "Made from the figures below by fixed rules, none of them by hand.",
                [tables.verdicts(study)] if known else [], _present(pictures.skills(study, "skills")),
                points=conclusions(study)),
        Section("words", "Words", "", terms=glossary(study)),
        Section(
            "prompts", "Prompts and base models",
            "Two accuracies stand side by side. The peak is the paper's protocol: the best test accuracy of any epoch, "
            "chosen by looking at the test set, and so too good. What may be claimed is the accuracy at the epoch that "
            f"validation chose; skill, interval and p are of that one. {intervals} Boosted trees see the same pairs "
            "without a language model.",
            [*tables.headline(study), *([tables.trees(study)] if done else [])], _curves(done),
        ),
        Section("datasets", "Per dataset",
                "Pairs that involve a dataset tell how well it is judged. Pairs whose answer it is are picked by their "
                "outcome: the prior has them all right where the dataset is the usual winner, and all wrong where it "
                f"is not, so they show what is found and what is missed, not skill. {intervals} {narrow}",
                details=_details(done, "bars", tables.per_dataset, pictures.bars)),
        Section("pairs", "Pairs of datasets",
                f"Accuracy minus prior of each pair of datasets, and how many test pairs that is of. {narrow}",
                details=_details(done, "heat", lambda f: [tables.pair_table(f), tables.pair_list(f)],
                                 pictures.heat_map)),
        Section("parts", "Easy and hard pairs, origins, near-duplicates",
                "The margin is the distance of the two scores that the label compares: near-ties are hard, and luck "
                "decides them. The origin is a network's name before the first hyphen; those of few test networks "
                f"stand together. {intervals} {narrow}",
                details=_details(done, "parts", tables.by_part, None)),
        Section("splits", "The same prompt under other splits",
                "by_network tests on networks that training never saw, most of which have a near-duplicate there; "
                "by_cluster on such as have none; random_pairs is leaky, for comparison with published figures only. "
                "Each split has test pairs and a prior of its own: compare skills, not accuracies.",
                tables.along(study, "split")),
        Section("labels", "Other labels and other trials",
                "The percentile label takes the datasets' own difficulty out of the answer, and with it most of the "
                "prior. Random trials: the run of the same name asked about one random trial for each network and "
                "dataset, instead of the best ones.",
                [*tables.along(study, "label"), *tables.along(study, "tested_on")]),
        Section("capacity", "Capacity", "The same question put to base models of other sizes, on the same test pairs.",
                [*tables.along(study, "base"), *([tables.comparisons(study)] if study.comparisons else [])]),
        Section("paper", "The paper's figures",
                f"Theirs are of {EXAMPLES} examples an epoch, at their best epoch, without a split: the examples are "
                "drawn from the rows that are trained on. Their interval is Wilson's, as if the examples were "
                "independent, which those of one network are not: it is rather too narrow. Ours are of networks that "
                "training never saw. Of theirs no prior is known.", [tables.paper(study)]),
        Section("reliability", "Reliability",
                "Whether a probability means what it says: of the pairs to whose first dataset it gives 0.8, eight in "
                "ten should go to it. ECE, the expected calibration error, is the mean distance from that, in 15 bins "
                "of equally many pairs; calibration is fitted on the validation networks.",
                details=_details(done, "reliability", None, pictures.reliability)),
        Section("coverage", "Accuracy against coverage",
                "What is left when the least sure answers are held back. The prior holds back too, where the winner is "
                "least usual: a prompt is of use where its line lies above that one.", pictures=_coverages(done)),
        Section("learning", "Learning curve",
                "Accuracy after so many training networks, on the same test pairs, under by_network with the "
                "normalized label. The baselines learn from best trials; a prompt with recipes may learn from all.",
                [tables.curve(study)] if study.learning_curve else [],
                _present(lines.learning_curve(study, "learning"))),
        Section("made", "How this was made", "", [tables.states(study), *_made(study)]),
    ]  # fmt: skip


def _present(picture: Picture | None) -> list[Picture]:
    return [] if picture is None else [picture]


def _groups(done: lines.Found) -> Iterator[list[tuple[CellResult, Figures]]]:
    """Cells of one setting, base and seed: those that share their test pairs, and so their prior.

    Those whose prompt holds the answer are by themselves: beside them all others would be one line.
    """
    groups: dict[tuple[str, str, int, bool], list[tuple[CellResult, Figures]]] = {}
    for cell, figures in done:
        groups.setdefault((setting(cell), cell.base, cell.seed, shows_the_answer(cell)), []).append((cell, figures))
    yield from groups.values()


def _curves(done: lines.Found) -> list[Picture]:
    drawn = (lines.epoch_curves(cells, f"epochs-{i}") for i, cells in enumerate(_groups(done)))
    return [picture for picture in drawn if picture is not None]


def _coverages(done: lines.Found) -> list[Picture]:
    return [lines.coverage(cells, f"coverage-{i}") for i, cells in enumerate(_groups(done))]


def _details(
    done: lines.Found,
    key: str,
    made: Callable[[Figures], Sequence[Table]] | None,
    drawn: Callable[[CellResult, Figures, str], Picture] | None,
) -> list[Detail]:
    return [
        Detail(
            f"{full_name(cell)}: {number(figures.accuracy.value)}, prior {number(figures.prior.value)}",
            made(figures) if made else [],
            [drawn(cell, figures, f"{key}-{i}")] if drawn else [],
        )
        for i, (cell, figures) in enumerate(done)
    ]


def _made(study: Study) -> list[Table]:
    rows = [
        ("command", study.command),
        *((f"machine that drew this page: {name}", str(value)) for name, value in study.hardware.items()),
        *(study.versions.items()),
    ]
    return [Table("Command, machine and versions", ("what", "value"), rows)]
