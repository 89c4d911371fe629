"""Finding the host: both layouts, none, and an unknown one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host.defects import find_defects
from nngpt_ext.host.layout import LAYOUTS, Host, find_host
from nngpt_ext.host.reading import check_parameters, constant, function, lacking, parameters
from nngpt_ext.host.status import obstacles


def made(folder: Path, main: str, **files: str) -> Path:
    """A package folder with a main module and others, given by name with `__` for `/`."""
    package = folder / "ab" / "gpt"
    (package / "util" / "prompt").mkdir(parents=True)
    for name, text in {main: "def main(llm_conf=CONF, n=3, *, flag=True): ...\nCONF = 'x.json'\n", **files}.items():
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
    with pytest.raises(UserError, match=r"NNGPT is not installed in '.*'; type: pip install --no-deps nn-gpt==1\.0\.6"):
        find_host(tmp_path)


def test_an_unknown_layout(tmp_path: Path) -> None:
    made(tmp_path, "Other")
    with pytest.raises(UserError, match=r"unknown layout: neither TuneNNGen\.py nor act/tune/Tune\.py"):
        find_host(tmp_path)


def test_finding_runs_none_of_its_code(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    (tmp_path / "ab" / "__init__.py").write_text("raise SystemExit(9)")
    script = "from nngpt_ext.host.layout import find_host; print(find_host().layout)"
    env = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "flat\n"), done.stderr


def test_reading_parameters(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    host = find_host(tmp_path)
    found = parameters(host, "main", "main")
    assert [constant(host, "main", value) for value in found.values()] == ["x.json", 3, True]
    check_parameters(host, "main", "main", ("n", "flag"))
    with pytest.raises(UserError, match=r"main in '.*TuneNNGen\.py' takes no data_dir, epochs"):
        check_parameters(host, "main", "main", ("n", "data_dir", "epochs"))


def test_a_function_that_is_gone(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen", util__Tune="class A:\n    def f(self): ...\n")
    host = find_host(tmp_path)
    assert function(host, "tune", "A.f").name == "f"
    for name in ("tune", "A.g", "B.f"):
        with pytest.raises(UserError, match=rf"Tune\.py has no {name}"):
            function(host, "tune", name)
    with pytest.raises(UserError, match=r"has no ClassificationEval\.py"):
        host.file("evaluation")


def test_a_file_that_is_no_python(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen", util__Tune="def (")
    with pytest.raises(UserError, match=r"cannot read the host's '.*Tune\.py'"):
        function(find_host(tmp_path), "tune", "tune")


def test_what_a_module_lacks(tmp_path: Path) -> None:
    made(
        tmp_path, "TuneNNGen",
        util__Tune="import json\nimport absent_one\nfrom ab.gpt.util import Other\ntry:\n    import absent_two\n"
                   "except ImportError: ...\ndef f():\n    import absent_three\n",
        util__Other="from absent_four.part import x\nimport ab.gpt.util.Tune\n",
    )  # fmt: skip
    assert lacking(find_host(tmp_path), "tune") == ["absent_four", "absent_one"]


@pytest.mark.parametrize("text", ["{", '{"a": [1]}', "[]"])
def test_prompts_of_the_host_edited_by_hand(tmp_path: Path, text: str) -> None:
    package = made(tmp_path, "TuneNNGen", util__Tune="def tune(): ...", util__LoRA="", util__Util="")
    file = package / "conf" / "prompt" / "train" / "NN_dataset_compare_x.json"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    host = find_host(tmp_path)
    present = {defect["name"]: defect["present"] for defect in find_defects(host, {})}
    assert present["code_cut"] is present["system_differs"] is None
    assert [line for line in obstacles(host, {}) if f"the host's prompts in '{file}'" in line]
