"""What is concluded follows from the figures, and from nothing else."""

from __future__ import annotations

import pytest

from nngpt_ext.evaluation.schema import Skill
from nngpt_ext.study.conclusions import conclusions, lede
from nngpt_ext.study.schema import Comparison
from nngpt_ext.study.words import outcome, told_apart, verdict
from tests.study.made import cell, figures, part, study


def said(*cells) -> str:
    return "\n".join(conclusions(study(*cells)))


@pytest.mark.parametrize(
    ("skill", "p", "tests", "expected"),
    [
        (0.05, 0.0001, 12, "beats the prior"),
        (-0.05, 0.0001, 12, "is below the prior"),
        (0.05, 0.03, 12, "is not told apart from the prior"),  # of twelve, 0.03 is to be expected
        (0.05, 0.03, 1, "beats the prior"),
        (0.01, 0.0001, 1, "is not told apart from the prior"),  # the interval contains zero
    ],
)
def test_verdict(skill, p, tests, expected):
    assert verdict(figures(skill, p), tests) == expected


def test_one_network_is_no_ground():
    assert verdict(figures(n_test_networks=1), 1) == "is not told apart from the prior"


def test_which_prompts_where_and_which_not():
    lines = said(
        cell("code_only", figures(0.0, 0.9)), cell("metadata", figures(-0.05)), cell("recipe", figures(0.05)),
        cell("recipe", figures(0.01, 0.4), label="percentile"),
    ).splitlines()  # fmt: skip
    assert lines[0] == (
        "Of 4 finished cells that can tell (no answer in the prompt, no leaky split), 1 beats the pair prior, 2 cannot "
        "be told apart from it and 1 is below it."
    )
    assert lines[1] == (  # what beats it somewhere comes first
        "recipe beats the pair prior in 1 of 2 cells. Above it: embedded, by_network, normalized label, +0.050 "
        "(+0.030 to +0.070). Not told apart from it: embedded, by_network, percentile label, +0.010 "
        "(-0.010 to +0.030)."
    )
    assert lines[2].startswith("code_only beats the pair prior in none of 1 cell. Not told apart from it: embedded")
    assert lines[3].startswith("metadata beats the pair prior in none of 1 cell. Below it: embedded, by_network")
    assert lines[4].startswith(
        "Where recipe, embedded, by_network, normalized label beats the prior: above it on pairs with cifar-10; not "
        "told apart on pairs with mnist."
    )
    assert "+0.010 (-0.010 to +0.030) on the 100 pairs of networks without a near-duplicate" in lines[4]
    assert "below 0.05 / 4, for 4 cells" in lines[-1]
    assert "below 0.05 / 8." in lines[-1]  # two datasets in each


def test_none_and_all_are_counted_in_words():
    assert "none beats the pair prior, 1 cannot" in said(cell("code_only", figures(0.0, 0.9)))
    text = said(cell("recipe", figures()), cell("metadata", figures()))
    assert "2 beat the pair prior, none cannot be told apart from it and none is below it." in text


def test_datasets_are_told_apart_with_all_that_are_looked_at():
    """Of 63 datasets three have an interval clear of zero by chance."""
    parts = [
        part("sure", 0.05, p=0.0001), part("maybe", 0.05, p=0.004), part("none", 0.0, p=0.9),
        part("below", -0.05, p=0.0001), part("few", 0.5, networks=9, p=0.0001),
    ]  # fmt: skip
    assert told_apart(parts, 63) == (["sure"], ["below"])
    assert told_apart(parts, 1) == (["sure", "maybe"], ["below"])
    assert told_apart([part("untested", 0.5, p=None)], 1) == ([], [])


def test_parts_of_few_networks_are_not_spoken_of():
    def near(networks: int) -> str:
        parts = [part("with", 0.05), part("without", 0.5, networks=networks)]
        return said(cell("recipe", figures(near_duplicate=parts)))

    assert "near-duplicate in training" not in near(9)
    assert "+0.500" in near(10)


def test_what_cannot_tell_is_not_counted():
    answer = cell("normalized_accuracy", figures(0.19))
    leaky = cell("code_only", figures(0.05), split="random_pairs")
    text = said(answer, leaky, cell("code_only", figures(0.0, 0.9)))
    assert text.splitlines()[0].startswith("Of 1 finished cell that can tell")
    assert "none beats" in text.splitlines()[0]
    assert "normalized_accuracy, embedded, by_network, normalized label reaches 0.990, and says nothing" in text
    assert "random_pairs (leaky), normalized label: skill +0.050" in text
    assert "0.05 / 1" in text
    assert [outcome(c, 1) for c in (answer, leaky, cell("code_only"))] == ["shows the answer", "leaky", "not run"]


def test_by_cluster_stands_beside_by_network():
    far = cell("recipe", figures(-0.01, 0.5), split="by_cluster")
    text = said(cell("recipe", figures(0.05)), far)
    assert "skill +0.050 (+0.030 to +0.070) under by_network and -0.010 (-0.030 to +0.010) under by_cluster" in text
    assert "no sample of all networks" in text
    # Of other settings: the tag says so.
    assert "under by_cluster" not in said(cell("recipe", figures(0.05), tag="long"), far)


@pytest.mark.parametrize(
    ("gain", "p", "words"),
    [(0.05, 0.0001, "better than"), (-0.05, 0.0001, "worse than"), (0.05, 0.2, "not told apart from"),
     (0.01, 0.0001, "not told apart from")],
)  # fmt: skip
def test_base_models_are_compared_on_the_same_pairs(gain, p, words):
    large, small = cell("recipe", figures()), cell("recipe", figures(), base="small")
    gained = Skill(value=gain, ci95=(gain - 0.02, gain + 0.02), p=p)
    compared = Comparison(first=large.name, second=small.name, n=100, networks=40, difference=gained)
    text = "\n".join(conclusions(study(large, small, comparisons=[compared])))
    assert f"With recipe, by_network, normalized label, embedded is {words} small: {gain:+.3f}" in text
    assert "on the same 100 pairs." in text


def test_trees_that_see_the_same_stand_beside():
    trees = {
        "code_gbm": Skill(value=0.02, ci95=(0.01, 0.03), p=0.0001),
        "recipe_gbm": Skill(value=-0.01, ci95=(-0.02, 0.01), p=0.3),
    }
    own = figures(against=trees, baselines={"pair_prior": 0.8, "code_gbm": 0.83, "recipe_gbm": 0.86})
    text = said(cell("recipe", own), cell("code_only", own), cell("metadata_only", own))
    assert "Boosted trees on the two recipes, fitted on the same training trials, reach 0.860; recipe on embedded is not told apart" in text  # fmt: skip  # noqa: E501
    assert "Boosted trees on the source, fitted on the same training trials, reach 0.830; code_only on embedded is above them" in text  # fmt: skip  # noqa: E501
    assert "metadata_only on embedded" not in text  # they see a source, it does not


def test_what_the_recipes_tell_is_said_where_recipes_are_shown():
    words = "which training went better, not which dataset suits the network"
    assert words in said(cell("recipe", figures()))
    assert words not in said(cell("code_only", figures()))


def test_stand_ins_are_called_so():
    words = "are no code models"
    assert words in said(cell("code_only", figures()))
    assert words not in said(cell("code_only", figures()), cell("code_only", figures(), base="deepseek-coder-7b"))


def test_the_page_begins_with_what_it_answers():
    task, prior, answer = lede(
        study(
            cell("code_only", figures(0.0, 0.9)), cell("recipe", figures(0.05)),
            cell("recipe", figures(-0.01, 0.5), split="by_cluster"), cell("normalized_accuracy", figures(0.19)),
        )
    )  # fmt: skip
    assert "on which of two image datasets the network did better" in task
    assert "it is right in 80.0 % of 100 test pairs (by_network, normalized label)" in prior
    assert answer == (
        "Of the combinations tried (cells), it is beaten with recipe in 1 of 2 and with code_only in none of 1; on "
        "networks unlike those in training (by_cluster) it is beaten in none of 1."
    )
    assert lede(study(cell()))[-1] == "No cell that can tell how well it does so is finished yet."


@pytest.mark.parametrize(("prior", "holds"), [(0.82, "contains"), (0.95, "does not contain")])
def test_the_papers_interval_and_our_prior(prior, holds):
    found = figures(prior={"value": prior, "ci95": (0.7, 0.9), "n": 100})
    assert f"0.627 to 0.905, which {holds} the pair prior of our test pairs, {prior:.3f}" in said(
        cell("code_only", found)
    )


def test_what_is_not_there_is_told():
    text = said(
        cell("recipe", figures()), cell("code_only", base="deepseek-coder-7b"), cell("metadata", status="failed")
    )
    assert "Failed: metadata, embedded, by_network, normalized label." in text
    assert "Not run: code_only, deepseek-coder-7b, by_network, normalized label." in text


def test_nothing_finished():
    assert conclusions(study(cell())) == ["No cell is finished: there is nothing to conclude."]
