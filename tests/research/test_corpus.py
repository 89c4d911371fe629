"""What the embedded base model may read shares no source with any pair at any epoch."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.io import text_digest
from research.embedded.corpus import paired_networks, unpaired_sources
from tests.data.conftest import changing_tree, tree

__all__ = ["changing_tree", "tree"]


def test_paired_means_two_datasets_at_one_epoch() -> None:
    rows = [
        ("paired", "mnist", 1), ("paired", "svhn", 1),
        ("never together", "mnist", 1), ("never together", "svhn", 2),
        ("one only", "mnist", 1), ("one only", "mnist", 1), ("one only", "mnist", 2),
    ]  # fmt: skip
    assert paired_networks(pd.DataFrame(rows, columns=["nn", "dataset", "epoch"])) == {"paired"}


def test_a_shared_text_is_left_out(changing_tree: Path) -> None:
    sources = changing_tree / "nn"
    text = (sources / "AlexNet.py").read_text()
    (sources / "Twin.py").write_text(text)  # no records of its own, but AlexNet's text
    (sources / "Fresh.py").write_text(text + "\n# another\n")
    assert set(unpaired_sources(PackageSource(changing_tree))) == {"Fresh"}


@pytest.mark.slow  # reads all 90,000 files
def test_real_sources(lemur_source: PackageSource) -> None:
    sources = unpaired_sources(lemur_source)
    assert 7_000 < len(sources) <= 7_140
    every = read_trials(lemur_source, None).frame
    paired: set[str] = set()
    for epoch in sorted(every["epoch"].unique()):
        at = every[every["epoch"] == epoch]
        if (at.groupby("nn")["dataset"].nunique() >= 2).any():
            paired |= set(build_pairs(at, int(epoch))["nn"])
    assert len(paired) == 3_343
    assert not paired & set(sources)
    texts = lemur_source.sources(sorted(paired))
    assert not {text_digest(text) for text in texts.values()} & {text_digest(text) for text in sources.values()}
