"""The small LEMUR of `small.py`, as a tree and as a database; the same with faults."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.data.small import add_trials, write_database, write_tree

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def lemur_not_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no earlier test had imported it."""
    for name in [name for name in sys.modules if name.split(".")[0] == "ab"]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder ab/nn with about 30 networks at epochs 1, 2 and 5. Do not change it."""
    return write_tree(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="session")
def database(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree's database. Do not change it."""
    return write_database(tree, tmp_path_factory.mktemp("database") / "db" / "ab.nn.db")


def few(tree: Path, target: Path) -> Path:
    """A copy of the records of two networks only, to change."""
    for part in ("transform", "metric"):
        shutil.copytree(tree / part, target / part)
    (target / "nn").mkdir()
    for name in ("AlexNet", "Alex_Net"):
        shutil.copy(tree / "nn" / f"{name}.py", target / "nn")
        for folder in (tree / "stat" / "train").glob(f"img-classification_*_acc_{name}"):
            shutil.copytree(folder, target / "stat" / "train" / folder.name)
    return target


@pytest.fixture(scope="session")
def faulty_tree(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two networks, and 17 trials more at epoch 5, of which 4 can be used. Do not change it."""
    target = few(tree, tmp_path_factory.mktemp("faulty") / "ab" / "nn")
    add_trials(target, "AlexNet", "mnist", 5, [..., ..., None, "high", "", NAN, INF, -INF, 1.7, -0.1])
    # These three count: text that is a number, and both ends of the range, as whole numbers. Their recipes do not.
    add_trials(target, "AlexNet", "svhn", 5, ["0.25", 0, 1], lr="fast", momentum=NAN, dropout=INF, batch="16")
    add_trials(target, "Sourceless_Net", "mnist", 5, [0.5, 0.6])
    add_trials(target, "AlexNet", "imagenet-22k", 5, [0.5])
    (target / "nn" / "Hollow.py").touch()  # an empty source is one, in the database as well
    add_trials(target, "Hollow", "mnist", 5, [0.5])
    return target


@pytest.fixture
def changing_tree(tree: Path, tmp_path: Path) -> Path:
    """Two networks that a test may change."""
    return few(tree, tmp_path / "ab" / "nn")
