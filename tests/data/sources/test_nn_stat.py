"""`nn_stat` of a database of nn-dataset 2.2.11: its numbers are read as structure where nothing was measured."""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.networks.catalogue import shipped
from nngpt_ext.networks.nn_stat import stated_structures
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


def change(file: Path, *statements: str, values: tuple[object, ...] = ()) -> None:
    with closing(sqlite3.connect(file)) as connection:
        for statement in statements:
            connection.execute(statement, values)
        connection.commit()


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("meta_json", "{", "meta_json in nn_stat of VGG is not JSON (Expecting property name enclosed in double quote"),
        ("meta_json", b"\xff\x00", "meta_json in nn_stat of VGG is not UTF-8 (byte 0); save it as UTF-8"),
        ("meta_json", "[" * 100_000, "meta_json in nn_stat of VGG is not JSON (too deeply nested)"),
        ("meta_json", "[1]", "linear_info in nn_stat of VGG cannot be read (a value has the wrong type)"),
        ("meta_json", 7, "linear_info in nn_stat of VGG cannot be read (a value has the wrong type)"),
        ("meta_json", '{"linear_info": {"count": 3}}', "linear_info in nn_stat of VGG cannot be read (a value has th"),
        ("meta_json", '{"linear_info": {"input_dims": [3]}}', "linear_info in nn_stat of VGG cannot be read (a value"),
        ("meta_json", '{"linear_info": {"count": 1, "input_dims": [3, "a"]}}', "linear_info in nn_stat of VGG cannot"),
        ("meta_json", '{"linear_info": {"count": "3", "input_dims": []}}', "nn_stat of VGG: linear must be a whole nu"),
        ("meta_json", '{"linear_info": {"count": 1, "input_dims": [2.5]}}', "nn_stat of VGG: linear_inputs must be a "),
        ("total_params", "many", "nn_stat of VGG: parameters must be a whole number from 0 to 1e+15, not 'many'"),
        ("trainable_params", -1, "nn_stat of VGG: trainable must be a whole number from 0 to 1e+15, not -1"),
        ("total_layers", 1.5, "nn_stat of VGG: modules must be a whole number from 0 to 1e+15, not 1.5"),
    ],
)  # fmt: skip
def test_a_damaged_row_is_left_out(
    newer: tuple[Path, str], caplog: pytest.LogCaptureFixture, column: str, value: object, why: str
) -> None:
    """And the others stay: the row of another network is as before."""
    file, _ = newer
    change(file, "UPDATE nn_stat SET prm_id = (SELECT prm FROM stat WHERE nn = 'ga-321' LIMIT 1) WHERE id = 'b'")
    whole = stated_structures(file)
    assert [nn for nn, _, _ in whole] == [NETWORK, "ga-321"]
    assert warnings(caplog) == []
    change(file, f"UPDATE nn_stat SET {column} = ? WHERE id = 'a'", values=(value,))
    assert stated_structures(file) == {key: one for key, one in whole.items() if key[0] == "ga-321"}
    (told,) = warnings(caplog)
    assert told.startswith(f"damaged rows in nn_stat of '{file}' are left out: 1, the first: {why}"), told


def test_a_run_goes_on_with_what_is_damaged(newer: tuple[Path, str], caplog: pytest.LogCaptureFixture) -> None:
    change(newer[0], "UPDATE nn_stat SET meta_json = '{'")
    data = load_pairs(DataConfig(source="sqlite", path=str(newer[0]), split="random_pairs"))
    own = data.pairs[data.pairs["nn"] == NETWORK]
    changed = replace(data, pairs=own, training=own, sources={NETWORK: "class Net: never_seen = 1\n"})
    found = with_structures(changed, get_template("structure"), "never").pairs
    assert set(found["structure_1"]) == {Structure()}
    assert [line for line in warnings(caplog) if "nn_stat" in line] == [
        f"damaged rows in nn_stat of '{newer[0]}' are left out: 1, the first: meta_json in nn_stat of VGG is not JSON "
        "(Expecting property name enclosed in double quotes: line 1 column 2 (char 1))"
    ]


@pytest.mark.parametrize("columns", [["meta_json"], ["error", "trainable_params"], ["id"]])
def test_a_table_without_a_column(
    newer: tuple[Path, str], caplog: pytest.LogCaptureFixture, columns: list[str]
) -> None:
    rest = [c for c in ("id", "nn_name", "prm_id", *ROW, "meta_json", "error") if c not in columns]
    some = ", ".join(rest)
    change(newer[0], f"CREATE TABLE other AS SELECT {some} FROM nn_stat", "DROP TABLE nn_stat",
           "ALTER TABLE other RENAME TO nn_stat")  # fmt: skip
    assert stated_structures(newer[0]) == {}
    assert warnings(caplog) == [
        f"the structures in nn_stat of '{newer[0]}' are not used: it has no column {', '.join(columns)}"
    ]


def test_an_empty_error_is_none(newer: tuple[Path, str]) -> None:
    before = stated_structures(newer[0])
    change(newer[0], "UPDATE nn_stat SET error = '' WHERE id = 'a'")
    assert stated_structures(newer[0]) == before != {}


def test_a_number_that_is_not_stated_is_unknown(newer: tuple[Path, str]) -> None:
    change(newer[0], "UPDATE nn_stat SET trainable_params = NULL WHERE id = 'a'")
    (stated,) = stated_structures(newer[0]).values()
    assert (stated["trainable"], stated["parameters"]) == (None, 128_807_306)
