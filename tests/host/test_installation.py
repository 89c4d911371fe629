"""Finding NNGPT: both layouts, none, and an unknown one; what its functions accept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host.installation import LAYOUTS, Host, find_host


def made(folder: Path, main: str, **files: str) -> Path:
    """A package folder with a main module and others, given by name with `__` for `/`."""
    package = folder / "ab" / "gpt"
    (package / "util" / "prompt").mkdir(parents=True)
    for name, text in {main: "def main(llm_conf='x.json', n=3, *, flag=True): ...\n", **files}.items():
        file = package / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return package


@pytest.mark.parametrize(("layout", "main"), [("flat", "TuneNNGen"), ("act", "act__tune__Tune")])
def test_both_layouts(tmp_path: Path, layout: str, main: str) -> None:
    package = made(tmp_path, main)
    assert find_host(tmp_path) == find_host(package) == Host(package, layout, None)
    assert find_host(tmp_path).module("main") == f"ab.gpt.{main.replace('__', '.')}"
    assert set(LAYOUTS["flat"]) == set(LAYOUTS["act"])


def test_the_version_of_a_checkout(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    (tmp_path / "version").write_text("9.9\n")
    (tmp_path / "pyproject.toml").touch()
    assert find_host(tmp_path).version == "9.9"


def test_no_host(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not installed in '.*'; type: .*pip install --no-deps nn-gpt==1\.0\.6"):
        find_host(tmp_path)


def test_an_unknown_layout(tmp_path: Path) -> None:
    made(tmp_path, "Other")
    with pytest.raises(UserError, match=r"unknown layout: neither TuneNNGen\.py nor act/tune/Tune\.py"):
        find_host(tmp_path)


def test_finding_runs_none_of_its_code(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    (tmp_path / "ab" / "__init__.py").write_text("raise SystemExit(9)")
    script = "from nngpt_ext.host.installation import find_host; print(find_host().layout)"
    env = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "flat\n"), done.stderr


def test_parameters(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    host = find_host(tmp_path)
    assert host.parameters("main", "main") == ["llm_conf", "n", "flag"]
    host.require("main", "main", ("n", "flag"))
    with pytest.raises(UserError, match=r"main in '.*TuneNNGen\.py' does not accept data_dir, epochs"):
        host.require("main", "main", ("n", "data_dir", "epochs"))


def test_a_function_or_module_that_is_gone(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen", util__Tune="class A:\n    def tune(self): ...\n")
    host = find_host(tmp_path)
    with pytest.raises(UserError, match=r"Tune\.py' has no function tune"):
        host.parameters("tune", "tune")
    with pytest.raises(UserError, match=r"has no ClassificationEval\.py"):
        host.file("evaluation")


def test_a_file_that_cannot_be_parsed(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen", util__Tune="def (")
    with pytest.raises(UserError, match=r"cannot read NNGPT's '.*Tune\.py'"):
        find_host(tmp_path).parameters("tune", "tune")
