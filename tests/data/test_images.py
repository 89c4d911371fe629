"""Facts measured from images that the test makes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from typer.testing import CliRunner

from nngpt_ext import cli
from nngpt_ext.data.facts import read_facts
from nngpt_ext.data.images import SAMPLE, measure
from nngpt_ext.errors import UserError


def image(value: int, size: tuple[int, int] = (20, 30), mode: str = "RGB") -> Image.Image:
    return Image.fromarray(np.full((size[1], size[0], 3), value, dtype="uint8")).convert(mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """12 images of one class and 3 of another, one of which is damaged, and what is no image."""
    for name, number in (("cats", 12), ("dogs", 3)):
        (tmp_path / "pets" / "train" / name).mkdir(parents=True)
        for i in range(number):
            image(51).save(tmp_path / "pets" / "train" / name / f"{i}.{'png' if i % 2 else 'jpg'}")
    (tmp_path / "pets" / "train" / "dogs" / "0.jpg").write_bytes(b"no image")
    (tmp_path / "pets" / "train" / "dogs" / "notes.txt").write_text("none")
    return tmp_path / "pets"


def test_a_folder_of_images(folder: Path) -> None:
    found = measure(str(folder))
    assert found.facts.values()[:4] == [15, 30, 3, 2]
    assert found.facts.more == {"class_balance": 0.25, "brightness": 0.2, "contrast": 0.0}
    assert (found.sampled, found.broken) == (15, 1)


def test_the_training_part_in_any_case_and_no_hidden_files(folder: Path) -> None:
    (folder / "train").rename(folder / "Train")
    expected = measure(str(folder)).facts
    for place in ("Train/.thumbnails", "Train/cats/.cache", "Train/__MACOSX"):
        (folder / place).mkdir()
        image(0).save(folder / place / "0.png")
    image(0).save(folder / "Train" / "cats" / "._0.png")
    assert measure(str(folder)).facts == expected


def test_only_some_of_many_images_are_opened(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for i in range(SAMPLE):
            image(0, (4, 4), "L").save(tmp_path / name / f"{i}.png")
    found = measure(str(tmp_path))
    assert found.facts.values()[:4] == [2 * SAMPLE, 4, 1, 2]
    assert found.sampled == SAMPLE


def test_a_dataset_saved_to_disk(tmp_path: Path) -> None:
    import datasets

    kinds = datasets.Features({"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["x", "y", "z"])})
    rows = {"picture": [image(255, (8, 16), "L")] * 6, "kind": [0, 0, 0, 1, 1, 2]}
    datasets.DatasetDict({"train": datasets.Dataset.from_dict(rows, kinds)}).save_to_disk(str(tmp_path / "saved"))
    found = measure(f"hf:{tmp_path / 'saved'}")
    assert found.facts.values()[:4] == [6, 16, 1, 3]
    assert found.facts.more == {"class_balance": 0.333, "brightness": 1.0, "contrast": 0.0}
    with pytest.raises(UserError, match="cannot read the dataset at"):
        measure(f"hf:{tmp_path}")


def test_what_is_no_dataset(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no dataset at"):
        measure(str(tmp_path / "none"))
    with pytest.raises(UserError, match="images of 1 classes"):
        measure(str(tmp_path))  # the only folder in it would be the class
    for file in folder.glob("train/*/*"):
        file.write_bytes(b"damaged")
    with pytest.raises(UserError, match="15 of 15 images cannot be opened"):
        measure(str(folder))


def test_the_command_prints_an_entry_of_a_file_of_facts(folder: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli.app, ["datasets", "describe", str(folder)])
    assert done.exit_code == 0
    assert "opened 15 of 15 images; broken: 1" in done.stderr
    (tmp_path / "datasets.yaml").write_text(done.stdout)
    assert read_facts(tmp_path / "datasets.yaml") == {"pets": measure(str(folder)).facts}
    named = CliRunner().invoke(cli.app, ["datasets", "describe", str(folder), "--name", "mine", "--json"])
    assert list(yaml.safe_load(named.stdout)) == ["mine"]
