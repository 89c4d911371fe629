"""Facts about image-classification datasets; a source of records provides those of its datasets."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from nngpt_ext.errors import UserError, reason, shown, typed, unknown

GivenFacts = Mapping[str, Sequence[int] | Sequence[str]]  # training images, image size, channels, classes


@dataclass(frozen=True)
class DatasetFacts:
    """Size of a dataset's training part and shape of its images, as NNGPT's prompts state them.

    These are NNGPT's own figures, so that prompts are comparable, even where they are inaccurate: CelebA's aligned
    images are 178×218 and Imagenette's vary in size.
    """

    train_images: int
    image_size: int
    channels: int
    classes: int


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
    return UserError(f"{error}; for a new one give its facts: {typed(f'--facts {shlex.quote(form)}', python)}")


def facts_of(name: str, given: Sequence[int] | Sequence[str]) -> DatasetFacts:
    """The facts of a dataset, from four numbers or texts.

    Raises:
        UserError: if they are not four positive integers.
    """
    try:
        values = [int(value) for value in given]
        if isinstance(given, str) or len(values) != 4 or min(values) < 1:
            raise ValueError("four positive integers are needed")
        facts = DatasetFacts(*values)
    except (TypeError, ValueError, OverflowError) as error:
        raise UserError(
            f"facts of {shown(name)} are (training images, image size, channels, classes), not {shown(given)} "
            f"({reason(error)})"
        ) from None
    return facts
