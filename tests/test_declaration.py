"""Declarations: looked up by name, in their order, with a help text and an error that lists the names."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import AfterValidator

from nngpt_ext.declaration import Declarations, Named, choice
from nngpt_ext.errors import UserError
from nngpt_ext.settings import Stage, build_config

COLOURS = Declarations("colour", [Named("red", "like a tomato"), Named("green", "like grass")])


class Painting(Stage):
    colour: Annotated[str, AfterValidator(COLOURS.check)] = choice("red", "of the painting", COLOURS)


def test_they_are_a_mapping_in_the_order_of_declaration() -> None:
    assert list(COLOURS) == ["red", "green"]
    assert COLOURS["green"].description == "like grass"
    assert "red" in COLOURS
    assert "blue" not in COLOURS
    assert COLOURS.help("Which colour") == "Which colour: red: like a tomato; green: like grass"


def test_an_unknown_name_lists_the_known_ones() -> None:
    for call in (COLOURS.check, COLOURS.__getitem__):
        with pytest.raises(UserError, match=r"^unknown colour 'gren' \(did you mean 'green'\?\); known: green, red$"):
            call("gren")


def test_a_choice_in_a_configuration() -> None:
    assert build_config(Painting).colour == "red"
    assert build_config(Painting, {"colour": "green"}).colour == "green"
    with pytest.raises(UserError, match=r"^configuration: colour: unknown colour 'blue'; known: green, red$"):
        build_config(Painting, {"colour": "blue"})
    schema = Painting.model_fields["colour"].json_schema_extra
    assert schema == {"choices": ["red", "green"]}
