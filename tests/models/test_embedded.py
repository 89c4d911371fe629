"""What the shipped base model was trained on."""

import json

import pytest

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.io import text_digest
from nngpt_ext.models.presets import EMBEDDED, EMBEDDED_SMALL
from research.embedded.corpus import paired_networks

BOTH = pytest.mark.parametrize("folder", [EMBEDDED, EMBEDDED_SMALL])


@BOTH
def test_it_has_read_no_network_of_any_pair(folder):
    corpus = set(json.loads((folder / "corpus.json").read_text()))
    lemur = open_source("package")
    paired = paired_networks(read_trials(lemur, None).frame)
    assert len(paired) == 3343
    assert len(corpus) > 1000
    assert corpus.isdisjoint(text_digest(text)[:16] for text in lemur.sources(sorted(paired)).values())


@BOTH
def test_what_it_has_read_is_lemurs(folder):
    corpus = set(json.loads((folder / "corpus.json").read_text()))
    lemur = open_source("package")
    every = {text_digest(text)[:16] for text in lemur.sources(sorted(lemur.networks())).values()}
    assert corpus <= every


@BOTH
def test_its_card_says_what_it_is(folder):
    card = (folder / "README.md").read_text()
    assert "No accuracy of LEMUR was in its training" in card
    assert "parameters" in card
