"""The verdict of a cell follows from its figures by one rule."""

from __future__ import annotations

import pytest

from nngpt_ext.study.outcome import holm
from tests.study.made import cell, figures, of_families, study


@pytest.mark.parametrize(
    ("skill", "expected"),
    [(0.05, "skill shown"), (-0.05, "below the prior"), (0.01, "no skill shown"), (-0.01, "no skill shown")],
)
def test_an_interval_that_includes_0_shows_no_skill(skill, expected):
    assert cell("recipe", figures(skill)).verdict == expected


def test_one_network_shows_nothing_about_others():
    assert cell("recipe", figures(n_test_networks=1)).verdict == "no skill shown"


def test_what_can_show_no_skill_is_not_compared():
    shown, leaky = cell("normalized_accuracy", figures()), cell("recipe", figures(), split="random_pairs")
    assert (shown.verdict, leaky.verdict, cell("recipe").verdict) == ("answer in prompt", "leaky split", None)
    found = study(shown, leaky, cell("recipe"), cell("recipe", figures(p=0.04)), cell("code_only", figures(p=0.02)))
    assert [one.prompt for one, _ in found.compared()] == ["recipe", "code_only"]
    assert list(found.adjusted().values()) == pytest.approx([0.04, 0.04])


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (of_families(0.02), "skill shown"), (of_families(-0.02), "below the prior"),
        (of_families(0.005), "no skill shown"), (of_families(0.02, families=29), "no skill shown"),
        (figures(), None), (None, None),
    ],
)  # fmt: skip
def test_the_verdict_beyond_the_best_prior_is_over_families(found, expected):
    assert cell("recipe", found, split="by_family", family_level="near").verdict_beyond == expected


def test_an_answer_in_the_prompt_is_no_skill_beyond_a_prior_either():
    assert cell("normalized_accuracy", of_families(), split="by_family").verdict_beyond == "answer in prompt"


def test_holm():
    """The example of R's p.adjust: every p times the number of hypotheses left, and never less than the one before."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_setting_says_what_differs_from_the_defaults():
    assert cell("recipe").setting == "by_network, normalized"
    other = cell("recipe", split="by_cluster", tested_on="random", train_networks=1500, tag="long", seed=3)
    assert other.setting == "by_cluster, normalized, random trials, at most 1,500 training networks, long, seed 3"
