"""The folder tree: what is read, what is not, and what is said about broken files."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.sources.package import PackageSource, installed_folder
from nngpt_ext.data.trials import collect
from nngpt_ext.errors import UserError
from tests.data.small import EPOCHS, NETWORKS, RENAMED, add_trials, one_line, record_file


def test_all_networks_are_read_with_underscores_too(tree: Path) -> None:
    source = PackageSource(tree)
    frame = collect(source.records(None), source.networks(), source.facts).frame
    assert set(frame["nn"]) == source.networks() == {*NETWORKS, *RENAMED}
    assert set(frame["epoch"]) == set(EPOCHS)
    for copy, original in RENAMED.items():
        left, right = (
            frame[frame["nn"] == name].drop(columns="nn").reset_index(drop=True) for name in (copy, original)
        )
        assert len(left) > 10
        assert left.equals(right)


def test_values_are_those_of_the_file(tree: Path) -> None:
    source = PackageSource(tree)
    frame = collect(source.records(2), source.networks(), source.facts).frame
    assert set(frame["epoch"]) == {2}  # the file's name, whatever a trial's own key `epoch` says
    found = frame[(frame["nn"] == "Alex_Net") & (frame["dataset"] == "mnist")]
    raw = json.loads(record_file(tree, "Alex_Net", "mnist", 2).read_text())
    expected = sorted((-t["accuracy"], t["lr"], t["batch"], t["transform"]) for t in raw)
    assert sorted(zip(-found["accuracy"], found["lr"], found["batch"], found["transform"], strict=True)) == expected


def test_all_epochs_are_the_single_epochs_together(tree: Path) -> None:
    source = PackageSource(tree)
    every = collect(source.records(None), source.networks(), source.facts).frame
    for epoch in EPOCHS:
        one = collect(source.records(epoch), source.networks(), source.facts).frame
        assert every[every["epoch"] == epoch].reset_index(drop=True).equals(one)
    assert len(list(source.records(3))) == 0


def test_other_tasks_and_metrics_stay_out(tree: Path) -> None:
    source = PackageSource(tree)
    folders = {p.name for p in (tree / "stat" / "train").iterdir()}
    assert {"img-captioning_coco_bleu_AlexNet", "img-classification_mnist_loss_AlexNet"} <= folders
    frame = collect(source.records(1), source.networks(), source.facts).frame
    assert set(frame["dataset"]) == {
        "celeba-gender", "cifar-10", "cifar-100", "imagenette", "mnist", "places365", "svhn",
    }  # fmt: skip
    raw = json.loads(record_file(tree, "AlexNet", "mnist", 1).read_text())
    assert len(frame[(frame["nn"] == "AlexNet") & (frame["dataset"] == "mnist")]) == len(raw)


def test_sources(tree: Path) -> None:
    source = PackageSource(tree)
    found = source.sources(["AlexNet", "Alex_Net"])
    assert found["AlexNet"] == found["Alex_Net"] == (tree / "nn" / "AlexNet.py").read_text()
    assert "__init__" not in source.networks()


def test_faults_are_counted(faulty_tree: Path) -> None:
    trials = read_trials(PackageSource(faulty_tree), 5, cached=False)
    assert trials.excluded == {
        "accuracy missing": 3,  # two are absent, one is null
        "accuracy not a number": 2,
        "accuracy not finite": 3,
        "accuracy outside [0, 1]": 2,
        "no facts of dataset 'imagenet-22k'": 1,
        "network without source": 2,
    }


def test_faults_are_logged(faulty_tree: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", logger="nngpt_ext"):
        read_trials(PackageSource(faulty_tree), 5, cached=False)
    assert "trials excluded: 3 × accuracy missing, 2 × accuracy not a number" in caplog.text


@pytest.mark.parametrize("cut", [1, 200, -2])
def test_a_half_written_file_is_named(changing_tree: Path, cut: int) -> None:
    file = record_file(changing_tree, "Alex_Net", "mnist", 5)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(UserError) as error:
        read_trials(PackageSource(changing_tree), 5)
    assert f"'{file}' is not JSON (" in one_line(error.value)


def test_an_empty_or_undecodable_file_is_named(changing_tree: Path) -> None:
    file = record_file(changing_tree, "AlexNet", "svhn", 5)
    for content in (b"", b'[{"accuracy": "\xff"}]', b"[" * 100_000, b"[" + b"9" * 5_000 + b"]"):
        file.write_bytes(content)
        with pytest.raises(UserError) as error:
            read_trials(PackageSource(changing_tree), 5)
        assert str(file) in one_line(error.value)


@pytest.mark.parametrize("content", ["{}", "3", '"text"', "null", "[1, 2]", "[[]]"])
def test_json_that_is_no_list_of_trials_is_named(changing_tree: Path, content: str) -> None:
    file = record_file(changing_tree, "AlexNet", "mnist", 5)
    file.write_text(content)
    with pytest.raises(UserError) as error:
        read_trials(PackageSource(changing_tree), 5)
    assert f"'{file}' is not a list of trials" in one_line(error.value)


def test_a_broken_file_of_another_epoch_does_no_harm(changing_tree: Path) -> None:
    record_file(changing_tree, "AlexNet", "mnist", 1).write_text("[{")
    assert len(read_trials(PackageSource(changing_tree), 5).frame) > 0


def test_not_a_number_in_json_is_read(changing_tree: Path) -> None:
    add_trials(changing_tree, "AlexNet", "mnist", 5, [float("nan"), 0.5])
    assert "NaN" in record_file(changing_tree, "AlexNet", "mnist", 5).read_text()
    assert read_trials(PackageSource(changing_tree), 5).excluded == {"accuracy not finite": 1}


def test_of_a_key_that_stands_twice_the_last_value_is_read(changing_tree: Path) -> None:
    """As in one file of LEMUR 2.1.2, places365 and MNASNet at epoch 8."""
    file = record_file(changing_tree, "AlexNet", "mnist", 1)
    before = len(list(PackageSource(changing_tree).records(1)))
    text = file.read_text()
    file.write_text(text.replace('"accuracy":', '"accuracy": 0.9, "accuracy":', 1))
    assert file.read_text() != text
    assert len(list(PackageSource(changing_tree).records(1))) == before


def test_a_folder_without_records_or_sources_is_refused(changing_tree: Path) -> None:
    shutil.rmtree(changing_tree / "nn")
    with pytest.raises(UserError) as error:
        PackageSource(changing_tree)
    assert "no network sources" in one_line(error.value)
    shutil.rmtree(changing_tree / "stat")
    with pytest.raises(UserError) as error:
        PackageSource(changing_tree)
    assert "stat/train" in one_line(error.value)


def test_the_fingerprint_follows_the_records_of_its_epoch(changing_tree: Path) -> None:
    source = PackageSource(changing_tree)
    before = {epoch: source.fingerprint(epoch) for epoch in (2, 5, None)}
    assert len(set(before.values())) == 3
    assert {epoch: PackageSource(changing_tree).fingerprint(epoch) for epoch in before} == before
    file = record_file(changing_tree, "AlexNet", "mnist", 5)
    os.utime(file, ns=(0, 0))
    assert source.fingerprint(5) != before[5]
    assert source.fingerprint(None) != before[None]
    assert source.fingerprint(2) == before[2]
    (changing_tree / "nn" / "AlexNet.py").unlink()  # its trials would be excluded
    assert source.fingerprint(2) != before[2]


def test_a_source_that_is_not_utf_8_is_named(changing_tree: Path) -> None:
    name = min(PackageSource(changing_tree).networks())
    (changing_tree / "nn" / f"{name}.py").write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match=rf"cannot read LEMUR file '.*{name}\.py'"):
        PackageSource(changing_tree).sources([name])


def test_a_file_that_may_not_be_read_is_named(changing_tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", forbidden)  # root may read everything
    with pytest.raises(UserError, match=r"cannot read LEMUR file .*Permission denied"):
        list(PackageSource(changing_tree).records(5))


def test_a_folder_in_place_of_records(changing_tree: Path) -> None:
    file = record_file(changing_tree, "AlexNet", "mnist", 5)
    file.unlink()
    file.mkdir()
    with pytest.raises(UserError, match=r"5\.json' \(Is a directory\); reinstall nn-dataset or remove the file"):
        list(PackageSource(changing_tree).records(5))


def test_names_that_are_no_epochs(changing_tree: Path) -> None:
    file = record_file(changing_tree, "AlexNet", "mnist", 5)
    before = len(list(PackageSource(changing_tree).records(None)))
    for name in ("²", "٥", "-5", "5.0", "x"):
        (file.parent / f"{name}.json").write_bytes(file.read_bytes())
    (changing_tree / "stat" / "train" / "img-classification_mnist_acc_File").touch()
    assert len(list(PackageSource(changing_tree).records(5))) > 0
    (changing_tree / "stat" / "train" / "img-classification_mnist_acc_File").unlink()
    assert len(list(PackageSource(changing_tree).records(None))) == before


def test_accuracies_in_percent_are_named(changing_tree: Path) -> None:
    for file in changing_tree.glob("stat/train/*/5.json"):
        trials = json.loads(file.read_text())
        file.write_text(json.dumps([{**trial, "accuracy": 100 * trial["accuracy"]} for trial in trials]))
    for _ in range(2):  # the second time from the cache
        with pytest.raises(
            UserError, match=r"accuracies are outside \[0, 1\]; if they are in percent, divide them by 100"
        ):
            read_trials(PackageSource(changing_tree), 5)


def test_the_installed_one_is_found_without_importing_lemur(lemur_not_imported: None) -> None:
    folder = installed_folder()
    assert folder is not None
    assert folder.parts[-2:] == ("ab", "nn")
    assert not any(name == "ab" or name.startswith("ab.") for name in sys.modules)
