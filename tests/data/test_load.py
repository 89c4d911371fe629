"""All of the data that a run needs, put together."""

from __future__ import annotations

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from nngpt_ext.data.load import load_pairs, read_records
from nngpt_ext.data.pairs import PAIR_COLUMNS, build_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.splits import PARTS
from nngpt_ext.errors import UserError
from tests.data.small import one_line

KEYS = ["nn", "dataset_1", "dataset_2"]


@pytest.fixture(scope="module")
def data(tree: Path, cache: Path):
    return load_pairs(DataConfig(path=str(tree)))


def test_the_columns_and_the_parts(data) -> None:
    assert tuple(data.pairs.columns) == (*PAIR_COLUMNS, "split")
    assert set(data.pairs["split"]) == set(PARTS)
    assert data.source == "package"
    assert data.excluded == {}
    assert sum(len(data.part(part)) for part in PARTS) == len(data.pairs)
    assert data.part("test").index.tolist() == list(range(len(data.part("test"))))
    assert_frame_equal(data.training, data.part("train"))


def test_what_is_not_used_is_counted(data, tree: Path, database: Path) -> None:
    assert data.networks == data.pairs.groupby("split")["nn"].nunique().to_dict()
    limited = load_pairs(DataConfig(path=str(tree), train_networks=1, test_networks=1))
    assert limited.networks == data.networks
    assert limited.part("train")["nn"].nunique() == limited.part("test")["nn"].nunique() == 1
    trials = read_records(DataConfig(path=str(tree))).trials.frame
    assert data.unpaired == limited.unpaired == trials["nn"].nunique() - data.pairs["nn"].nunique()
    # Records that are not the installed ones are named by their place.
    assert data.place == str(tree.resolve())
    assert load_pairs(DataConfig(path=str(database))).place == str(database.resolve())


def test_sources_are_held_once_a_network(data, tree: Path) -> None:
    assert set(data.sources) == set(data.pairs["nn"])
    assert data.sources["Alex_Net"] == (tree / "nn" / "AlexNet.py").read_text()


def test_the_database_gives_the_same_data(data, database: Path) -> None:
    other = load_pairs(DataConfig(path=str(database)))
    assert other.source == "sqlite"
    assert_frame_equal(other.pairs, data.pairs, check_exact=True)
    assert (other.sources, other.fingerprint) == (data.sources, data.fingerprint)


def test_the_fingerprint_is_of_the_trials(data, tree: Path) -> None:
    assert load_pairs(DataConfig(path=str(tree))).fingerprint == data.fingerprint
    assert load_pairs(DataConfig(path=str(tree), seed=3, label="percentile")).fingerprint == data.fingerprint
    assert load_pairs(DataConfig(path=str(tree), epoch=1)).fingerprint != data.fingerprint


def test_excluded_trials_are_reported(data, database: Path, tmp_path: Path) -> None:
    file = shutil.copy(database, tmp_path / "ab.nn.db")
    with closing(sqlite3.connect(file)) as connection:
        where = "WHERE epoch = 5 AND nn = 'VGG' AND task = 'img-classification' AND metric = 'acc'"
        n = connection.execute(f"UPDATE stat SET accuracy = 1.7 {where}").rowcount
        connection.commit()
    found = load_pairs(DataConfig(path=str(file)))
    assert n > 0
    assert found.excluded == {"accuracy outside [0, 1]": n}
    assert set(data.pairs["nn"]) - set(found.pairs["nn"]) == {"VGG"}
    assert found.fingerprint != data.fingerprint


def test_two_networks_are_too_few(faulty_tree: Path) -> None:
    with pytest.raises(UserError, match="split by_network leaves no validation pairs at epoch 5"):
        load_pairs(DataConfig(path=str(faulty_tree)))


def test_all_trials_train_and_the_best_test(data, tree: Path) -> None:
    every = load_pairs(DataConfig(path=str(tree), trials="all"))
    assert_frame_equal(every.pairs, data.pairs)  # validation and test stay as they are
    assert len(every.training) > 2 * len(data.training)
    left, right = (set(frame[KEYS].itertuples(index=False, name=None)) for frame in (every.training, data.training))
    assert left == right
    assert set(every.training["split"]) == {"train"}
    assert not set(every.training["nn"]) & (set(data.part("test")["nn"]) | set(data.part("validation")["nn"]))
    assert tuple(every.training.columns) == tuple(data.training.columns)


def test_random_trials_are_random_in_all_parts(data, tree: Path) -> None:
    drawn = load_pairs(DataConfig(path=str(tree), trials="random", seed=1))
    same = load_pairs(DataConfig(path=str(tree), seed=1))
    assert_frame_equal(drawn.pairs[[*KEYS, "split"]], same.pairs[[*KEYS, "split"]])
    for part in PARTS:
        assert (drawn.part(part)["accuracy_1"] < same.part(part)["accuracy_1"]).any()
    assert_frame_equal(load_pairs(DataConfig(path=str(tree), trials="random", seed=1)).pairs, drawn.pairs)


def test_fewer_networks(data, tree: Path) -> None:
    few = load_pairs(DataConfig(path=str(tree), train_networks=5, validation_networks=None, test_networks=2))
    names = {part: set(few.part(part)["nn"]) for part in PARTS}
    assert [len(names[part]) for part in PARTS] == [5, data.part("validation")["nn"].nunique(), 2]
    for part in PARTS:
        assert names[part] <= set(data.part(part)["nn"])  # chosen within the split, which stays
    more = load_pairs(DataConfig(path=str(tree), train_networks=9))
    assert names["train"] < set(more.part("train")["nn"])
    assert set(few.training["nn"]) == names["train"]
    every = load_pairs(DataConfig(path=str(tree), trials="all", train_networks=5))
    assert set(every.training["nn"]) == names["train"]
    other = load_pairs(DataConfig(path=str(tree), train_networks=5, seed=1))
    assert set(other.part("train")["nn"]) != names["train"]


def test_normalisation_is_a_constant_of_the_data(data, tree: Path) -> None:
    names = set(data.pairs["nn"])
    few = load_pairs(DataConfig(path=str(tree), train_networks=5, test_networks=2))
    merged = few.pairs.merge(data.pairs, on=KEYS, suffixes=("", "_all"))
    assert len(merged) == len(few.pairs)
    assert (merged["norm_acc_1"] == merged["norm_acc_1_all"]).all()
    assert len(names) > merged["nn"].nunique()


def test_near_duplicates(data) -> None:
    train, test = set(data.training["nn"]), set(data.part("test")["nn"])
    found = data.near_duplicates()
    assert found <= test
    twins = {name for name in test if any(data.sources[name] == data.sources[other] for other in train)}
    assert twins <= found


def test_marks_and_bytes_in_sources(database: Path, tree: Path, tmp_path: Path) -> None:
    """Sources that are stored as bytes or begin with a byte order mark are those that questions show."""
    expected = load_pairs(DataConfig(source="package", path=str(tree))).sources
    for change in ("CAST(code AS BLOB)", "char(65279) || code", "CAST(char(65279) || code AS BLOB)"):
        copy = Path(shutil.copy(database, tmp_path / "ab.nn.db"))
        with closing(sqlite3.connect(copy)) as writer:
            writer.execute(f"UPDATE nn SET code = {change}")
            writer.commit()
        assert load_pairs(DataConfig(source="sqlite", path=str(copy))).sources == expected
    with closing(sqlite3.connect(copy)) as writer:
        writer.execute("UPDATE nn SET code = X'ff'")
        writer.commit()
    with pytest.raises(UserError, match=r"the source of network '.*' is not UTF-8 \(byte 0\)"):
        load_pairs(DataConfig(source="sqlite", path=str(copy)))


def test_messages_name_the_split_and_the_epoch(tree: Path) -> None:
    with pytest.raises(UserError) as error:
        load_pairs(DataConfig(path=str(tree), epoch=999))
    assert one_line(error.value).startswith("no pairs at epoch 999")
    with pytest.raises(UserError) as error:
        load_pairs(DataConfig(path=str(tree), split="by_origin", hold_out="nobody"))
    assert "no network of origin 'nobody'" in one_line(error.value)


def test_the_source_is_said_in_one_line(tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="nngpt_ext"):
        load_pairs(DataConfig(path=str(tree)))
    assert [m for m in caplog.messages if m.startswith("records: package at")] == caplog.messages


def test_real_data(lemur_pairs: pd.DataFrame, lemur_sources: dict[str, str]) -> None:
    data = load_pairs(DataConfig(source="package"))
    assert_frame_equal(data.pairs.drop(columns="split"), lemur_pairs)
    assert data.sources == lemur_sources
    assert len(data.part("test")) == 3_873


def test_real_percentiles_in_the_same_split(lemur_trials) -> None:
    data = load_pairs(DataConfig(source="package", label="percentile"))
    assert len(data.part("test")) == 3_873
    expected = build_pairs(lemur_trials.frame, 5, label="percentile")["better_dataset"]
    assert data.pairs["better_dataset"].equals(expected)
