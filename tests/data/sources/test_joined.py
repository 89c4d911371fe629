"""Two sources as one: networks by their source, datasets only where the user says that they are the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.joined import JoinedSource
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.data.sources.trial_table import TableSource
from nngpt_ext.errors import UserError
from nngpt_ext.settings import build_config
from tests.data.small import one_line

OWN = DatasetFacts(1_020, 224, 3, 102)


@pytest.fixture
def own(tree: Path, tmp_path: Path) -> Path:
    """AlexNet of LEMUR under another name, and with a comment; another network named like one of LEMUR's."""
    alexnet = (tree / "nn" / "AlexNet.py").read_text()
    code = {"mine": alexnet, "again": f"# a comment\n{alexnet}", "VGG": "class Net: ..."}
    rows = [
        (nn, dataset, 5, 0.5, "adam", code[nn]) for nn in code for dataset in ("mnist", "flowers")
    ]  # fmt: skip
    frame = pd.DataFrame(rows, columns=["nn", "dataset", "epoch", "accuracy", "optimizer", "nn_code"])
    frame.to_csv(tmp_path / "own.csv", index=False)
    return tmp_path / "own.csv"


def joined(tree: Path, own: Path, datasets: dict[str, str], **facts: DatasetFacts) -> JoinedSource:
    return JoinedSource([(PackageSource(tree), {}), (TableSource(own, facts or {"flowers": OWN}), datasets)])


def test_networks_with_the_same_source_have_one_name(tree: Path, own: Path) -> None:
    source = joined(tree, own, {"mnist": "mnist"})
    trials = read_trials(source, 5, cached=False)
    first = read_trials(PackageSource(tree), 5, cached=False).frame
    added = trials.frame[trials.frame["optimizer"] == "adam"]
    assert len(trials.frame) == len(first) + 6
    assert trials.excluded == {}
    # Where LEMUR has a source under two names, the first one in text order is taken.
    assert sorted(added["nn"]) == ["AlexNet"] * 4 + ["VGG (own)"] * 2
    assert source.sources(["VGG", "VGG (own)"])["VGG (own)"] == "class Net: ..."
    assert source.sources(["VGG"])["VGG"] == (tree / "nn" / "VGG.py").read_text()
    assert list(source.recipe)[-1] == "optimizer"
    assert source.facts["flowers"] == OWN
    assert source.location == f"{tree} + {own}"


@pytest.mark.parametrize(
    ("datasets", "theirs"), [({}, "mnist"), ({"MNIST": "mnist"}, "mnist"), ({"cifar-10": "flowers"}, "mnist")]
)
def test_datasets_are_the_same_only_if_the_user_says_so(tree: Path, own: Path, datasets: Any, theirs: str) -> None:
    with pytest.raises(UserError) as error:
        joined(tree, own, datasets).records(5)
    assert f"is dataset '{theirs}' of '{own}' the dataset 'mnist' of another source?" in one_line(error.value)
    assert "{mnist: mnist}" in str(error.value)


def test_another_name_makes_another_dataset(tree: Path, own: Path) -> None:
    source = joined(tree, own, {"digits": "mnist"}, flowers=OWN, mnist=DatasetFacts(1, 2, 3, 4))
    frame = read_trials(source, 5, cached=False).frame
    assert set(frame.loc[frame["optimizer"] == "adam", "dataset"]) == {"digits", "flowers"}
    assert source.facts["digits"] == DatasetFacts(1, 2, 3, 4)
    with pytest.raises(UserError, match="different facts of dataset 'mnist'"):
        _ = joined(tree, own, {"mnist": "mnist"}, mnist=DatasetFacts(1, 2, 3, 4)).facts


def test_a_configuration_of_both(tree: Path, own: Path, tmp_path: Path) -> None:
    facts = tmp_path / "datasets.yaml"
    facts.write_text("flowers: {train_images: 1020, image_size: 224, channels: 3, classes: 102}\n")
    table = {"table": str(own), "facts": str(facts), "datasets": {"mnist": "mnist"}}
    data = load_pairs(build_config(DataConfig, {"sources": [{"package": str(tree)}, table]}))
    assert (data.source, data.place) == ("package+table", f"{tree} + {own}")
    own_dataset = (data.pairs[["dataset_1", "dataset_2"]] == "flowers").any(axis=1)
    assert set(data.pairs.loc[own_dataset, "nn"]) == {"AlexNet", "VGG (own)"}
    assert own_dataset.sum() > 5  # with every dataset of LEMUR's


def test_other_networks_get_free_names_and_copies_one(tmp_path: Path) -> None:
    """Four files of one name in four folders, whose networks share a name; the first has a copy, with a comment."""
    places = []
    for i in range(4):
        (tmp_path / str(i)).mkdir()
        code = {"net": f"class Net{i}: ..."} | ({"copy": "# a copy\nclass Net0: ..."} if i == 0 else {})
        rows = [(nn, "flowers", 5, i / 10, text) for nn, text in code.items()]
        frame = pd.DataFrame(rows, columns=["nn", "dataset", "epoch", "accuracy", "nn_code"])
        frame.to_csv(tmp_path / str(i) / "trials.csv", index=False)
        places.append((TableSource(tmp_path / str(i) / "trials.csv", {"flowers": OWN}), {"flowers": "flowers"}))
    source = JoinedSource([*places, places[0]])
    frame = read_trials(source, 5, cached=False).frame
    of = {"copy": 0, "net": 1, "net (trials)": 2, "net (trials 2)": 3}
    assert frame.groupby("nn")["accuracy"].agg(set).to_dict() == {nn: {i / 10} for nn, i in of.items()}
    codes = source.sources(of)
    assert codes.pop("copy") == "# a copy\nclass Net0: ..."
    assert codes == {nn: f"class Net{i}: ..." for nn, i in of.items() if i}
