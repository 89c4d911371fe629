"""A bundle: what is in it, and its installation without a network into an empty environment."""

from __future__ import annotations

import ensurepip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.data.trials import collect
from nngpt_ext.errors import UserError
from nngpt_ext.export import bundle as made
from nngpt_ext.export.bundle import INSTALLER, _least_torch, _older, _pack_lemur, _pip, _slim, _stand_in, make_bundle

PLATFORM = (
    "--platform must name the other machine's glibc and processor (x86_64 or aarch64), not '{}'; for glibc 2.28 or "
    "later, type: --platform manylinux_2_28_x86_64"
)
HERE = {"platform": "manylinux_2_28_x86_64", "python": "3.12"}


def test_older_platforms_are_taken_too() -> None:
    found = _older("manylinux_2_17_aarch64")
    assert found[0] == "manylinux_2_17_aarch64"
    assert found[-4:] == [
        "manylinux_2_5_aarch64", "manylinux2014_aarch64", "manylinux2010_aarch64", "manylinux1_aarch64"
    ]  # fmt: skip
    assert "manylinux2014_x86_64" not in _older("manylinux_2_12_x86_64")


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
        (
            {"python": "3"},
            "--python must be 3.11 or later, which the versions in constraints.txt need, such as 3.12, not '3'",
        ),
        (
            {"python": "3.10"},
            "--python must be 3.11 or later, which the versions in constraints.txt need, such as 3.12, not '3.10'",
        ),
        *(
            ({"platform": name}, PLATFORM.format(name))
            for name in (
                "win_amd64",
                "linux_x86_64",
                "musllinux_1_2_x86_64",
                "manylinux2014_x86_64",
                "manylinux_2_28_amd64",
            )
        ),
        ({"torch": "cpu"}, "unknown torch 'cpu'; known: none, tested"),
        ({"base": "embeded"}, "unknown base model 'embeded' (did you mean 'embedded'?)"),
    ],
)
def test_mistakes_are_lines(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(line)}"):
        make_bundle(tmp_path / "bundle", **{**HERE, **changes})
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="is not an empty folder"):
        make_bundle(tmp_path, **HERE)
    assert [place.name for place in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("torch", "needs"), [("none", "2.6\n"), ("tested", None)])
def test_a_bundle_says_what_its_installer_checks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lemur_source: PackageSource, torch: str, needs: str | None
) -> None:
    """Without what takes minutes: wheels and LEMUR."""
    monkeypatch.setattr(made, "_get_wheels", lambda *_: None)
    monkeypatch.setattr(made, "_pack_lemur", lambda _, target: target.touch())
    make_bundle(tmp_path / "bundle", **HERE, torch=torch)
    assert (tmp_path / "bundle" / made.PYTHON).read_text() == "3.12\n"
    file = tmp_path / "bundle" / made.TORCH
    assert (file.read_text() if file.exists() else None) == needs


def test_a_conflict_of_pip_is_told_by_what_wants_which_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By pip itself, about two small wheels: of these, no versions go together."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))  # of the log
    small_wheel(tmp_path, "first", "Requires-Dist: second==2\n")
    small_wheel(tmp_path, "second")
    wanted = [f"--find-links={tmp_path}", "--no-index", "first", "second==1"]
    with pytest.raises(UserError) as failed:
        _pip("download", *wanted, "-d", str(tmp_path / "there"))
    conflict = "The user requested second==1; first 1 depends on second==2"
    assert str(failed.value).startswith(f"pip download failed ({conflict}); it printed: ")
    assert "ResolutionImpossible" in Path(str(failed.value).rpartition(" ")[2]).read_text()
    with pytest.raises(
        UserError, match=r"^pip download failed \(ERROR: Could not find .* ERROR: No .* found for third\)"
    ):
        _pip("download", "--no-index", "third", "-d", str(tmp_path / "there"))


def small_wheel(folder: Path, name: str, *metadata: str, files: dict[str, str] | None = None) -> None:
    info = f"{name.replace('-', '_')}-1.dist-info"
    with zipfile.ZipFile(folder / f"{name.replace('-', '_')}-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n{''.join(metadata)}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        for place, text in (files or {}).items():
            wheel.writestr(place.format(info=info), text)
        wheel.writestr(f"{info}/RECORD", "")


@dataclass(frozen=True)
class Small:
    """A bundle with the real installer: this Python's pip, a package with the command, and no torch."""

    folder: Path
    python: Path  # without torch
    node: Path  # what is installed

    def give_torch(self, version_file: str) -> Path:
        """A folder of the Python that has a torch."""
        (site,) = self.python.parents[1].glob("lib/python*/site-packages")
        (site / "torch").mkdir(exist_ok=True)
        (site / "torch" / "__init__.py").touch()
        (site / "torch" / "version.py").write_text(version_file)
        return site

    def command(self, *words: str | Path) -> list[str]:
        return ["sh", str(self.folder / INSTALLER), *map(str, words or (self.node,))]

    def outside(self, **changes: str | Path) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_", "VIRTUAL"))}
        return {**kept, "PYTHON": str(self.python), **{name: str(value) for name, value in changes.items()}}

    def install(self, *words: str | Path, **changes: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*words), env=self.outside(**changes), capture_output=True, text=True, timeout=120
        )

    def refused(self, *words: str | Path, **changes: str | Path) -> str:
        done = self.install(*words, **changes)
        assert (done.returncode, done.stderr.count("\n"), done.stdout) == (2, 1, "")
        assert not self.node.exists()
        return done.stderr


@pytest.fixture
def small(tmp_path: Path) -> Small:
    folder, python = tmp_path / "bundle", tmp_path / "bare" / "bin" / "python"
    (folder / made.WHEELS).mkdir(parents=True)
    shutil.copy(Path(made.__file__).with_name(INSTALLER), folder)
    (folder / made.PYTHON).write_text(f"3.{sys.version_info.minor}\n")
    (folder / made.TORCH).write_text(f"{_least_torch()}\n")
    with tarfile.open(folder / made.LEMUR, "w:xz"):
        pass
    for wheel in (Path(ensurepip.__file__).parent / "_bundled").glob("pip-*.whl"):
        shutil.copy(wheel, folder / made.WHEELS)
    command = {
        "{info}/entry_points.txt": "[console_scripts]\nnngpt-ext = small:main\n",
        "small.py": "def main(): print('runs')\n",
    }
    small_wheel(folder / made.WHEELS, "nngpt-ext", files=command)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path / "bare"], check=True)
    return Small(folder, python, tmp_path / "node")


def test_mistakes_are_told_before_anything_is_installed(small: Small) -> None:
    assert small.refused().startswith(f"error: {small.python} has no torch; give one that has it")
    site = small.give_torch("__version__ = '2.5.1+cu124'\n")
    fault = f"error: torch in {site} is {{}}; {_least_torch()} or later is needed: install it, or PYTHON=… sh "
    assert small.refused().startswith(fault.format("2.5.1+cu124"))
    small.give_torch("no_version = 1\n")
    assert small.refused().startswith(fault.format("of an unknown version"))
    assert "give the folder of the new environment: sh " in small.refused("one", "two")
    assert f"'{small.folder}' is there already; give another folder" in small.refused(small.folder)
    (small.folder / made.LEMUR).write_bytes(b"cut")
    assert "lemur.tar.xz is damaged, or xz is missing; copy the bundle again" in small.refused()
    (small.folder / made.PYTHON).write_text("3.99\n")
    assert "this bundle is for Python 3.99, and " in small.refused()


@pytest.mark.parametrize("version", ["2.6.0a0+ecf3bae40a.nv25.01", "3.0"])
def test_a_torch_that_is_late_enough_is_used(small: Small, version: str) -> None:
    site = small.give_torch(
        f"from typing import Optional\n\n__all__ = ['__version__']\n__version__ = '{version}'\ncuda = '12.4'\n"
    )
    done = small.install()
    assert (done.returncode, done.stderr) == (0, "")
    found = subprocess.check_output(
        [small.node / "bin" / "python", "-c", "import torch; print(torch.__file__)"], text=True
    )
    assert Path(found).parents[1] == site


@pytest.mark.parametrize("by", ["variables", "user's file", "system's file", "PYTHONPATH"])
def test_a_configured_pip_installs_here_all_the_same(small: Small, tmp_path: Path, by: str) -> None:
    """As modules of clusters configure it: to install elsewhere, for the user only, or under constraints."""
    small.give_torch("__version__ = '2.6.0'\n")
    elsewhere = tmp_path / "elsewhere"
    changes: dict[str, str | Path] = {
        "variables": {
            **dict.fromkeys(("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT"), elsewhere),
            "PIP_USER": "1", "PIP_CONSTRAINT": "/nonexist",
        },
        "user's file": {"XDG_CONFIG_HOME": elsewhere},
        "system's file": {"XDG_CONFIG_DIRS": elsewhere},
        "PYTHONPATH": {"PYTHONPATH": elsewhere},
    }[by]  # fmt: skip
    (elsewhere / "pip").mkdir(parents=True)
    (elsewhere / "pip" / "pip.conf").write_text("[global]\nuser = true\nconstraint = /nonexist\n")
    info = elsewhere / "nngpt_ext-1.dist-info"  # of this version, so pip would find nothing to install
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nngpt-ext\nVersion: 1\n")
    before = sorted(elsewhere.rglob("*"))
    done = small.install(HOME=tmp_path / "home", **changes)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"installed; type: {small.node}/bin/nngpt-ext doctor\n"
    assert subprocess.check_output([small.node / "bin" / "nngpt-ext"], text=True) == "runs\n"
    assert sorted(elsewhere.rglob("*")) == before


def test_a_bundle_that_lacks_its_own_wheel_installs_nothing(small: Small) -> None:
    small.give_torch("__version__ = '2.6.0'\n")
    for wheel in (small.folder / made.WHEELS).glob("nngpt_ext-*"):
        wheel.unlink()
    assert small.refused() == f"error: pip did not install nngpt-ext into '{small.node}'; copy the bundle again\n"


@pytest.mark.parametrize(("sent", "code"), [("INT", 130), ("TERM", 143), ("HUP", 129)])
def test_an_installation_that_a_signal_ends_leaves_nothing(small: Small, sent: str, code: int) -> None:
    """It arrives while pip runs, here as a pip that waits."""
    small.give_torch("__version__ = '2.6.0'\n")
    for wheel in (small.folder / made.WHEELS).glob("pip-*"):
        with zipfile.ZipFile(wheel, "w") as changed:
            changed.writestr("pip/__main__.py", "import time\nprint('waits', flush=True)\ntime.sleep(60)\n")
    process = subprocess.Popen(
        small.command(), env=small.outside(), stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "waits\n"
        assert small.node.exists()
        os.killpg(process.pid, getattr(signal, f"SIG{sent}"))
        assert process.wait(30) == code
    assert not small.node.exists()


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
    outside |= {"PYTHON": sys.executable, "OMP_NUM_THREADS": "1", "PIP_TARGET": str(tmp_path / "elsewhere")}

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
