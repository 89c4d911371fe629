"""The tables of a study."""

from __future__ import annotations

from nngpt_ext.evaluation.schema import Skill
from nngpt_ext.study import tables
from nngpt_ext.study.paper import FIGURES
from nngpt_ext.study.schema import Comparison, CurvePoint
from tests.study.made import cell, figures, part, study


def test_every_row_has_a_cell_for_each_column():
    found = study(
        cell("recipe", figures()), cell("recipe", figures(), split="by_cluster"),
        cell("recipe", base="deepseek-coder-7b"),
        cell("recipe", figures(), tested_on="random"), cell("recipe", figures(), label="percentile"),
        cell("recipe", figures(), seed=1), cell("code_only", status="failed"), cell("metadata", status="waiting"),
        learning_curve=[CurvePoint(networks=3, train_pairs=9, n_test_pairs=8, accuracy={"pair_prior": 0.8})],
    )  # fmt: skip
    gain = Skill(value=0.01, ci95=(0.0, 0.02), p=0.04)
    pair = [one.name for one in found.cells[:2]]
    found = found.model_copy(
        update={"comparisons": [Comparison(first=pair[0], second=pair[1], n=9, networks=3, difference=gain)]}
    )
    every = [
        tables.verdicts(found), tables.trees(found), tables.comparisons(found), tables.pair_list(figures()),
        *tables.headline(found),
        *(table for axis in ("split", "base", "label", "tested_on") for table in tables.along(found, axis)),
        tables.paper(found), tables.states(found), tables.curve(found), *tables.per_dataset(figures()),
        *tables.by_part(figures()), tables.pair_table(figures()),
    ]  # fmt: skip
    assert all(len(row) == len(table.header) for table in every for row in table.rows)
    assert all(table.rows for table in every)


def test_headline_has_both_protocols_beside_the_prior():
    (table,) = tables.headline(study(cell("recipe", figures(0.05)), cell("code_only")))
    first = dict(zip(table.header, table.rows[0], strict=True))
    assert first["peak over epochs (paper's protocol)"] == "0.880"
    assert (first["accuracy, epoch by validation"], first["prior"], first["skill"]) == ("0.850", "0.800", "+0.050")
    assert first["verdict"] == "beats the prior"
    assert table.rows[1][2] == "not run"


def test_several_seeds_are_told_apart():
    (table,) = tables.headline(study(cell("recipe", figures()), cell("recipe", figures(), seed=1)))
    assert [row[2] for row in table.rows] == ["0", "1"]


def test_a_prompt_under_the_splits_that_there_are_and_are_not():
    (table,) = tables.along(study(cell("recipe", figures()), cell("recipe", figures(), split="by_cluster")), "split")
    assert [(row[0], row[1]) for row in table.rows] == [
        ("by_network", "beats the prior"), ("by_cluster", "beats the prior"), ("random_pairs", "not in this study"),
    ]  # fmt: skip


def test_one_cell_is_no_comparison():
    assert (
        tables.along(study(cell("recipe", figures()), cell("code_only", figures(), label="percentile")), "label") == []
    )


def test_pairs_of_datasets_have_difference_and_count():
    table = tables.pair_table(figures(0.05))
    assert (table.header, table.rows) == (("dataset", "cifar-10"), [("mnist", "+0.050 (100)")])


def test_the_papers_figures_are_marked_as_theirs():
    found = tables.paper(study(cell("code_only", figures()), cell("code_only", figures(), split="by_cluster")))
    theirs = [row for row in found.rows if row[0].startswith("theirs: ")]
    ours = [row for row in found.rows if row[0].startswith("ours: ")]
    assert len(theirs) == len(FIGURES)
    assert [row[3] for row in theirs] == ["0.886 to 1.000", "0.521 to 0.833", "–", "0.627 to 0.905"]
    assert ours == [("ours: code_only", "embedded", "0.850", "0.700 to 0.900", "100", "0.800", "0.880",
                     "epoch by validation, networks never seen")]  # fmt: skip


def test_reasons_stand_with_the_cells():
    (row,) = tables.states(study(cell("recipe"))).rows
    assert row[1] == "not run: no card"


def test_verdicts_name_the_datasets():
    parts = [part("mnist", 0.05), part("svhn", -0.05), part("cifar-10", 0.05, p=0.3)]
    found = study(cell("recipe", figures(involving=parts)), cell("normalized_accuracy", figures(0.19)))
    (row,) = tables.verdicts(found).rows
    assert row == (
        "recipe", "beats the prior", "embedded", "by_network, normalized label", "+0.050", "+0.030 to +0.070", "0.0001",
        "mnist", "svhn",
    )  # fmt: skip


def test_trees_are_beside_every_cell():
    against = {"recipe_gbm": Skill(value=-0.01, ci95=(-0.02, 0.0), p=0.04)}
    own = figures(baselines={"pair_prior": 0.8, "recipe_gbm": 0.86}, against=against)
    (row,) = tables.trees(study(cell("recipe", own))).rows
    assert row[2:] == ("0.850", "–", "–", "–", "0.860", "-0.010", "-0.020 to +0.000", "100")


def test_learning_curve_has_intervals_where_they_were_computed():
    """Curves that an earlier version kept have none."""
    new = CurvePoint(networks=3, train_pairs=9, n_test_pairs=8, accuracy={"pair_prior": 0.8}, ci95={"pair_prior": (0.7, 0.9)})  # fmt: skip  # noqa: E501
    old = new.model_copy(update={"ci95": {}})
    rows = tables.curve(study(learning_curve=[new, old])).rows
    assert [row[2:4] for row in rows] == [("0.800", "0.700 to 0.900"), ("0.800", "–")]
