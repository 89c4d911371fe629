"""Pairs get the structures that a prompt shows, at the size at which it shows them."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.load import PairData, load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.errors import UserError
from nngpt_ext.networks.catalogue import Unmeasurable
from nngpt_ext.networks.structure import Shape, Structure, source_key
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.structures import StructureReader, read_structures, with_structures


@pytest.fixture(scope="module")
def alexnet(lemur_source: PackageSource) -> PairData:
    data = load_pairs(DataConfig(source="package", path=str(lemur_source.location)))
    pairs = data.pairs[data.pairs["nn"] == "AlexNet"].reset_index(drop=True)
    return replace(data, pairs=pairs, training=pairs.iloc[:3])


def by_dataset(table: pd.DataFrame) -> dict[str, set[tuple[int | None, int | None, int | None]]]:
    """(parameters, layers, last feature map) of each dataset."""
    found: dict[str, set[tuple[int | None, int | None, int | None]]] = {}
    for i in (1, 2):
        for dataset, one in zip(table[f"dataset_{i}"], table[f"structure_{i}"], strict=True):
            found.setdefault(dataset, set()).add((one.parameters, one.layers, one.last_map))
    return found


def test_a_prompt_without_structures_gets_the_same_pairs(alexnet: PairData) -> None:
    assert with_structures(alexnet, get_template("recipe")) is alexnet


def test_at_the_datasets_own_size_without_a_recipe(alexnet: PairData) -> None:
    found = with_structures(alexnet, get_template("structure"), "never")
    assert found.pairs.drop(columns=["structure_1", "structure_2"]).equals(alexnet.pairs)
    structures = by_dataset(found.pairs)
    # Images of 28 and 32 pixels are too small for it, so its last feature map is unknown.
    assert structures["mnist"] == {(57_029_322, 8, None)}
    assert structures["cifar-10"] == structures["svhn"] == {(57_044_810, 8, None)}
    assert structures["imagenette"] == {(57_044_810, 8, 13)}


def test_at_the_resolution_of_the_recipe(alexnet: PairData) -> None:
    lines = get_template("recipe_structure").lines
    assert lines is not None
    for template in (get_template("recipe_structure"), lines):
        structures = by_dataset(with_structures(alexnet, template, "never").pairs)
        # Its best trials: 299 pixels on CIFAR-10, 512 on MNIST.
        assert structures["cifar-10"] == {(57_044_810, 8, 17)}
        assert structures["mnist"] == {(57_029_322, 8, 31)}


def test_training_pairs_too(alexnet: PairData) -> None:
    found = with_structures(alexnet, get_template("recipe_structure"), "never")
    assert len(found.training) == 3
    pd.testing.assert_frame_equal(found.training, found.pairs.iloc[:3])


def test_what_is_not_measured_is_unknown(alexnet: PairData) -> None:
    sources = {"AlexNet": alexnet.sources["AlexNet"] + "\nOTHER = 1\n"}
    found = with_structures(replace(alexnet, sources=sources), get_template("structure"), "never")
    assert by_dataset(found.pairs)["mnist"] == {(None, None, None)}
    assert found.pairs["structure_1"].iloc[0] == Structure()


NUMBERS = {"parameters": 61_706, "layers": 5, "last_map": 10}
OTHER = {"parameters": 62_006, "layers": 5, "last_map": 12}
BOTH: dict[str, Any] = {"mnist": None, "svhn": None}  # the recipes
NET = "x = 1\n"


def printed(numbers: dict[str, int], size: int, channels: int = 3, source: str = NET) -> dict[str, Any]:
    """What `nngpt-ext structure --json` prints."""
    return {
        "source": source_key(source), "shape": asdict(Shape(channels, size, size, 10)), "structure": numbers,
    }  # fmt: skip


def reader(prompt: str = "structure") -> StructureReader:
    return StructureReader(get_template(prompt), LEMUR_FACTS)


EACH = {"mnist": Structure(**NUMBERS), "svhn": Structure(**OTHER)}


@pytest.mark.parametrize(
    "given",
    [
        EACH,
        {"mnist": NUMBERS, "svhn": OTHER, "cifar-10": NUMBERS},
        [printed(NUMBERS, 28, 1), printed(OTHER, 32)],
        [printed(OTHER, 28, 1, "y = 2"), printed(NUMBERS, 28, 1), printed(OTHER, 32), printed(NUMBERS, 32, 3, "y = 2")],
    ],
)
def test_what_is_given_for_each_dataset(given: Any) -> None:
    assert reader()(given, NET, BOTH) == EACH


def test_one_structure_for_datasets_of_one_shape() -> None:
    alike = {"cifar-10": None, "svhn": None}
    assert set(reader()(NUMBERS, NET, alike).values()) == {Structure(**NUMBERS)}
    assert reader()(printed(NUMBERS, 32), NET, alike) == reader()(Structure(**NUMBERS), NET, alike)


def test_lemurs_own_are_measured_without_running(alexnet: PairData) -> None:
    own = reader()
    found = own("measure", alexnet.sources["AlexNet"], {"mnist": None, "imagenette": None})
    assert [(one.parameters, one.last_map) for one in found.values()] == [(57_029_322, None), (57_044_810, 13)]
    assert own._catalogue._sandbox is None


def test_at_the_resolution_of_each_recipe(alexnet: PairData) -> None:
    small, large = ({"lr": 0.01, "batch": 64, "transform": f"norm_{size}"} for size in (299, 512))
    found = reader("recipe_structure")("measure", alexnet.sources["AlexNet"], {"cifar-10": small, "mnist": large})
    assert [one.last_map for one in found.values()] == [17, 31]
    # What is wrong with a recipe is said of the question.
    assert reader("recipe_structure")("measure", NET, {"cifar-10": None, "mnist": {"lr": "fast"}}) == {}


def test_a_prompt_that_shows_none_reads_nothing() -> None:
    assert reader("recipe")("measure", NET, BOTH) == {}
    assert reader()(None, NET, BOTH) == {}


COMMAND = "nngpt-ext structure CODE --shape 1x28x28 --classes 10 --shape 3x32x32 --classes 10 --json"


@pytest.mark.parametrize(
    ("given", "source", "message"),
    [
        ("measur", NET, "a structure is 'measure', or numbers for each dataset ({'mnist': {'parameters': 61706, "
         "'layers': 5, 'last_map': 10}, …}), not 'measur'"),
        (7, NET, "a structure is 'measure', or numbers for each dataset ({'mnist': {'parameters': 61706, 'layers': 5, "
         "'last_map': 10}, …}), not 7"),
        ("measure", None, "a question without a source has nothing to measure; give the structure: {'mnist': "
         "{'parameters': 61706, 'layers': 5, 'last_map': 10}, …}"),
        ({"mnist": NUMBERS}, NET, "no structure for 'svhn'; structures were given for mnist"),
        ({"mnist": NUMBERS, "svhn": {"parametres": 1}}, NET, "the structure for 'svhn' has no number 'parametres' (did "
         "you mean 'parameters'?)"),
        ({"mnist": NUMBERS, "svhn": {"layers": 1.5}}, NET, "the structure for 'svhn': layers must be a whole number "
         "from 0 to 1e+15, not 1.5"),
        (NUMBERS, NET, "one structure is given for mnist at 1x28x28, 10 classes, svhn at 3x32x32, 10 classes; give one "
         "for each: {'mnist': {'parameters': 61706, 'layers': 5, 'last_map': 10}, …}"),
        ({}, NET, "the structure must be a mapping of numbers, for example {\"parameters\": 57044810, \"layers\": 8}, "
         "not {}"),
        ([printed(NUMBERS, 28, 1)], NET, "the network has no structure at 3x32x32, 10 classes (svhn) among those "
         "given; measure it: nngpt-ext structure CODE --shape 3x32x32 --classes 10 --json, or give "
         "structure='measure'"),
        ([printed(NUMBERS, 28, 1, "y"), printed(NUMBERS, 32, 3, "y")], NET, "the network has no structure at 1x28x28, "
         f"10 classes (mnist), 3x32x32, 10 classes (svhn) among those given; measure it: {COMMAND}, or give "
         "structure='measure'"),
        ([printed(NUMBERS, 28, 1, "y"), printed(NUMBERS, 32)], None, "structures of several networks are given for a "
         "question without a source; give those of one"),
        ([3], NET, "a list of structures has objects like {\"source\": …, \"shape\": {\"channels\": 3, …}, "
         "\"structure\": {\"parameters\": 61706, …}}, not 3"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(given: Any, source: str | None, message: str) -> None:
    with pytest.raises(UserError) as caught:
        reader()(given, source, BOTH)
    assert str(caught.value) == message


def test_a_network_without_a_structure_is_that_networks_mistake() -> None:
    with pytest.raises(Unmeasurable) as caught:
        reader()("measure", "raise ValueError('no')", BOTH, "network 'a'")
    assert str(caught.value) == "network 'a' has no structure on 'mnist' (1x28x28, 10 classes): ValueError: no"


def test_a_dataset_without_facts_has_no_shape() -> None:
    with pytest.raises(UserError, match=r"^unknown dataset 'flowers'; known: .* its facts: facts=\{'flowers'"):
        reader()("measure", NET, {"flowers": None, "mnist": None})
    each = {"flowers": NUMBERS, "mnist": NUMBERS}
    assert list(reader()(each, NET, {"flowers": None, "mnist": None})) == ["flowers", "mnist"]


def test_a_file_has_one_or_several_values(tmp_path: Path) -> None:
    file = tmp_path / "net.json"
    one, other = printed(NUMBERS, 28, 1), printed(OTHER, 32)
    file.write_text(json.dumps(one, indent=2) + "\n")
    assert read_structures(str(file)) == one
    for text in (f"{json.dumps(one)}\n{json.dumps(other)}", json.dumps([one, other])):
        file.write_text(text)
        assert read_structures(str(file)) == [one, other]
    assert read_structures("measure") == "measure"


WRITE = "write it with nngpt-ext structure CODE --shape 3x32x32 --classes 10 --json > FILE"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", f"the structure file 'net.json' is empty; {WRITE}"),
        ("parameters", "the structure file 'net.json' is not JSON (Expecting value: line 1 column 1 (char 0)); "
         + WRITE),
        ("[" * 100_000, f"the structure file 'net.json' is not JSON (too deeply nested); {WRITE}"),
    ],
)  # fmt: skip
def test_a_bad_file_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("net.json").write_text(content)
    with pytest.raises(UserError) as caught:
        read_structures("net.json")
    assert str(caught.value) == message


def test_no_file() -> None:
    with pytest.raises(UserError, match=r"^there is no file 'mesure' \(did you mean 'measure'\?\)$"):
        read_structures("mesure")
    with pytest.raises(UserError, match=r"^cannot read the structure file 'no.json': No such file or directory$"):
        read_structures("no.json")
