"""A bundle: what is in it, and its installation without a network into an empty environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.data.trials import collect
from nngpt_ext.errors import UserError
from nngpt_ext.export import bundle as made
from nngpt_ext.export.bundle import INSTALLER, _older, _pack_lemur, _slim, _stand_in, make_bundle

HERE = {"platform": "manylinux_2_28_x86_64", "python": "3.12"}


def test_older_platforms_are_taken_too() -> None:
    found = _older("manylinux_2_17_aarch64")
    assert found[0] == "manylinux_2_17_aarch64"
    assert found[-4:] == [
        "manylinux_2_5_aarch64", "manylinux2014_aarch64", "manylinux2010_aarch64", "manylinux1_aarch64"
    ]  # fmt: skip
    assert "manylinux2014_x86_64" not in _older("manylinux_2_12_x86_64")
    assert _older("macosx_14_0_arm64") == ["macosx_14_0_arm64"]


def test_only_keys_that_are_read_are_kept() -> None:
    assert (
        _slim(b'[{"accuracy": 0.5, "lr": 0.1, "duration": 7}, {"batch": 8}]')
        == b'[{"accuracy":0.5,"lr":0.1},{"batch":8}]'
    )
    for damaged in (b'[{"accuracy": ', b"[1, 2]", b"7"):
        assert _slim(damaged) == damaged


def test_lemur_in_the_archive_has_the_same_trials(lemur_source: PackageSource, tmp_path: Path) -> None:
    """Those of AlexNet and VGG, at all epochs."""
    real, small = Path(lemur_source.location), tmp_path / "ab" / "nn"
    (small / "nn").mkdir(parents=True)
    (small / "stat" / "train").mkdir(parents=True)
    for nn in ("AlexNet", "VGG"):
        for place in (real / "nn" / f"{nn}.py", *(real / "stat" / "train").glob(f"img-classification_*_acc_{nn}")):
            (small / place.relative_to(real)).symlink_to(place)
    _pack_lemur(small, tmp_path / "lemur.tar.xz")
    with tarfile.open(tmp_path / "lemur.tar.xz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    sources = [PackageSource(small), PackageSource(tmp_path / "there" / "ab" / "nn")]
    frames = [collect(source.records(None), source.networks(), source.facts).frame for source in sources]
    assert len(frames[0]) > 1000
    assert frames[0].equals(frames[1])
    assert sources[0].sources(["VGG"]) == sources[1].sources(["VGG"])


def test_torch_that_is_there_already_has_a_stand_in(tmp_path: Path) -> None:
    version = _stand_in(tmp_path)
    assert version.endswith("+none")
    with zipfile.ZipFile(tmp_path / f"torch-{version}-py3-none-any.whl") as wheel:
        assert "Requires-Dist" not in wheel.read(f"torch-{version}.dist-info/METADATA").decode()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"python": "3"}, r"--python must be 3\.10 or later, such as 3\.12, not '3'"),
        ({"python": "3.9"}, r"--python must be 3\.10 or later, such as 3\.12, not '3\.9'"),
        ({"platform": "win_amd64"}, "--platform must be a Linux as pip names it, .*, not 'win_amd64'"),
        ({"torch": "cpu"}, "unknown torch 'cpu'; known: none, tested"),
        ({"base": "embeded"}, r"unknown base model 'embeded' \(did you mean 'embedded'\?\)"),
    ],
)
def test_mistakes_are_lines(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=line):
        make_bundle(tmp_path / "bundle", **{**HERE, **changes})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not an empty folder"):
        make_bundle(tmp_path, **HERE)
    assert [place.name for place in tmp_path.iterdir()] == ["file"]


def test_a_python_without_torch_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    (bundle / "wheels").mkdir(parents=True)
    shutil.copy(Path(made.__file__).with_name(INSTALLER), bundle)
    (bundle / made.PYTHON).write_text(f"3.{sys.version_info.minor}\n")
    with tarfile.open(bundle / made.LEMUR, "w:xz"):
        pass
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    outside = {**os.environ, "PYTHON": str(tmp_path / "bare" / "bin" / "python"), "PYTHONPATH": ""}
    command = ["sh", str(bundle / INSTALLER), str(tmp_path / "node")]
    done = subprocess.run(command, env=outside, capture_output=True, text=True)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith(f"error: {outside['PYTHON']} has no torch; give one that has it")
    assert not (tmp_path / "node").exists()

    def refused(*words: str) -> str:
        done = subprocess.run(["sh", bundle / INSTALLER, *words], env=outside, capture_output=True, text=True)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1)
        return done.stderr

    assert "give the folder of the new environment: sh " in refused()
    assert f"'{bundle}' is there already; give another folder" in refused(str(bundle))
    (bundle / made.LEMUR).write_bytes(b"cut")
    assert "lemur.tar.xz is damaged, or xz is missing; copy the bundle again" in refused(str(tmp_path / "node"))
    (bundle / made.PYTHON).write_text("3.99\n")
    assert "this bundle is for Python 3.99, and " in refused(str(tmp_path / "node"))
    assert not (tmp_path / "node").exists()


@pytest.mark.slow
def test_it_is_installed_without_a_network_and_runs(tmp_path: Path) -> None:
    """Needs a package registry for the bundle, and some minutes."""
    python = f"3.{sys.version_info.minor}"
    try:
        sizes = make_bundle(tmp_path / "bundle", platform="manylinux_2_28_x86_64", python=python, torch="none")
    except UserError as error:
        if "No matching distribution found" in str(error):
            pytest.skip("there is no package registry")
        raise
    assert sizes["lemur.tar.xz"] < 15e6
    assert sizes["base"] == 0
    assert sizes["total"] > sizes["wheels"] + sizes["lemur.tar.xz"]
    alone = ["unshare", "--map-root-user", "--net"]  # no network, where the system allows it
    if subprocess.run([*alone, "true"], capture_output=True).returncode:
        alone = []
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "VIRTUAL"))}
    outside |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}

    def there(*command: str) -> str:
        done = subprocess.run(
            [*alone, *command], cwd=tmp_path, env=outside, capture_output=True, text=True, timeout=1200
        )
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    assert "nngpt-ext doctor" in there("sh", "bundle/install.sh", "node")
    place = there("node/bin/python", "-c", "import nngpt_ext; print(nngpt_ext.__file__)").strip()
    assert Path(place).is_relative_to(tmp_path / "node")
    assert json.loads(there("node/bin/nngpt-ext", "pairs", "--json"))["pairs"] == 19314
    small = "data.train_networks=8 data.validation_networks=4 data.test_networks=4 tuning.epochs=1 model.base=embedded"
    settings = [part for setting in small.split() for part in ("--set", setting)]
    report = there("node/bin/nngpt-ext", "run", "dataset_compare", *settings, "--out", "run", "--json")
    assert json.loads(report)["n_test_networks"] == 4
