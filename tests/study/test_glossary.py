"""The words on the page."""

from __future__ import annotations

from nngpt_ext.data.words import SPLITS
from nngpt_ext.prompts.builtin import NAMES
from nngpt_ext.study.glossary import glossary
from tests.study.made import cell, study


def terms(*cells) -> dict[str, str]:
    return dict(glossary(study(*cells)))


def test_what_the_study_has_is_explained_and_nothing_else():
    found = terms(cell("recipe"), cell("recipe", split="by_cluster"), cell("mine.json", base="owner/name"))
    assert {"pair", "pair prior", "skill", "recipe", "by_network", "by_cluster", "embedded"} <= found.keys()
    assert not {"code_only", "random_pairs", "embedded-small", "mine.json", "owner/name"} & found.keys()


def test_every_prompt_and_split_that_ships_is_explained():
    for name in NAMES:
        assert name in terms(cell(name))
    for split in SPLITS:
        assert split in terms(cell(split=split))
