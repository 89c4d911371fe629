"""Finding NNGPT and the modules it has, whatever its layout; what its functions accept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host.installation import ROLES, Host, find_host
from nngpt_ext.host.integration import enable, host_status
from nngpt_ext.host.process import obstacles


def made(folder: Path, main: str, **files: str) -> Path:
    """A package folder with a main module and others, given by name with `__` for `/`."""
    package = folder / "ab" / "gpt"
    for name, text in {main: "def main(llm_conf='x.json', n=3, *, flag=True): ...\n", **files}.items():
        file = package / f"{name.replace('__', '/')}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (package / "__init__.py").touch()
    return package


# Where each role is in 1.0.6, on the main branch of 20 August 2026, and in the commits after it.
FLAT = {
    "main": "TuneNNGen", "tune": "util.Tune", "lora": "util.LoRA", "prompt": "util.prompt.Prompt",
    "loader": "util.prompt.NNGenPrompt", "builder": "util.DatasetCompareBuilder", "evaluation": "ClassificationEval",
    "state": "agents.state", "manager": "agents.manager",
}  # fmt: skip
ACT = FLAT | {
    "main": "act.tune.Tune", "evaluation": "act.classification.Eval", "state": "act.agents.state",
    "manager": "act.agents.manager",
}  # fmt: skip
LATER = ACT | {
    "tune": "util.tune.Tune", "lora": "util.llm.LoRA", "builder": "util.data.DatasetCompareBuilder",
}  # fmt: skip


def laid_out(folder: Path, modules: dict[str, str]) -> Path:
    """A tree with a module for each role that defines its name, as a class."""
    text = {place.replace(".", "__"): f"class {ROLES[role].defines}: ...\n" for role, place in modules.items()}
    return made(folder, "unused", **text)


def test_the_layouts_of_the_real_hosts(host: Host) -> None:
    assert host.modules == (ACT if (host.folder / "act").is_dir() else FLAT)
    assert not host.missing


@pytest.mark.parametrize("modules", [FLAT, ACT, LATER], ids=["1.0.6", "August", "later"])
def test_roles_are_found_by_what_modules_define(tmp_path: Path, modules: dict[str, str]) -> None:
    package = laid_out(tmp_path, modules)
    assert find_host(tmp_path) == find_host(package) == Host(package, None)
    assert find_host(tmp_path).modules == modules
    assert find_host(tmp_path).module("tune") == f"ab.gpt.{modules['tune']}"


def test_a_file_that_has_only_kept_its_name_is_passed_over(tmp_path: Path) -> None:
    laid_out(tmp_path, LATER | {"tune": "util.Tune"})
    later = tmp_path / "ab" / "gpt" / "util" / "tune" / "Tune.py"
    later.parent.mkdir()
    for text in ("from ab.gpt.elsewhere import tune\n", "def (", "class Other:\n    def tune(self): ...\n"):
        later.write_text(text)
        assert find_host(tmp_path).modules["tune"] == "util.Tune"
    later.write_text("def tune(): ...\n")
    assert find_host(tmp_path).modules["tune"] == "util.tune.Tune"  # the newest, where both are there


def test_a_layout_never_seen_names_what_it_disables_and_can_still_be_enabled(tmp_path: Path) -> None:
    package = made(tmp_path, "core__training__entry")
    found = host_status(package, project=tmp_path / "nngpt", run=False)
    assert found["modules"] == {}
    assert found["missing"]["main"] == ("none of act.tune.Tune, TuneNNGen defines main, so host tune cannot be used")
    assert found["missing"].keys() == ROLES.keys()
    assert set(obstacles(find_host(package))) > {found["missing"][role] for role in ("main", "tune", "lora")}
    with pytest.raises(UserError, match=r"none of act\.agents\.state, agents\.state defines AgentState, so make_state"):
        find_host(package).module("state")
    enable("dataset_compare", folder=tmp_path / "nngpt")
    assert host_status(package, project=tmp_path / "nngpt", run=False)["enabled"]["prompts"] == ["code_only"]


def test_the_version_of_a_checkout(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    (tmp_path / "version").write_text("9.9\n")
    (tmp_path / "pyproject.toml").touch()
    assert find_host(tmp_path).version == "9.9"


def test_no_host(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"not installed in '.*'; type: .*pip install --no-deps nn-gpt==1\.0\.6"):
        find_host(tmp_path)


def test_finding_runs_none_of_its_code(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    (tmp_path / "ab" / "__init__.py").write_text("raise SystemExit(9)")
    script = "from nngpt_ext.host.installation import find_host; print(find_host().module('main'))"
    env = {"PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}", "PATH": ""}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ab.gpt.TuneNNGen\n"), done.stderr


def test_parameters(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    host = find_host(tmp_path)
    assert host.parameters("main") == ["llm_conf", "n", "flag"]
    host.require("main", ("n", "flag"))
    with pytest.raises(UserError, match=r"main in '.*TuneNNGen\.py' does not accept data_dir, epochs"):
        host.require("main", ("n", "data_dir", "epochs"))
