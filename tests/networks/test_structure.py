"""Structures and shapes: what is given is checked, and the shape of a trial is found."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nngpt_ext.data.facts import LEMUR_FACTS, DatasetFacts
from nngpt_ext.errors import UserError
from nngpt_ext.networks.structure import (
    NUMBERS,
    Shape,
    Structure,
    input_shape,
    parse_shape,
    parse_structure,
    source_key,
)


def test_every_number_is_described():
    assert len(NUMBERS) == 37
    assert all(one.description and not one.description.endswith(".") for one in NUMBERS.values())
    assert [one.name for one in NUMBERS.values() if one.passed][:3] == ["macs", "depth", "layer_calls"]


def test_a_part_can_be_given():
    found = parse_structure({"parameters": 57_044_810, "layers": 8, "macs": None})
    assert found == Structure(parameters=57_044_810, layers=8)
    assert found.numbers() == {"parameters": 57_044_810, "layers": 8}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            [],
            """the structure must be a mapping of numbers, for example {"parameters": 57044810, "layers": 8}, not []""",
        ),
        (
            {},
            """the structure must be a mapping of numbers, for example {"parameters": 57044810, "layers": 8}, not {}""",
        ),
        ({"params": 1}, "the structure has no number 'params' (did you mean 'parameters'?)"),
        ({"layers": -1}, "the structure: layers must be a whole number from 0 to 1e+15, not -1"),
        ({"layers": 1.0}, "the structure: layers must be a whole number from 0 to 1e+15, not 1.0"),
        ({"layers": True}, "the structure: layers must be a whole number from 0 to 1e+15, not True"),
        ({"layers": "8"}, "the structure: layers must be a whole number from 0 to 1e+15, not '8'"),
        ({"macs": 10**16}, "the structure: macs must be a whole number from 0 to 1e+15, not 10000000000000000"),
        ({"macs": float("nan")}, "the structure: macs must be a whole number from 0 to 1e+15, not nan"),
    ],
)
def test_what_is_no_structure_is_refused(given, said):
    with pytest.raises(UserError) as caught:
        parse_structure(given)
    assert str(caught.value) == said


def test_a_whole_one_lacks_nothing():
    whole = dict.fromkeys(NUMBERS, 1)
    assert parse_structure(whole, whole=True).numbers() == whole
    with pytest.raises(UserError, match=r"^its answer lacks trainable, macs, layers$"):
        parse_structure({"parameters": 1}, "its answer", whole=True)


def test_a_shape_is_read():
    assert parse_shape("3x32x32", 10) == parse_shape(" 3X32X32 ", 10) == Shape(3, 32, 32, 10)
    assert str(Shape(1, 28, 28, 10)) == "1x28x28, 10 classes"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("32", "a shape is CHANNELSxHEIGHTxWIDTH, for example 3x32x32, not '32'"),
        ("3x32x32x10", "a shape is CHANNELSxHEIGHTxWIDTH, for example 3x32x32, not '3x32x32x10'"),
        ("3x0x32", "height must be from 1 to 8,192, not 0"),
        ("3x32x99999", "width must be from 1 to 8,192, not 99999"),
        ("9999x32x32", "channels must be from 1 to 1,024, not 9999"),
    ],
)
def test_what_is_no_shape_is_refused(text, said):
    with pytest.raises(UserError) as caught:
        parse_shape(text, 10)
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("dataset", "transform", "shape"),
    [
        ("mnist", None, (1, 28, 28, 10)),
        ("mnist", "norm_64_flip", (1, 64, 64, 10)),
        ("cifar-100", "echo_flip", (3, 32, 32, 100)),
        ("celeba-gender", "norm", (3, 218, 178, 2)),
        ("celeba-gender", "complex_299", (3, 299, 299, 2)),
        ("imagenette", "norm_512", (3, 512, 512, 10)),
        ("places365", "soft_pad", (3, 800, 800, 365)),
        ("svhn", "bf-v1-RandomAutocontrast_75", (3, 64, 64, 10)),
        ("svhn", "center_crop", (3, 64, 64, 10)),
        ("places365", "", (3, 256, 256, 365)),
    ],
)
def test_the_shape_of_a_trial(dataset, transform, shape):
    assert input_shape(dataset, LEMUR_FACTS[dataset], transform) == Shape(*shape)


def test_a_dataset_of_the_users():
    assert input_shape("flowers", DatasetFacts(1020, 224, 3, 102)) == Shape(3, 224, 224, 102)


def test_every_transform_of_lemur_has_a_size(lemur_trials, lemur_source):
    """The sizes in LEMUR's own transforms, read from their code."""
    folder = Path(lemur_source.location) / "transform"
    seen = 0
    for name in lemur_trials.frame["transform"].dropna().unique():
        code = (folder / f"{name}.py").read_text()
        resized = re.findall(r"Resize\(\(?(?:size=)?\(?(\d+)", code) or re.findall(r"max_size=\((\d+)", code)
        native = LEMUR_FACTS["cifar-10"].image_size
        shape = input_shape("cifar-10", LEMUR_FACTS["cifar-10"], name)
        assert shape.height == (int(resized[-1]) if resized else native), name
        seen += bool(resized)
    assert seen > 60


def test_comments_change_the_key_of_unknown_networks_only(lemur_sources):
    assert len({source_key(text) for text in ("x = 1\n", '"""Text."""\nx = 1\n', "x = 2\n")}) == 3
    known = lemur_sources["AlexNet"]
    assert source_key(known) == source_key(f'"""Text."""\n{known}')
