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
    "loader": "util.prompt.NNGenPrompt", "builder": "util.DatasetCompareBuilder", 
    "state": "agents.state", "manager": "agents.manager",
}  # fmt: skip
ACT = FLAT | {
    "main": "act.tune.Tune", "state": "act.agents.state", "manager": "act.agents.manager",
}  # fmt: skip
LATER = ACT | {
    "tune": "util.tune.Tune", "lora": "util.llm.LoRA", "builder": "util.data.DatasetCompareBuilder",
}  # fmt: skip


def laid_out(folder: Path, modules: dict[str, str]) -> Path:
    """A tree with a module for each role that defines its name."""
    return made(folder, "unused", **{place.replace(".", "__"): defining(role) for role, place in modules.items()})


def defining(role: str) -> str:
    name = ROLES[role].defines
    return f"class {name}: ...\n" if name[0].isupper() else f"def {name}(): ...\n"


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
    assert set(obstacles(find_host(package))) > {found["missing"][role] for role in ("main", "tune", "prompt")}
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
    with pytest.raises(UserError, match=r"^NNGPT is not installed in '.*'; type: .*install --no-deps nn-gpt==1\.0\.6"):
        find_host(tmp_path)
    cure = "give NNGPT's folder ab/gpt, or one that contains it"
    for name in ("nope", "x" * 300):
        with pytest.raises(UserError, match=rf"^'.*{name[-20:]}' does not exist; {cure}$"):
            find_host(tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"^'.*file' is a file, not a folder; {cure}$"):
        find_host(tmp_path / "file")


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


MAIN = b"def main(llm_conf, n=1): ...\n"
INDENTED = b"    " + MAIN


@pytest.mark.parametrize(
    ("source", "parameters"),
    [
        (b"\xef\xbb\xbf" + MAIN, ["llm_conf", "n"]),
        (b"# -*- coding: latin-1 -*-\n# \xe9\n" + MAIN, ["llm_conf", "n"]),
        (MAIN.replace(b"\n", b"\r\n"), ["llm_conf", "n"]),
        (b"async " + MAIN, ["llm_conf", "n"]),
        (b"try:\n    import x\n" + INDENTED + b"except ImportError:\n    def main(*given): ...\n", ["llm_conf", "n"]),
        (b"try:\n    import main\nexcept ImportError:\n" + INDENTED, ["llm_conf", "n"]),
        (b"try: ...\nfinally:\n" + INDENTED, ["llm_conf", "n"]),
        (b"if a:\n    if b:\n    " + INDENTED, ["llm_conf", "n"]),
        (b"if a: ...\nelse:\n" + INDENTED, ["llm_conf", "n"]),
        (b"with a():\n" + INDENTED, ["llm_conf", "n"]),
        (b"if a: pass\n" + b"elif b: pass\n" * 500 + b"else:\n" + INDENTED, ["llm_conf", "n"]),
        (b"def main(old): ...\n" + MAIN, ["llm_conf", "n"]),
        (b"@overload\ndef main(one): ...\n@overload\ndef main(two): ...\n" + MAIN, ["llm_conf", "n"]),
        (b"class main: ...\n" + MAIN, ["llm_conf", "n"]),
        (b"def main(at, /, llm_conf, *rest, n, **more): ...\n", ["llm_conf", "n"]),
    ],
)
def test_the_parameters_that_python_would_see(tmp_path: Path, source: bytes, parameters: list[str]) -> None:
    package = made(tmp_path, "TuneNNGen")
    (package / "TuneNNGen.py").write_bytes(source)
    host = find_host(tmp_path)
    assert host.modules == {"main": "TuneNNGen"}
    assert host.parameters("main") == parameters
    assert host.takes_any("main") == (b"**" in source)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (b"class main: ...\n", ""),
        (MAIN + b"class main: ...\n", ""),
        (b"class Other:\n" + INDENTED, ""),
        (b"def other():\n" + INDENTED, ""),
        (b"", ""),
        (b"-" * 50_000 + b"1\n" + MAIN, " (TuneNNGen: not readable as Python)"),
        (b"x = " + b"1 + " * 20_000 + b"1\n" + MAIN, " (TuneNNGen: not readable as Python)"),
        (b"(" * 50_000 + MAIN, " (TuneNNGen: not readable as Python)"),
        (b"\0" + MAIN, " (TuneNNGen: not readable as Python)"),
        (b"# \xe9\n" + MAIN, " (TuneNNGen: not readable as Python)"),
        (b"# coding: no-such\n" + MAIN, " (TuneNNGen: not readable as Python)"),
        (b"# coding: hex\n" + MAIN, " (TuneNNGen: not readable as Python)"),
        (b"def (", " (TuneNNGen: not readable as Python)"),
    ],
)
def test_what_is_no_main(tmp_path: Path, source: bytes, why: str) -> None:
    package = made(tmp_path, "TuneNNGen")
    (package / "TuneNNGen.py").write_bytes(source)
    found = host_status(package, project=tmp_path / "nngpt", run=False)
    told = f"none of act.tune.Tune, TuneNNGen defines main{why}, so host tune cannot be used"
    assert found["missing"]["main"] == told
    assert told in found["obstacles"]
    with pytest.raises(UserError, match=r"defines main.*, so host tune cannot be used; tested with 1\.0\.6"):
        find_host(package).parameters("main")


def test_a_module_that_became_a_package(tmp_path: Path) -> None:
    """Python imports the package where both are there."""
    laid_out(tmp_path, LATER)
    package = made(tmp_path, "act__tune__Tune__part")
    (package / "act" / "tune" / "Tune" / "__init__.py").write_bytes(MAIN)
    host = find_host(tmp_path)
    assert host.modules == LATER
    assert host.file("main") == package / "act" / "tune" / "Tune" / "__init__.py"
    assert host.parameters("main") == ["llm_conf", "n"]


def test_a_function_that_takes_any_name(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen", TuneNNGen="def main(n, **more): ...\n")
    find_host(tmp_path).require("main", ("n", "data_dir"))


@pytest.mark.parametrize(
    ("role", "without"),
    [
        ("main", "host tune cannot be used"),
        ("tune", "host tune cannot be used"),
        ("prompt", "host tune cannot be used"),
        ("lora", "host status and host tune do not check whether the installed trl accepts what NNGPT passes to it"),
        ("loader", "bench host cannot be used"),
        ("builder", "bench host cannot be used"),
        ("state", "make_state cannot be used"),
        ("manager", "host_object cannot return NNGPT's manager for a graph of its agents"),
    ],
)
def test_what_is_said_without_each_role_is_true(tmp_path: Path, role: str, without: str) -> None:
    """`host tune` is refused for the roles of which it says so, and for no other."""
    made(tmp_path, "TuneNNGen")
    package = laid_out(tmp_path, {name: place for name, place in LATER.items() if name != role})
    found = host_status(package, project=tmp_path / "nngpt", run=False)
    assert list(found["missing"]) == ([] if role == "main" else [role])  # TuneNNGen has a main
    if role != "main":
        assert found["missing"][role].endswith(f", so {without}")
        assert (found["missing"][role] in found["obstacles"]) == without.startswith("host tune")
