"""The dataset loads by its card, has the pairs that `nngpt-ext pairs` counts, and its parts are those of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import datasets
import pandas as pd
import pytest
from huggingface_hub import DatasetCard
from typer.testing import CliRunner

from nngpt_ext import UserError
from nngpt_ext.cli import app
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.pairs import PAIR_COLUMNS
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.export.pairs_dataset import export_dataset
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.inspection import summarize_pairs
from tests.data.small import write_tree

PARTS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A LEMUR of about 30 networks."""
    return str(write_tree(tmp_path_factory.mktemp("small")))


def rows(folder: Path, name: str = "pairs") -> dict[str, pd.DataFrame]:
    """What `datasets` makes of a folder, by part."""
    return {part: found.to_pandas() for part, found in datasets.load_dataset(str(folder), name).items()}


def test_all_pairs_of_lemur(tmp_path: Path) -> None:
    done, counts = export_dataset(tmp_path / "out", DataConfig())
    known = summarize_pairs(DataConfig())
    assert counts == known["split"]
    found = datasets.load_dataset(str(done.folder))  # `pairs` is the default
    assert {part: found[part].num_rows for part in found} == {part: n["pairs"] for part, n in known["split"].items()}
    assert sum(part.num_rows for part in found.values()) == known["pairs"] == 19_314
    networks = datasets.load_dataset(str(done.folder), "networks")
    assert sum(part.num_rows for part in networks.values()) == known["networks"] == 1_942
    text = (done.folder / "README.md").read_text()
    assert "| test | 3,873 | 388 | 0.8319 |" in text
    assert "MIT License" in (done.folder / "LICENSE").read_text()


@pytest.mark.parametrize("trials", ["best", "random", "all"])
def test_its_rows_are_those_of_a_run(small: str, tmp_path: Path, trials: str) -> None:
    done, _ = export_dataset(tmp_path / "out", DataConfig(path=small, trials=trials, seed=1))
    pairs, networks = rows(done.folder), rows(done.folder, "networks")
    for label, suffix in (("normalized", ""), ("percentile", "_percentile")):
        data = load_pairs(DataConfig(path=small, trials=trials, seed=1, label=label))
        for part in PARTS:
            wanted = data.training if part == "train" else data.part(part)
            found = pairs[part]
            assert found["better_dataset" + suffix].tolist() == wanted["better_dataset"].tolist()
            assert found["margin" + suffix].tolist() == wanted["margin"].tolist()
            for column in ("nn", "dataset_1", "dataset_2", "norm_acc_1", "norm_acc_2", "recipe_1", "recipe_2"):
                assert found[column].tolist() == wanted[column].tolist()
            assert dict(zip(networks[part]["nn"], networks[part]["nn_code"], strict=True)) == {
                nn: data.sources[nn] for nn in sorted(wanted["nn"].unique())
            }
    assert set(pairs["test"].columns) == {
        *PAIR_COLUMNS, "better_dataset_percentile", "margin_percentile", "near_duplicate_group",
    }  # fmt: skip


def test_near_duplicates(small: str, tmp_path: Path) -> None:
    done, _ = export_dataset(tmp_path / "out", DataConfig(path=small))
    data = load_pairs(DataConfig(path=small))
    networks = rows(done.folder, "networks")
    test = networks["test"]
    assert set(test.loc[test["near_duplicate_in_training"].astype(bool), "nn"]) == data.near_duplicates()
    assert networks["train"]["near_duplicate_in_training"].isna().all()
    groups = pd.concat(networks.values()).set_index("nn")["near_duplicate_group"]
    # Copies of one source, under other names.
    assert groups["Alex_Net"] == groups["AlexNet"] != groups["DenseNet"] == groups["a_b__c_acc_1"]
    for found in rows(done.folder).values():
        assert found["near_duplicate_group"].tolist() == found["nn"].map(groups).tolist()


def test_the_card(small: str, tmp_path: Path) -> None:
    done, counts = export_dataset(tmp_path / "out", DataConfig(path=small))
    card = DatasetCard.load(done.folder / "README.md")
    assert card.data.license == ["mit", "bsd-3-clause"]
    configs = {config["config_name"]: config for config in card.data.to_dict()["configs"]}
    assert configs["pairs"]["default"] is True
    data = load_pairs(DataConfig(path=small))
    for part in PARTS:
        pairs = data.part(part)
        first = pairs["better_dataset"] == pairs["dataset_1"]
        prior = float(((pair_prior(data.part("train"), pairs) >= 0.5) == first).mean())
        line = next(line for line in card.text.splitlines() if line.startswith(f"| {part} |"))
        assert line.startswith(f"| {part} | {counts[part]['pairs']} | {counts[part]['networks']} | {prior:.4f} | ")
    described = {name for line in card.text.splitlines() if line.startswith("| `") for name in line.split("`")[1::2]}
    for name in ("pairs", "networks"):
        assert set(rows(done.folder, name)["test"].columns) <= described


def test_the_cards_example_runs(small: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done, _ = export_dataset(tmp_path / "out", DataConfig(path=small))
    monkeypatch.chdir(tmp_path)
    snippet = (done.folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    names: dict[str, Any] = {}
    exec(snippet, names)
    assert names["code"][names["pairs"][0]["nn"]].startswith(("import", "from", '"""', "#"))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"split": "by_family", "fold": 1, "folds": 3, "family_level": "strict", "family_cap": 10},
        {"split": "by_dataset", "fold": 2},
    ],
)
def test_the_cards_command_makes_the_same_pairs(small: str, tmp_path: Path, given: dict[str, Any]) -> None:
    first, _ = export_dataset(tmp_path / "first", DataConfig(path=small, **given))
    (line,) = [one for one in (first.folder / "README.md").read_text().splitlines() if "export dataset" in one]
    words = [*line.strip("`").replace("FOLDER", str(tmp_path / "second")).split()[1:], "--lemur", small]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    for part, found in rows(first.folder).items():
        pd.testing.assert_frame_equal(rows(tmp_path / "second")[part], found)


def test_the_card_names_what_no_option_says(small: str, tmp_path: Path) -> None:
    done, counts = export_dataset(tmp_path / "out", DataConfig(path=small, test_trials="random", train_networks=5))
    assert counts["train"]["networks"] == 5 == rows(done.folder)["train"]["nn"].nunique()
    assert (
        ', in Python with `DataConfig(…, test_trials="random", train_networks=5)`'
        in (done.folder / "README.md").read_text()
    )


def test_where_a_network_is_in_several_parts(small: str, tmp_path: Path) -> None:
    done, _ = export_dataset(tmp_path / "out", DataConfig(path=small, split="random_pairs"))
    networks = rows(done.folder, "networks")
    assert list(networks) == ["networks"]
    assert set(networks["networks"]["nn"]) == set(pd.concat(rows(done.folder).values())["nn"])
    assert "(leaky)" in (done.folder / "README.md").read_text()


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"split": "by_networks"}, "unknown split 'by_networks' (did you mean 'by_network'?)"),
        ({"trials": "worst"}, "unknown kind of trials 'worst'"),
        ({"hold_out": "ga"}, "hold_out goes with split by_origin"),
        ({"split": "by_origin"}, "needs data.hold_out"),
        ({"epoch": 999}, "no pairs at epoch 999"),
        ({"repo": "someone/pairs"}, "no token for the hub"),
    ],
)
def test_mistakes_leave_nothing(small: str, tmp_path: Path, given: dict[str, Any], reason: str) -> None:
    options = {"path": small, **{key: value for key, value in given.items() if key != "repo"}}
    with pytest.raises(UserError) as caught:
        export_dataset(tmp_path / "out", build_config(DataConfig, options), repo=given.get("repo"))
    assert reason in str(caught.value)
    assert list(tmp_path.iterdir()) == []
