"""Kept pairs: as built anew, changes noticed, damage mended, and no pandas needed when they are there."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.kept import KeptPairs, kept_pairs
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.data.pairs import build_pairs, usual_winner_share
from tests.data.small import add_trials
from tests.data.test_cache import Counting


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Path:
    caplog.set_level(logging.INFO, logger="nngpt_ext")
    monkeypatch.setenv("NNGPT_EXT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lemur"


def kept(source: PackageSource, use: str = "best", seed: int = 0, label: str = "normalized") -> KeptPairs:
    return kept_pairs(source, 5, label=label, use=use, seed=seed)


@pytest.mark.parametrize("use", ["best", "random", "all"])
@pytest.mark.parametrize("label", ["normalized", "percentile"])
def test_they_are_the_pairs_built_anew(tree: Path, use: str, label: str) -> None:
    source = PackageSource(tree)
    trials = read_trials(source, 5, cached=False)
    wanted = build_pairs(trials.frame, 5, label=label, use=use, seed=3)
    for _ in range(2):
        found = kept(source, use, 3, label)
        read = found.frame()
        assert_frame_equal(read, wanted, check_exact=True, check_dtype=False)
        assert found.figures == {
            "pairs": len(wanted),
            "networks": wanted["nn"].nunique(),
            "pair_prior": usual_winner_share(wanted),
            "excluded": trials.excluded,
        }


def test_seeds_are_kept_apart_where_they_matter(tree: Path, folder: Path) -> None:
    source = PackageSource(tree)
    assert not kept(source, "random", 0).frame().equals(kept(source, "random", 1).frame())
    kept(source, "best", 0)
    before = len(list(folder.iterdir()))
    kept(source, "best", 1)
    assert len(list(folder.iterdir())) == before


def test_a_changed_source_is_noticed(changing_tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    source = Counting(changing_tree)
    before = kept(source).frame()
    add_trials(changing_tree, "AlexNet", "mnist", 5, [1.0, "high"])
    found = kept(source)
    assert source.reads == 2
    assert not found.frame().equals(before)
    assert found.figures["excluded"] == {"accuracy not a number": 1}
    assert "LEMUR: the source has changed; reading it again" in caplog.messages
    caplog.clear()
    assert kept(source).figures == found.figures
    assert caplog.messages == ["LEMUR: trials left out: 1 × accuracy not a number"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: next(folder.glob("*.pairs.parquet")).write_bytes(b"PAR1"),
        lambda folder: next(folder.glob("*.pairs.parquet")).unlink(),
        lambda folder: next(folder.glob("*.pairs.json")).write_text("{"),
        lambda folder: next(folder.glob("*.pairs.json")).write_text("[]"),
        lambda folder: drop_figures(next(folder.glob("*.pairs.json"))),
    ],
    ids=["cut pairs", "no pairs", "cut note", "a list", "no figures"],
)
def test_a_damaged_cache_is_built_again(
    tree: Path, folder: Path, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    source = PackageSource(tree)
    wanted = kept(source)
    pairs = wanted.frame()
    damage(folder)
    found = kept(source)
    assert_frame_equal(found.frame(), pairs)
    assert found.figures == wanted.figures
    assert sum("is damaged" in message for message in caplog.messages) == 1
    caplog.clear()
    kept(source)
    assert caplog.messages == []


def drop_figures(note: Path) -> None:
    content = json.loads(note.read_text())
    del content["figures"]["networks"]
    note.write_text(json.dumps(content))


def test_without_a_writable_cache_they_are_at_hand(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("NNGPT_EXT_CACHE", str(tmp_path / "file"))
    found = kept(PackageSource(tree))
    assert any(message.startswith("LEMUR: pairs are not cached") for message in caplog.messages)
    found.write(tmp_path / "pairs.parquet")
    read = pd.read_parquet(tmp_path / "pairs.parquet")
    assert len(read) == len(found.frame()) == found.figures["pairs"]
    found.frame().drop(columns="nn", inplace=True)
    assert "nn" in found.frame()  # each caller has a table of its own


def test_counting_them_again_loads_neither_pandas_nor_pyarrow(tree: Path, tmp_path: Path, folder: Path) -> None:
    code = (
        "import sys; from nngpt_ext.cli import app; "
        f"app(['pairs', '--lemur', {str(tree)!r}, '--out', {str(tmp_path / 'out.parquet')!r}], standalone_mode=False); "
        "print([name for name in ('pandas', 'pyarrow', 'numpy') if name in sys.modules])"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ)
        for _ in range(2)
    ]
    first, second = (run.stdout.splitlines() for run in runs)
    assert first[0] == second[0]
    assert second[-1] == "[]"
    assert len(pd.read_parquet(tmp_path / "out.parquet")) == kept(PackageSource(tree)).figures["pairs"]
