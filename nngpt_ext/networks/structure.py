"""The structure of a network at an input shape: numbers such as parameters, layers and the size of feature maps."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.data.lineage import is_known, source_keys
from nngpt_ext.declaration import Declarations
from nngpt_ext.errors import UserError, nearest, shown
from nngpt_ext.io import text_digest

MOST = 10**15  # no number of a structure is larger

NORMALISATIONS = ("none", "batch", "layer", "group", "instance", "other")  # by their numbers


def source_key(source: str) -> str:
    """What identifies a network: a sha256 in hexadecimal.

    It is that of its whole source, because a network can read its own docstrings, or, for those that the package knows,
    none of which does so, that of the source without comments and docstrings.
    """
    key = source_keys({"": source})[""]
    return key if is_known(key) else text_digest(source)


def _number(description: str, unit: str = "", passed: bool = False) -> Any:
    """A number; `passed`: it is known only if a batch of images went through the network."""
    return field(default=None, metadata={"description": description, "unit": unit, "passed": passed})


@dataclass(frozen=True)
class Structure:
    """Numbers of a network, None where unknown. Nothing else in the project lists them: see `NUMBERS`."""

    parameters: int | None = _number("parameters")
    trainable: int | None = _number("parameters that are trained")
    macs: int | None = _number("multiplications of convolutions, linear layers and matrix products", "per image", True)
    layers: int | None = _number("modules that own a weight of two dimensions or more")
    depth: int | None = _number("layers with weights on the longest way from input to output", "", True)
    layer_calls: int | None = _number("calls of convolutions and linear layers", "per pass", True)
    modules: int | None = _number("modules, containers included")
    convolutions: int | None = _number("convolutions")
    grouped_convolutions: int | None = _number("convolutions with more than one group")
    largest_kernel: int | None = _number("largest side of a convolution's kernel", "pixels")
    linear: int | None = _number("linear layers")
    linear_inputs: int | None = _number("inputs of the widest linear layer")
    linear_parameters: int | None = _number("weights of all linear layers")
    attention: int | None = _number("attention operations", "per pass", True)
    layer_width: int | None = _number("outputs of the widest convolution or linear layer")
    convolution_width: int | None = _number("channels of the widest convolution")
    first_width: int | None = _number("outputs of the first layer", "", True)
    first_kernel: int | None = _number("side of the first layer's kernel, 0 for a linear one", "pixels", True)
    first_stride: int | None = _number("stride of the first layer", "pixels", True)
    last_width: int | None = _number("channels of the last convolution's feature map", "", True)
    last_map: int | None = _number("height of the last convolution's feature map", "pixels", True)
    pooled_map: int | None = _number("height after the last convolution or pooling", "pixels", True)
    smallest_map: int | None = _number("smallest side of a convolution's feature map", "pixels", True)
    activations: int | None = _number("outputs of all convolutions", "per image", True)
    normalisation: int | None = _number(
        "most frequent normalisation: " + ", ".join(f"{i} {name}" for i, name in enumerate(NORMALISATIONS))
    )
    normalisations: int | None = _number("normalisation layers")
    dropout: int | None = _number("dropout layers")
    identities: int | None = _number("identity layers")
    adaptive_pooling: int | None = _number("adaptive pooling layers")
    relu: int | None = _number("calls of ReLU and its piecewise linear relatives", "per pass", True)
    smooth: int | None = _number("calls of GELU, SiLU and other smooth activations", "per pass", True)
    gates: int | None = _number("calls of sigmoid and tanh", "per pass", True)
    max_pools: int | None = _number("calls of maximum pooling", "per pass", True)
    average_pools: int | None = _number("calls of average pooling", "per pass", True)
    classifier_parameters: int | None = _number("parameters of the last layer", "", True)
    classifier_inputs: int | None = _number("inputs of the last layer", "", True)
    forward: int | None = _number("1 if a batch of images went through the network, else 0")

    def numbers(self) -> dict[str, int]:
        """The known numbers by name."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True)
class Number:
    """A number of `Structure`."""

    name: str
    description: str
    unit: str  # empty for a plain count
    passed: bool  # known only if a batch of images went through the network


NUMBERS = Declarations("number of a structure", [Number(one.name, **one.metadata) for one in fields(Structure)])


def parse_structure(given: object, what: str = "the structure", *, whole: bool = False) -> Structure:
    """Check numbers that come from outside; `what` is what an error calls them.

    They are a mapping from names in `NUMBERS`, or with `whole` from all of them, to whole numbers from 0 to `MOST`, or
    None for an unknown number.
    """
    example = '{"parameters": 57044810, "layers": 8}'
    if not isinstance(given, Mapping) or not given:
        raise UserError(f"{what} must be a mapping of numbers, for example {example}, not {shown(given)}")
    for name, value in given.items():
        if name not in NUMBERS:
            known = nearest(str(name), NUMBERS) or f"; known: {', '.join(NUMBERS)}"
            raise UserError(f"{what} has no number {shown(name)}{known}")
        # Not bool, and no float: an infinity or a fraction would be a lie.
        if value is not None and (type(value) is not int or not 0 <= value <= MOST):
            raise UserError(f"{what}: {name} must be a whole number from 0 to {MOST:.0e}, not {shown(value)}")
    missing = [name for name in NUMBERS if name not in given]
    if whole and missing:
        raise UserError(f"{what} lacks {', '.join(missing[:3])}")
    return Structure(**given)


_MOST_OF_SHAPE = {"channels": 1024, "height": 8192, "width": 8192, "classes": 10**6}


@dataclass(frozen=True, order=True)
class Shape:
    """What goes into a network and comes out: channels, height and width of an image in pixels, and classes."""

    channels: int
    height: int
    width: int
    classes: int

    def __post_init__(self) -> None:
        for name, most in _MOST_OF_SHAPE.items():
            if type(value := getattr(self, name)) is not int or not 1 <= value <= most:
                raise UserError(f"{name} must be from 1 to {most:,}, not {shown(value)}")

    def __str__(self) -> str:
        return f"{self.channels}x{self.height}x{self.width}, {self.classes} classes"


def parse_shape(text: str, classes: int) -> Shape:
    """A shape from `3x32x32` (channels, height, width) and the number of classes."""
    found = re.fullmatch(r"([0-9]{1,6})[xX×,]([0-9]{1,6})[xX×,]([0-9]{1,6})", text.strip())
    if not found:
        raise UserError(f"a shape is CHANNELSxHEIGHTxWIDTH, for example 3x32x32, not {shown(text)}")
    channels, height, width = map(int, found.groups())
    return Shape(channels, height, width, classes)


# Height and width of the images where they differ from what NNGPT's prompts state.
_IMAGES: Mapping[str, tuple[int, int]] = {"celeba-gender": (218, 178)}
# Sizes that transforms of LEMUR give without naming them.
_SIZES = {"center_crop": 64, "five_crop": 64, "random_horizontal_flip": 64, "random_vertical_flip": 64, "soft_pad": 800}


def input_shape(dataset: str, facts: DatasetFacts, transform: str | None = None) -> Shape:
    """The shape at which a network sees a dataset: its native one, or the one that a recipe's transform gives.

    A transform such as `norm_64_flip` names the size; `norm_flip` leaves the native one.
    """
    size = None if transform is None else _SIZES.get(transform)
    if transform is not None and size is None:
        named = re.search(r"_([0-9]{1,4})(?:_|$)", transform)
        # The numbers at the end of bf-v1 only tell transforms apart.
        size = 64 if transform.startswith("bf-v1") else int(named[1]) if named else None
    if size is not None and size > _MOST_OF_SHAPE["height"]:
        most = _MOST_OF_SHAPE["height"]
        raise UserError(
            f"the transform {shown(transform)} gives images of {size:,} pixels; at most {most:,} are measured"
        )
    height, width = (size, size) if size else _IMAGES.get(dataset, (facts.image_size, facts.image_size))
    return Shape(facts.channels, height, width, facts.classes)
