"""Pairs get the structures that a prompt shows, at the size at which it shows them."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from nngpt_ext.data.load import PairData, load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.networks.structure import Structure
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.structures import with_structures


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
