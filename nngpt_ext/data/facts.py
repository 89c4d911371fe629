"""Facts about image-classification datasets: LEMUR's, and those that a user's file describes."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError, reason, shown, typed, unknown
from nngpt_ext.io import read_text
from nngpt_ext.settings import parse_yaml

Fact = int | float | str
FACT = "fact_"  # before the name of a further fact, in the columns of a prompt
# Training images, image size, channels and classes in this order, or these and further facts by name.
GivenFacts = Mapping[str, Sequence[int] | Sequence[str] | Mapping[str, Fact]]


@dataclass(frozen=True)
class DatasetFacts:
    """Size of a dataset's training part and shape of its images, as NNGPT's prompts state them.

    A prompt shows further facts, such as `class_balance`, as `fact_NAME_1` and `fact_NAME_2`.
    """

    train_images: int
    image_size: int  # height and width in pixels
    channels: int
    classes: int
    more: Mapping[str, Fact] = field(default_factory=dict)  # further facts by name

    def by_name(self) -> dict[str, Fact]:
        """All facts by name, as files have them."""
        found = asdict(self)
        more = found.pop("more")
        return {**found, **dict(sorted(more.items()))}

    def values(self) -> list[Any]:
        """What identifies them: the four numbers, and further facts with their names."""
        return [self.train_images, self.image_size, self.channels, self.classes, *sorted(self.more.items())]


# NNGPT's own figures, so that prompts are comparable, even where they are inaccurate: CelebA's aligned images are
# 178×218 and Imagenette's vary in size.
LEMUR_FACTS: Mapping[str, DatasetFacts] = {
    "celeba-gender": DatasetFacts(162_770, 64, 3, 2),
    "cifar-10": DatasetFacts(50_000, 32, 3, 10),
    "cifar-100": DatasetFacts(50_000, 32, 3, 100),
    "imagenette": DatasetFacts(9_469, 224, 3, 10),
    "mnist": DatasetFacts(60_000, 28, 1, 10),
    "places365": DatasetFacts(1_803_460, 256, 3, 365),
    "svhn": DatasetFacts(73_257, 32, 3, 10),
}
# Well-known datasets whose names are near to those of LEMUR's: not misspelt.
OTHERS = ("emnist", "kmnist", "qmnist", "medmnist", "fashion-mnist", "imagenet", "imagewoof", "celeba")


def unknown_dataset(name: str, known: Iterable[str]) -> UserError:
    """The error for a dataset that is not known; it says how to give its facts."""
    form, error = f"{name}=IMAGES,SIZE,CHANNELS,CLASSES", unknown("dataset", name, known, others=OTHERS)
    python = f"facts={{{shown(name)}: (training images, image size, channels, classes)}}"
    form = shlex.quote(form)
    give = typed(f"--facts {form}", python, f"start the server with --facts {form}")
    return UserError(f"{error}; for a new one give its facts: {give}")


def facts_of(name: str, given: Sequence[int] | Sequence[str] | Mapping[str, Fact]) -> DatasetFacts:
    """The facts of a dataset, from four numbers or texts, or a mapping as in a file of facts.

    Raises:
        UserError: if the four are not positive integers, or a further fact is not a number or a short text.
    """
    try:
        more: dict[str, Fact] = {}
        if isinstance(given, Mapping):
            needed = list(DatasetFacts.__dataclass_fields__)[:4]
            if missing := [key for key in needed if key not in given]:
                raise ValueError(f"{', '.join(missing)} missing")
            more = {str(key): value for key, value in given.items() if key not in needed}
            given = [str(given[key]) for key in needed]
        values = [int(value) for value in given]
        if isinstance(given, str) or len(values) != 4 or min(values) < 1:
            raise ValueError("four positive integers are needed")
        for key, value in more.items():
            if not re.fullmatch(r"\w+", key):
                raise ValueError(f"the name {shown(key)} must be of letters, digits and _, as prompts show it")
            is_number = isinstance(value, (int, float)) and math.isfinite(value)
            if not (is_number or (isinstance(value, str) and len(value) <= 64)):
                raise ValueError(f"{shown(key)} must be a number or a short text")
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"facts of {shown(name)} are (training images, image size, channels, classes), not {shown(given)} "
            f"({reason(error)})"
        ) from None
    images, size, channels, classes = values
    return DatasetFacts(images, size, channels, classes, more)


def read_facts(file: str | Path) -> dict[str, DatasetFacts]:
    """The facts in a YAML file: `flowers: {train_images: 1020, image_size: 224, channels: 3, classes: 102}`."""
    example = "flowers: {train_images: 1020, image_size: 224, channels: 3, classes: 102}"
    content = parse_yaml(read_text(file, "the file of facts"), f"the file of facts '{file}' is not YAML", example)
    if not isinstance(content, dict):
        raise UserError(f"the file of facts '{file}' has no datasets; write for example {example}")
    return {str(name): facts_of(str(name), given) for name, given in content.items()}
