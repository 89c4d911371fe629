"""A user's table of trials, in each format: what is read, what is refused with what to write, what is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.data.load import read_records
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.discovery import open_sources
from nngpt_ext.data.sources.trial_table import TableSource
from nngpt_ext.errors import UserError
from nngpt_ext.settings import build_config
from tests.data.small import one_line

FACTS = {name: DatasetFacts(100, 32, 3, 10) for name in ("roses", "tulips")}
ROWS = pd.DataFrame(
    {
        "nn": ["a", "a", "b", "b"],
        "dataset": ["roses", "tulips", "roses", "tulips"],
        "epoch": [3, 3, 3, 7],
        "accuracy": [0.5, 0.75, 0.25, 1.0],
        "lr": [0.1, 0.01, None, 0.001],
        "optimizer": ["adam_w", "sgd", "sgd", None],
        "val_loss": [1.0, 2.0, 3.0, 4.0],
        "duration": [5, 6, 7, 8],
        "uid": ["p", "q", "r", "s"],
        "nn_code": ["class A: pass", None, "class B: pass", None],
    }
)


def written(frame: pd.DataFrame, file: Path) -> Path:
    if file.suffix == ".csv":
        frame.to_csv(file, index=False)
    elif file.suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_parquet(file, index=False)
    return file


def table(tmp_path: Path, frame: pd.DataFrame = ROWS, **given: Any) -> TableSource:
    return TableSource(written(frame, tmp_path / "trials.csv"), FACTS, **given)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_every_format_yields_the_same_trials_and_sources(suffix: str, tmp_path: Path) -> None:
    source = TableSource(written(ROWS, tmp_path / f"trials{suffix}"), FACTS)
    trials = read_trials(source, None, cached=False)
    expected = ROWS.drop(columns=["val_loss", "duration", "uid", "nn_code"])
    assert trials.excluded == {}
    assert dict(source.recipe) == {"lr": "number", "optimizer": "text"}  # no result, time or name of a trial
    assert_frame_equal(trials.frame, expected, check_dtype=False, check_exact=True)
    assert read_trials(source, 7, cached=False).frame["accuracy"].tolist() == [1.0]
    assert source.sources(["a", "b"]) == {"a": "class A: pass", "b": "class B: pass"}


def test_a_folder_of_tables_is_one(tmp_path: Path) -> None:
    folder = tmp_path / "logs"
    folder.mkdir()
    written(ROWS[:2], folder / "one.csv")
    written(ROWS[2:], folder / "two.parquet")
    found = read_trials(TableSource(folder, FACTS), None, cached=False).frame
    assert_frame_equal(found, read_trials(table(tmp_path), None, cached=False).frame, check_exact=True)
    written(ROWS.rename(columns={"epoch": "at"}), folder / "two.parquet")
    with pytest.raises(UserError, match=r"two\.parquet.*no column epoch, unlike 'one\.csv'"):
        read_trials(TableSource(folder, FACTS), None, cached=False)


def test_names_of_columns_are_mapped_and_percentages_divided(tmp_path: Path) -> None:
    theirs = ROWS.rename(columns={"nn": "model", "accuracy": "val_acc"}).assign(train_acc=1.0)
    theirs["val_acc"] *= 100
    with pytest.raises(UserError) as error:
        read_trials(table(tmp_path, theirs), None, cached=False)
    assert '{"nn": "model", "accuracy": "val_acc"}' in one_line(error.value)
    assert "a trial has one accuracy, and a row for each epoch" in str(error.value)
    mapped = {"nn": "model", "accuracy": "val_acc"}
    with pytest.raises(UserError, match=r"100 % of the accuracies are above 1.*val_acc / 100"):
        read_trials(table(tmp_path, theirs, columns=mapped), None, cached=False)
    source = table(tmp_path, theirs, columns={**mapped, "accuracy": "val_acc / 100"})
    found = read_trials(source, None, cached=False).frame
    assert_frame_equal(found, read_trials(table(tmp_path), None, cached=False).frame)  # nor is train_acc a recipe
    with pytest.raises(UserError, match=r"no column 'val_ac' \(did you mean 'val_acc'\?\) \(data\.columns\)"):
        read_trials(table(tmp_path, theirs, columns={**mapped, "accuracy": "val_ac"}), None, cached=False)


def test_several_accuracies_are_refused_until_one_is_named(tmp_path: Path) -> None:
    several = ROWS.assign(top5=0.9)
    with pytest.raises(
        UserError, match=r"several accuracies a trial, accuracy, top5; say .*{\"accuracy\": \"accuracy\"}"
    ):
        read_trials(table(tmp_path, several), None, cached=False)
    found = read_trials(table(tmp_path, several, columns={"accuracy": "accuracy"}), None, cached=False)
    assert "top5" not in found.frame.columns
    lists = written(ROWS.assign(accuracy=[[0.1, 0.2]] * 4), tmp_path / "lists.jsonl")
    with pytest.raises(UserError, match="several accuracies in a row; write a row for each epoch"):
        read_trials(TableSource(lists, FACTS), None, cached=False)


def test_a_name_may_be_a_word_for_nothing(tmp_path: Path) -> None:
    rows = ROWS.replace({"dataset": {"roses": "None"}, "nn": {"b": "nan"}}).assign(decay=["NA", 0.1, "NaN", "null"])
    source = TableSource(written(rows, tmp_path / "trials.csv"), {**FACTS, "None": FACTS["roses"]})
    trials = read_trials(source, None, cached=False)
    assert trials.excluded == {}
    assert sorted(trials.frame["dataset"].unique()) == ["None", "tulips"]
    assert sorted(source.sources(["a", "nan"])) == sorted(trials.frame["nn"].unique()) == ["a", "nan"]
    assert source.recipe["decay"] == "number"


def test_what_cannot_be_used_is_counted(tmp_path: Path) -> None:
    odd = pd.concat([ROWS] * 10, ignore_index=True).astype({"accuracy": object, "epoch": object})
    odd.loc[0, "accuracy"], odd.loc[1, "epoch"], odd.loc[2, "dataset"], odd.loc[3, "nn"] = None, "last", "lilies", "c"
    trials = read_trials(table(tmp_path, odd), None, cached=False)
    assert trials.excluded == {
        "accuracy missing": 1, "epoch not a whole number": 1, "no facts of dataset 'lilies'": 1,
        "network without source": 1,
    }  # fmt: skip
    assert len(trials.frame) == 36


def test_a_declared_recipe_is_read_as_it_says(tmp_path: Path) -> None:
    odd = ROWS.assign(decay=["1e-3", "none", "0", "0.5"], tag=["x"] * 4)
    assert dict(table(tmp_path, odd).recipe)["decay"] == "text"  # one value is no number
    source = table(tmp_path, odd, recipe={"decay": "number"})
    frame = read_trials(source, None, cached=False).frame
    assert list(frame.columns[4:]) == ["decay"]
    assert frame["decay"].fillna(-1).tolist() == [0.001, -1, 0.0, 0.5]
    with pytest.raises(UserError, match=r"no column dekay \(data\.recipe\)"):
        _ = table(tmp_path, odd, recipe={"dekay": "number"}).recipe
    recipe = build_pairs(frame, 3)["recipe_1"].iloc[0]
    assert recipe == {"decay": 0.001}


def test_sources_are_files_or_a_column(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "a.py").write_text("class A: pass")
    source = table(tmp_path, ROWS, code=str(tmp_path / "nets"))
    assert source.networks() == {"a"}
    assert source.sources(["a"]) == {"a": "class A: pass"}
    assert table(tmp_path, ROWS.rename(columns={"nn_code": "text"}), code="text").networks() == {"a", "b"}
    with pytest.raises(UserError, match=r"no sources of the networks: .* no column 'nowhere'"):
        table(tmp_path, ROWS, code="nowhere").networks()
    with pytest.raises(UserError, match="network 'a' has two different sources"):
        table(tmp_path, ROWS.assign(nn_code=list("wxyz"))).networks()


def test_a_changed_table_is_read_again(tmp_path: Path) -> None:
    assert len(read_trials(table(tmp_path), 3).frame) == 3
    assert len(read_trials(table(tmp_path, ROWS[:2]), 3).frame) == 2
    assert "optimizer" not in read_trials(table(tmp_path, ROWS[:2], recipe={"lr": "number"}), 3).frame.columns


def test_the_configuration_opens_it(tmp_path: Path) -> None:
    file = written(ROWS, tmp_path / "trials.parquet")
    facts = tmp_path / "datasets.yaml"
    facts.write_text("".join(f"{n}: {{train_images: 1, image_size: 2, channels: 3, classes: 4}}\n" for n in FACTS))
    for given in ({"source": "table", "path": str(file)}, {"path": str(file)}, {"sources": [{"table": str(file)}]}):
        described = given if "sources" not in given else {"sources": [{"table": str(file), "facts": str(facts)}]}
        config = build_config(DataConfig, described if "sources" in given else {**given, "facts": str(facts)})
        source = open_sources(config.places)
        assert source.kind == "table"
        assert source.facts["roses"] == DatasetFacts(1, 2, 3, 4)
        assert DataConfig.model_validate(config.model_dump(mode="json")) == config
    with pytest.raises(UserError, match="no table of trials at"):
        TableSource(tmp_path / "none.csv", FACTS)
    with pytest.raises(UserError, match="columns goes with source table, not package"):
        open_sources(build_config(DataConfig, {"source": "package", "columns": {"nn": "model"}}).places)
    with pytest.raises(UserError, match="give path of each source, in sources"):
        build_config(DataConfig, {"path": "x", "sources": ["lemur"]})
    with pytest.raises(UserError, match="transform is a text, as in LEMUR"):
        build_config(DataConfig, {"path": str(file), "recipe": {"transform": "number"}})


def test_what_follows_the_accuracy_is_no_recipe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    accuracy = pd.Series([(7 * i % 40) / 40 for i in range(40)])
    many = pd.concat([ROWS] * 10, ignore_index=True).assign(
        accuracy=accuracy, lr=accuracy, rate=1 - accuracy, hits=10_000 * accuracy, wide=[i % 3 for i in range(40)]
    )
    with caplog.at_level("INFO"):
        assert dict(table(tmp_path, many).recipe) == {"lr": "number", "optimizer": "text", "wide": "number"}
    assert "(rate, hits: in each dataset as the accuracy, or its opposite)" in caplog.text
    assert '\'recipe\': {"lr": "number", "optimizer": "text", "wide": "number", "val_loss": "number"}' in caplog.text
    assert dict(table(tmp_path, many, recipe={"rate": "number"}).recipe) == {"rate": "number"}


def test_percentages_as_texts_and_of_some_trials_only(tmp_path: Path) -> None:
    texts = ROWS.assign(accuracy=[f"{100 * x:.0f}%" for x in ROWS["accuracy"]])
    with pytest.raises(UserError, match=r'are percentages, such as 50%; divide them: .*"accuracy / 100"'):
        read_trials(table(tmp_path, texts), None, cached=False)
    source = table(tmp_path, texts, columns={"accuracy": "accuracy / 100"})
    assert read_trials(source, None, cached=False).frame["accuracy"].tolist() == ROWS["accuracy"].tolist()
    texts.loc[0, "accuracy"] = "0.5"
    with pytest.raises(UserError, match="3 of 4 accuracies end in %, the others do not; write all"):
        read_trials(table(tmp_path, texts), None, cached=False)
    some = ROWS.assign(accuracy=[50.0, 0.75, 25.0, 1.0])
    with pytest.raises(UserError, match=r"most of dataset roses, but few of the others.*if only these are in percent"):
        read_trials(table(tmp_path, some), None, cached=False)


@pytest.mark.parametrize(("first", "second"), [("Roses", "TULIPS"), ("roses", "TULIPS")])
def test_datasets_without_facts_are_named_with_near_names(first: str, second: str, tmp_path: Path) -> None:
    facts = tmp_path / "datasets.yaml"
    one = "{train_images: 1, image_size: 2, channels: 3, classes: 4}"
    facts.write_text(f"{first}: {one}\n{second}: {one}\n")
    place = {"path": str(written(ROWS, tmp_path / "trials.csv")), "facts": str(facts), "epoch": 3}
    with pytest.raises(UserError, match=r"no facts of .*'tulips' \(did you mean 'TULIPS'\?\), but of") as error:
        read_records(build_config(DataConfig, place))
    assert ("'roses' (did you mean 'Roses'?)" in one_line(error.value)) == (first == "Roses")
