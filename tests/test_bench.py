"""The commands `nngpt-ext bench …` find the benchmarks beside a checkout, and say where they are elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import nngpt_ext

PACKAGE = Path(nngpt_ext.__file__).parent


@pytest.mark.parametrize("command", [["prefix"], ["predict", "--run", "runs/demo"], ["host"], ["linear"]])
def test_an_installed_wheel_says_where_the_benchmarks_are(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "nngpt_ext").symlink_to(PACKAGE)  # a folder of packages, as a wheel leaves it
    done = subprocess.run(
        [sys.executable, "-m", "nngpt_ext", "bench", *command], cwd=tmp_path, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "in the repository of nngpt_ext, not in the installed package" in done.stderr
    assert "pip install -e ." in done.stderr


def test_a_checkouts_benchmarks_come_before_another_package_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "__init__.py").write_text("raise RuntimeError('of somebody else')")
    done = subprocess.run(
        [sys.executable, "-m", "nngpt_ext", "bench", "host", "--database", "absent.db", "--host", "absent"],
        cwd=tmp_path, text=True, capture_output=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(PACKAGE.parent)])},
    )  # fmt: skip
    assert done.returncode == 2  # of the database or NNGPT that are not there
    assert "of somebody else" not in done.stderr
