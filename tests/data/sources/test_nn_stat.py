"""`nn_stat` of a database of nn-dataset 2.2.11: its numbers are read as structure where nothing was measured."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.nn_stat import stated_structures
from nngpt_ext.networks.catalogue import shipped
from nngpt_ext.networks.structure import Structure, source_key
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.structures import with_structures

NETWORK = "VGG"
# As ab.nn.util.NNAnalysis of nn-dataset 2.2.11 found it at 3x32x32 and 10 classes.
ROW = {"total_params": 128_807_306, "trainable_params": 128_807_306, "total_layers": 32, "flops": 544_686_080}
LINEAR = {"count": 3, "input_dims": [25_088, 4_096, 4_096], "output_dims": [4_096, 4_096, 10]}


@pytest.fixture
def newer(database: Path, tmp_path: Path) -> tuple[Path, str]:
    """The small database with the table of 2.2.11 and a row for one set of hyperparameters; its transform."""
    file = shutil.copy(database, tmp_path / "ab.nn.db")
    with closing(sqlite3.connect(file)) as connection:
        connection.execute(
            "CREATE TABLE nn_stat (id TEXT PRIMARY KEY, nn_name TEXT NOT NULL, prm_id TEXT NOT NULL, "
            "total_params INTEGER, trainable_params INTEGER, total_layers INTEGER, flops INTEGER, meta_json TEXT, "
            "error TEXT)"
        )
        some = (
            "SELECT prm, transform FROM stat WHERE nn = ? AND dataset = ? AND transform IN ('norm_32', 'norm_32_flip')"
        )
        prm, transform = connection.execute(some, (NETWORK, "cifar-10")).fetchone()
        meta = json.dumps({"linear_info": LINEAR, "conv_info": {"count": 8}})
        rows = [("a", NETWORK, prm, *ROW.values(), meta, None), ("b", "ga-321", "no trial", *ROW.values(), None, None),
                ("c", "AirNet", prm, *[None] * 4, None, "RuntimeError()")]  # fmt: skip
        connection.executemany(f"INSERT INTO nn_stat VALUES ({', '.join('?' * 9)})", rows)
        connection.commit()
    return file, transform


def test_only_rows_whose_shape_is_known(newer: tuple[Path, str], database: Path) -> None:
    file, transform = newer
    stated = {"parameters": 128_807_306, "trainable": 128_807_306, "modules": 32, "linear": 3, "linear_inputs": 25_088}
    assert stated_structures(file) == {(NETWORK, "cifar-10", transform): stated}
    assert stated_structures(database) == {}
    with closing(sqlite3.connect(file)) as connection:  # the same hyperparameters on another dataset
        connection.execute("UPDATE stat SET prm = (SELECT prm_id FROM nn_stat WHERE id = 'a') WHERE nn = ?", (NETWORK,))
        connection.commit()
    assert stated_structures(file) == {}


def test_the_numbers_are_those_that_we_measure(newer: tuple[Path, str], lemur_sources: dict[str, str]) -> None:
    (stated,) = stated_structures(newer[0]).values()
    ours = {one.numbers()["parameters"]: one for one in shipped([source_key(lemur_sources[NETWORK])]).values()
            if isinstance(one, Structure)}[stated["parameters"]]  # fmt: skip
    assert stated.items() <= ours.numbers().items()


def test_they_stand_in_for_what_was_not_measured(newer: tuple[Path, str]) -> None:
    config = DataConfig(source="sqlite", path=str(newer[0]), split="random_pairs")
    data = load_pairs(config)
    own = data.pairs[data.pairs["nn"] == NETWORK]
    changed = replace(data, pairs=own, training=own, sources={NETWORK: "class Net: never_seen = 1\n"})
    found = with_structures(changed, get_template("structure"), "never").pairs
    by_dataset = dict(zip(found["dataset_1"], found["structure_1"], strict=True))
    assert by_dataset["cifar-10"] == Structure(
        parameters=128_807_306, trainable=128_807_306, modules=32, linear=3, linear_inputs=25_088
    )
    assert by_dataset["cifar-100"] == Structure()
