"""What the shipped base models were trained on, and that adapters of earlier versions still find their bases."""

import json

import pytest

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.io import file_digest, text_digest
from nngpt_ext.models.presets import EMBEDDED, EMBEDDED_SMALL, SHIPPED
from research.embedded.corpus import paired_networks

ALL = pytest.mark.parametrize("folder", SHIPPED)


@ALL
def test_it_has_read_no_network_of_any_pair(folder):
    corpus = set(json.loads((folder / "corpus.json").read_text()))
    lemur = open_source("package")
    paired = paired_networks(read_trials(lemur, None).frame)
    assert len(paired) == 3343
    assert len(corpus) > 1000
    assert corpus.isdisjoint(text_digest(text)[:16] for text in lemur.sources(sorted(paired)).values())


@ALL
def test_what_it_has_read_is_lemurs(folder):
    corpus = set(json.loads((folder / "corpus.json").read_text()))
    lemur = open_source("package")
    every = {text_digest(text)[:16] for text in lemur.sources(sorted(lemur.networks())).values()}
    assert corpus <= every


@ALL
def test_its_card_says_what_it_is(folder):
    card = (folder / "README.md").read_text()
    assert "No accuracy of LEMUR was in its training" in card
    assert "parameters" in card


@pytest.mark.parametrize(
    ("folder", "weights"),
    [
        (EMBEDDED, "c679e88fbc89d3a1c730eab6b47c90bf2de3d974348e6bab61d03df087629ae1"),
        (EMBEDDED_SMALL, "90650554d1a0b71c6d7609166559dc0d6411ee4d5414ea045cd635c7aa9de505"),
    ],
)
def test_the_first_bases_stay_as_they_are(folder, weights):
    # Adapters are trained on exactly these.
    tokenizer = "312d6002cfcfa494d08f2ad7735827583893162bb2ce1bbd9f391f9a6ab4e17a"
    assert file_digest(folder / "model.safetensors") == weights
    assert file_digest(folder / "tokenizer.json") == tokenizer
