"""The install commands of messages name what exists, for the Python that runs."""

from __future__ import annotations

import shlex
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from nngpt_ext.extras import install_extra, install_library, pip, requirements

ROOT = Path(__file__).parents[1]
EXTRAS = sorted(set(metadata.metadata("nngpt-ext").get_all("Provides-Extra") or []))


def test_pip_is_that_of_the_python_that_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `pip` on the path installs for another Python, for example where `.venv/bin/nngpt-ext` is typed."""
    own = Path(sys.executable)
    for folder, command in ((tmp_path, f"{shlex.quote(str(own))} -m pip install x"), (own.parent, "pip install x")):
        (tmp_path / "pip").write_text("#!/bin/sh\n")
        (tmp_path / "pip").chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        if (folder / "pip").exists():
            assert pip("install x") == command
    monkeypatch.setenv("PATH", str(tmp_path))
    words = [*shlex.split(pip("install x"))[:-2], "--version"]
    found = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    assert str(Path(sys.prefix)) in found


def test_an_environment_without_pip(tmp_path: Path) -> None:
    venv.create(tmp_path, symlinks=True, with_pip=False)
    python = tmp_path / "bin" / "python"
    code = "from nngpt_ext.extras import pip; print(pip('uninstall x y'))"
    done = subprocess.run(
        [python, "-c", code], env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"uv pip uninstall --python {python} x y\n"


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_command_for_an_extra_names_published_libraries(extra: str) -> None:
    words = shlex.split(install_extra(extra))
    needed = [Requirement(word) for word in words[words.index("install") + 1 :]]
    assert needed
    assert "nngpt-ext" not in {one.name for one in needed}  # which is on no index
    assert {one.name for one in needed} == {one.name for one in requirements(extra)}
    assert all(one.specifier or one.name.startswith(("pandas-stubs", "types-")) for one in needed)


def test_an_extra_of_extras_has_theirs() -> None:
    names = {one.name for one in requirements("dev")}
    assert {"mypy", "pytest", "matplotlib", "langgraph"} <= names
    assert "torch" not in names


def test_where_the_package_is_only_on_the_path() -> None:
    """Without its metadata the clone itself is installed, wherever the command is typed."""
    code = (
        "import sys; sys.path = [p for p in sys.path if 'site-packages' not in p]; "
        "from nngpt_ext.extras import install_extra, install_library as l; "
        "print(install_extra('study')); print(l('torch')); print(l('torch', again=True))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True,
        check=True,
    )  # fmt: skip
    extra, library, again = done.stdout.splitlines()
    assert shlex.split(extra)[-2:] == ["-e", f"{ROOT}[study]"]
    assert shlex.split(library)[-1] == "torch"
    assert shlex.split(again)[-3:] == ["--force-reinstall", "--no-deps", "torch"]


def test_a_library_in_a_version_that_is_allowed() -> None:
    assert install_library("bitsandbytes") == pip("install 'bitsandbytes>=0.50'")
    assert install_library("bitsandbytes", again=True) == pip(
        "install --force-reinstall --no-deps 'bitsandbytes>=0.50'"
    )
    assert install_library("nothing") == pip("install nothing")
