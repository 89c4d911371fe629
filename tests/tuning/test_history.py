"""A resumed training gives what an uninterrupted one gives, whatever its files have gone through."""

from __future__ import annotations

import itertools
import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.batches.encode import Example
from nngpt_ext.batches.engine import checked_engine
from nngpt_ext.errors import UserError
from nngpt_ext.models.base import Base
from nngpt_ext.tuning.history import Validation, read_history
from nngpt_ext.tuning.trainer import train
from tests import models_made
from tests.tuning.test_trainer import config, groups_of

# Dropout: without the state of the random numbers a resumed training draws others.
THREE = config(dropout=0.2, epochs=3, examples_per_step=8)
FILES = (
    "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json", "adapter_model.safetensors",
    "adapter_config.json",
)  # fmt: skip
LAST, BEFORE = 1, 0  # of the two epochs that were trained before the end


class Killed(BaseException):
    pass


class Trained:
    """What a training of three epochs on a small base leaves, and how often it validated."""

    def __init__(self, base: Base, groups: list[list[Example]], folder: Path, killed_at: int = 99) -> None:
        self.calls = 0

        def validate(_: Any) -> dict[str, float]:
            self.calls += 1
            if self.calls == killed_at:
                raise Killed
            return {"accuracy": 0.5, "log_loss": 0.7, "prior_accuracy": 0.5}

        self.history = train(base, groups, Validation(validate), THREE, folder / "checkpoints")
        self.weights = [
            (folder / "checkpoints" / entry["checkpoint"] / "adapter_model.safetensors").read_bytes()
            for entry in self.history
        ]
        assert read_history(folder) == self.history

    @property
    def figures(self) -> list[dict[str, Any]]:
        return [{k: v for k, v in entry.items() if k not in ("seconds", "threads", "files")} for entry in self.history]


@pytest.fixture(scope="module")
def base() -> Base:
    return models_made.base("llama", load_in_4bit=False)


@pytest.fixture(scope="module")
def groups(base: Base) -> list[list[Example]]:
    found = groups_of(base)
    assert checked_engine(base.model, found[0], 0, THREE.tuning.engine) == THREE.tuning.engine
    return found


@pytest.fixture(scope="module")
def uninterrupted(base: Base, groups: Any, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "checkpoints").mkdir()
    return Trained(base, groups, folder)


@pytest.fixture(scope="module")
def two_epochs(base: Base, groups: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("killed")
    (folder / "checkpoints").mkdir()
    with pytest.raises(Killed):
        Trained(base, groups, folder, killed_at=3)
    return folder


@pytest.fixture
def killed(two_epochs: Path, tmp_path: Path) -> Path:
    """A copy of a run that was killed in its third epoch."""
    shutil.copytree(two_epochs, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def resumed(
    base: Base, groups: Any, killed: Path, uninterrupted: Trained, caplog: pytest.LogCaptureFixture
) -> Callable[[int], list[str]]:
    """Goes on and checks that all is as without an interruption; gives the warnings."""

    def go_on(epochs: int) -> list[str]:
        with caplog.at_level(logging.WARNING, logger="nngpt_ext"):
            found = Trained(base, groups, killed)
        assert found.calls == epochs
        assert found.figures == uninterrupted.figures
        assert found.weights == uninterrupted.weights
        assert {f.name for f in (killed / "checkpoints").iterdir()} == {
            "history.json", *(entry["checkpoint"] for entry in found.history)
        }  # fmt: skip
        warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
        assert not any("\n" in message for message in warnings)
        return warnings

    return go_on


def checkpoint(run: Path, number: int) -> Path:
    return run / "checkpoints" / json.loads((run / "checkpoints" / "history.json").read_text())[number]["checkpoint"]


def remove(file: Path) -> None:
    file.unlink()


def truncate(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def test_a_plot_that_fails_ends_no_training(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="nngpt_ext"):
        Validation(lambda _: {}, on_epoch=lambda _: 1 // 0).epoch_ended([{"epoch": 1}])
    assert caplog.messages == ["on_epoch failed; training continues"]
    assert "ZeroDivisionError" in caplog.text


def test_history_has_the_hash_of_each_file(uninterrupted: Trained) -> None:
    for entry in uninterrupted.history:
        assert set(FILES) <= set(entry["files"])
        assert all(len(digest) == 64 for digest in entry["files"].values())


def test_a_whole_checkpoint_is_gone_on_from(resumed: Callable[[int], list[str]]) -> None:
    assert resumed(1) == []


@pytest.mark.parametrize(
    ("name", "damage"),
    [*itertools.product(FILES, (remove, truncate)), ("optimizer.pt", flip), ("adapter_model.safetensors", flip)],
)
def test_a_damaged_last_checkpoint_is_trained_again(
    killed: Path, resumed: Callable[[int], list[str]], name: str, damage: Callable[[Path], None]
) -> None:
    file = checkpoint(killed, LAST) / name
    damage(file)
    (line,) = resumed(2)
    assert f"'{file}' {'is missing' if damage is remove else 'is damaged'}" in line
    assert "epoch 2" in line


def test_of_an_earlier_checkpoint_only_the_adapter_counts(killed: Path, resumed: Callable[[int], list[str]]) -> None:
    (checkpoint(killed, BEFORE) / "optimizer.pt").unlink()
    assert resumed(1) == []


def test_a_damaged_adapter_of_an_earlier_epoch_drops_all_behind_it(
    killed: Path, resumed: Callable[[int], list[str]]
) -> None:
    truncate(checkpoint(killed, BEFORE) / "adapter_model.safetensors")
    (line,) = resumed(3)
    assert "epoch 1" in line


def test_without_any_whole_checkpoint_training_starts_over(killed: Path, resumed: Callable[[int], list[str]]) -> None:
    files = [checkpoint(killed, number) / "optimizer.pt" for number in (LAST, BEFORE)]
    for file in files:
        truncate(file)
    lines = resumed(3)
    assert len(lines) == 2
    assert all(str(file) in line for file, line in zip(files, lines, strict=True))


def test_a_checkpoint_that_is_gone(killed: Path, resumed: Callable[[int], list[str]]) -> None:
    shutil.rmtree(checkpoint(killed, BEFORE))
    assert len(resumed(3)) == 1


def test_files_in_the_place_of_checkpoints(killed: Path, resumed: Callable[[int], list[str]]) -> None:
    last = checkpoint(killed, LAST)
    shutil.rmtree(last)
    last.write_text("mine")
    (killed / "checkpoints" / "checkpoint-999").write_text("mine")
    assert len(resumed(2)) == 1


def test_a_finished_training_needs_no_state(
    base: Base, groups: Any, killed: Path, resumed: Callable[[int], list[str]]
) -> None:
    resumed(1)
    for entry in read_history(killed):
        (killed / "checkpoints" / entry["checkpoint"] / "optimizer.pt").unlink()
    assert resumed(0) == []


def test_a_truncated_history_keeps_its_whole_entries(killed: Path, resumed: Callable[[int], list[str]]) -> None:
    file = killed / "checkpoints" / "history.json"
    text = file.read_text()
    file.write_text(text[: text.index('"epoch": 2') + 60])
    (line,) = resumed(2)
    assert f"'{file}'" in line


@pytest.mark.parametrize(
    "content", ["", "[", "nonsense", "null", "3", "[1, 2]", '{"epoch": 1}', '[{"epoch": 1}]', "\0"]
)
def test_a_damaged_history_starts_over(killed: Path, resumed: Callable[[int], list[str]], content: str) -> None:
    file = killed / "checkpoints" / "history.json"
    file.write_text(content)
    (line,) = resumed(3)
    assert f"'{file}'" in line


@pytest.mark.parametrize(
    "changed",
    [
        {"epoch": 3}, {"epoch": "2"}, {"step": 1}, {"checkpoint": "../.."}, {"checkpoint": None}, {"examples": None},
        {"train_loss": "x"}, {"validation_accuracy": None}, {"files": 3}, {"files": {}}, {"files": {"optimizer.pt": 1}},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_entry_is_trained_again(
    killed: Path, resumed: Callable[[int], list[str]], changed: dict[str, Any]
) -> None:
    file = killed / "checkpoints" / "history.json"
    first, second = json.loads(file.read_text())
    file.write_text(json.dumps([first, {**second, **changed}]))
    (line,) = resumed(2)
    assert "epoch 2" in line


@pytest.mark.parametrize("moment", ["before the history", "in the history"])
def test_killed_beside_a_checkpoint(
    base: Base, groups: Any, killed: Path, resumed: Any, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """The checkpoint is there, its entry is not."""
    from nngpt_ext.tuning import trainer

    def kill(*_: Any, **__: Any) -> None:
        if len(list((killed / "checkpoints").glob("checkpoint-*"))) == 3:
            raise Killed

    at = (trainer.EpochEnd, "on_save") if moment == "before the history" else (trainer, "write_text")
    monkeypatch.setattr(*at, kill)
    with pytest.raises(Killed):
        Trained(base, groups, killed)
    monkeypatch.undo()
    assert [entry["epoch"] for entry in read_history(killed)] == [1, 2]
    assert resumed(1) == []


def test_a_linked_checkpoint_is_never_followed(base: Base, groups: Any, killed: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    for name in ("checkpoint-999", checkpoint(killed, LAST).name):
        place = killed / "checkpoints" / name
        if place.is_dir():
            shutil.rmtree(place)
        place.symlink_to(mine)
        with pytest.raises(UserError, match="outside"):
            Trained(base, groups, killed)
        assert [file.name for file in mine.iterdir()] == ["thesis.tex"]
        place.unlink()


def test_a_stray_link_within_the_folder_is_removed(killed: Path, resumed: Callable[[int], list[str]]) -> None:
    (killed / "checkpoints" / "checkpoint-999").symlink_to(checkpoint(killed, LAST))
    assert resumed(1) == []


def test_a_checkpoint_of_a_version_without_hashes(killed: Path, resumed: Callable[[int], list[str]]) -> None:
    file = killed / "checkpoints" / "history.json"
    entries = json.loads(file.read_text())
    file.write_text(json.dumps([{name: value for name, value in one.items() if name != "files"} for one in entries]))
    (line,) = resumed(3)
    assert "an older version" in line
    assert "damaged" not in line
