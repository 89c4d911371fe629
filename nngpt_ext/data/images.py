"""Facts of a dataset measured from its images: a folder with a folder for each class, or one saved by `datasets`."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from nngpt_ext.data.facts import DatasetFacts
from nngpt_ext.errors import UserError, parsing
from nngpt_ext.extras import install_extra

# What Pillow reads by its own code; others, such as EPS, run other programs.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
SAMPLE = 300  # images that are opened
_GREY = ("1", "I", "I;16", "L", "F")  # Pillow's modes with one channel


@dataclass(frozen=True)
class Measured:
    """A dataset's facts, how many images they were sampled from, and how many of these could not be opened."""

    facts: DatasetFacts
    sampled: int
    broken: int


def measure(place: str) -> Measured:
    """Measure the training part of a dataset of images, from up to `SAMPLE` of them spread over all.

    `place` is a folder with a folder for each class, maybe in `train`; or `hf:` and a folder that
    `datasets.Dataset.save_to_disk` wrote.
    """
    labels, opened = _saved(Path(place[3:])) if place.startswith("hf:") else _folders(Path(place))
    counts = Counter(labels)
    if len(counts) < 2:
        raise UserError(f"'{place}' has images of {len(counts)} classes; give a folder with one for each class")
    step = max(1, len(labels) / SAMPLE)
    chosen = sorted({int(i * step) for i in range(min(SAMPLE, len(labels)))})
    seen = [one for one in map(_looked_at(opened), chosen) if one is not None]
    if len(seen) < len(chosen) / 2:
        raise UserError(f"'{place}': {len(chosen) - len(seen)} of {len(chosen)} images cannot be opened")
    heights, channels, means, spreads = zip(*seen, strict=True)
    more = {
        "class_balance": round(min(counts.values()) / max(counts.values()), 3),
        "brightness": round(sum(means) / len(means), 3),
        "contrast": round(sum(spreads) / len(spreads), 3),
    }
    facts = DatasetFacts(len(labels), round(median(heights)), Counter(channels).most_common(1)[0][0], len(counts), more)
    return Measured(facts, len(chosen), len(chosen) - len(seen))


def _folders(folder: Path) -> tuple[Sequence[Any], Callable[[int], Any]]:
    """The class of each image file, and what opens one of them."""
    if not folder.is_dir():
        raise UserError(f"no dataset at '{folder}': give a folder with a folder of images for each class")
    top = next((part for part in sorted(folder.iterdir()) if part.name.lower() == "train" and part.is_dir()), folder)
    found = [(file.relative_to(top).parts, file) for file in sorted(top.glob("*/**/*"))]
    # Without hidden files and folders, such as those of thumbnails, and what macOS adds to archives.
    images = [
        (parts[0], file)
        for parts, file in found
        if file.suffix.lower() in _SUFFIXES and not any(one.startswith((".", "__MACOSX")) for one in parts)
    ]
    return [name for name, _ in images], lambda i: images[i][1]


def _saved(folder: Path) -> tuple[Sequence[Any], Callable[[int], Any]]:
    """The same of a dataset that was saved to disk."""
    import datasets

    with parsing(f"cannot read the dataset at '{folder}'", "give a folder that datasets.Dataset.save_to_disk wrote"):
        found = datasets.load_from_disk(str(folder))
        part = found if isinstance(found, datasets.Dataset) else found["train"]
        kinds = {kind: name for name, kind in ((n, type(feature).__name__) for n, feature in part.features.items())}
        image, label = kinds["Image"], kinds["ClassLabel"]
        raw = part.cast_column(image, datasets.Image(decode=False))

    def opened(i: int) -> Any:
        one = raw[i][image]
        return io.BytesIO(one["bytes"]) if one["bytes"] is not None else one["path"]

    return part[label][:], opened


def _looked_at(opened: Callable[[int], Any]) -> Callable[[int], tuple[int, int, float, float] | None]:
    """Height, channels, mean and standard deviation (from 0 to 1) of an image; None if it cannot be opened."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise UserError(f"measuring images needs Pillow; type: {install_extra('images')}") from None
    import numpy as np

    def look(i: int) -> tuple[int, int, float, float] | None:
        try:
            with Image.open(opened(i), formats=FORMATS) as image:
                image.load()
                grey = np.asarray(image.convert("L").resize((32, 32)), dtype="float64") / 255
                return image.height, 1 if image.mode in _GREY else 3, float(grey.mean()), float(grey.std())
        except Exception:  # of a damaged image, Pillow raises many types
            return None

    return look
