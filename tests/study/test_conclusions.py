"""What is concluded follows from the figures, and from nothing else."""

from __future__ import annotations

import pytest

from nngpt_ext.study.conclusions import conclusions
from nngpt_ext.study.words import verdict
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
    text = said(cell("recipe", figures(0.05)), cell("code_only", figures(0.0, 0.9)), cell("metadata", figures(-0.05)))
    lines = text.splitlines()
    assert lines[0].endswith("1 beat the pair prior, 1 cannot be told apart from it, 1 are below it.")
    assert lines[1].startswith("Beats the pair prior: recipe, embedded, by_network, normalized label: skill +0.050")
    assert "above it on pairs with cifar-10;" in lines[1]  # not mnist, whose interval contains zero
    assert "+0.010 (-0.010 to +0.030) on the 100 pairs of networks without a near-duplicate" in lines[1]
    assert lines[2].startswith("Not told apart from the pair prior: code_only")
    assert lines[3].startswith("Below the pair prior: metadata")
    assert "0.05 / 3" in lines[4]


def test_parts_of_few_networks_are_not_spoken_of():
    text = said(cell("recipe", figures(involving=[part("svhn", 0.5, networks=9)], near_duplicate=[])))
    assert "svhn" not in text
    assert "svhn" in said(cell("recipe", figures(involving=[part("svhn", 0.5, networks=10)], near_duplicate=[])))


def test_what_cannot_tell_is_not_counted():
    answer = cell("normalized_accuracy", figures(0.19))
    leaky = cell("code_only", figures(0.05), split="random_pairs")
    text = said(answer, leaky, cell("code_only", figures(0.0, 0.9)))
    assert text.splitlines()[0].startswith("Of 1 finished cell that can tell")
    assert "Beats" not in text.splitlines()[1]
    assert "normalized_accuracy, embedded, by_network, normalized label reaches 0.990, and says nothing" in text
    assert "random_pairs (leaky), normalized label: skill +0.050" in text
    assert "0.05 / 1" in text


def test_by_cluster_stands_beside_by_network():
    text = said(cell("recipe", figures(0.05)), cell("recipe", figures(-0.01, 0.5), split="by_cluster"))
    assert "skill +0.050 under by_network and -0.010 (-0.030 to +0.010) under by_cluster" in text


def test_base_models_stand_beside_each_other():
    text = said(
        cell("recipe", figures(0.05)), cell("recipe", figures(0.01), base="small"), cell("recipe", base="large")
    )
    assert (
        "By base model, recipe, by_network, normalized label: skill +0.050 (+0.030 to +0.070) on embedded, "
        "+0.010 (-0.010 to +0.030) on small; the difference itself was not tested." in text
    )


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
