"""`nngpt-ext doctor` on this machine, and on machines that were broken on purpose."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from nngpt_ext import doctor
from nngpt_ext.doctor import Finding
from nngpt_ext.errors import UserError
from nngpt_ext.extras import pip
from nngpt_ext.run_folder import ROOM

ROOT = Path(__file__).parents[1]
DOCTOR = ["-c", "from nngpt_ext.cli import main; main()", "doctor"]


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", **changes}


def by_name(output: str) -> dict[str, dict[str, Any]]:
    return {check["name"]: check for check in json.loads(output)["checks"]}


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the packages of this one, except bitsandbytes, nn-dataset (LEMUR) and psycopg."""
    place = tmp_path_factory.mktemp("venv")
    venv.create(place, symlinks=True, with_pip=False)
    python = place / "bin" / "python"
    script = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(subprocess.check_output([python, "-c", script], text=True).strip())
    left_out = ("bitsandbytes", "nn_dataset", "psycopg")
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if not entry.name.startswith(left_out) and entry.name != "ab" and not (packages / entry.name).exists():
            (packages / entry.name).symlink_to(entry)
    return python


def test_here(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *DOCTOR, "--json"], cwd=tmp_path, env=environment(), capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(done.stdout)["ok"] is True
    found = by_name(done.stdout)
    for name in ("Python", "torch", "device", "libraries", "4 bits", "LEMUR", "disk", "cache", "hub", "host"):
        assert found[name]["state"] != "broken"
        assert found[name]["what"]
        assert "\n" not in found[name]["what"]
    assert found["4 bits"]["what"].startswith("bitsandbytes ")
    assert " network sources, " in found["LEMUR"]["what"]
    assert found["extra test"]["state"] == "ok"
    assert "pytest" in found["extra test"]["what"]
    assert list(tmp_path.iterdir()) == []


def test_no_lemur_no_bitsandbytes_and_no_disk(without: Path, tmp_path: Path) -> None:
    """Missing packages, and a full disk of one megabyte."""
    (tmp_path / "full").mkdir()
    script = 'mount -t tmpfs -o size=1m none full && cd full && (cat /dev/zero > zeros || true) 2>/dev/null; exec "$@"'
    unshare = shutil.which("unshare")
    tried = unshare and subprocess.run([unshare, "-rm", "mount", "-t", "tmpfs", "none", tmp_path / "full"])
    if not tried or tried.returncode:
        pytest.skip("mounting a small disk needs unshare with user namespaces, or root")
    command = [unshare, "-rm", "sh", "-c", script, "sh", without, *DOCTOR]
    at = {"cwd": tmp_path, "env": environment(NNGPT_EXT_CACHE=str(tmp_path / "full" / "cache"))}
    done = subprocess.run([*command, "--json"], **at, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1, done.stdout + done.stderr
    assert json.loads(done.stdout)["ok"] is False
    found = by_name(done.stdout)
    states = {name: check["state"] for name, check in found.items()}
    assert {n for n, state in states.items() if state == "broken"} == {"requirements", "4 bits", "LEMUR", "disk"}
    assert found["requirements"]["what"] == "bitsandbytes is not installed"
    assert found["requirements"]["cure"].endswith("pip install 'bitsandbytes>=0.50'")
    assert found["LEMUR"]["what"] == "no LEMUR found: nn-dataset is not installed"
    assert found["LEMUR"]["cure"].endswith("pip install --no-deps nn-dataset==2.1.2")  # of the other Python
    assert found["4 bits"]["what"].startswith("bitsandbytes cannot be imported (ModuleNotFoundError")
    assert found["4 bits"]["cure"].endswith(
        "pip install 'bitsandbytes>=0.50'; or load base models unquantised: --set model.load_in_4bit=false"
    )
    assert found["disk"]["what"].startswith("cannot write to ")
    assert "No space left" in found["disk"]["what"]
    assert "--out" in found["disk"]["cure"]
    assert states["cache"] == "note"
    assert found["cache"]["cure"].startswith("export NNGPT_EXT_CACHE=")
    assert states["libraries"] == states["torch"] == "ok"
    assert found["extra postgres"]["cure"].endswith("pip install 'psycopg[binary]>=3.1'")


def test_a_library_from_pythonpath_is_a_note(tmp_path: Path) -> None:
    """Here an older numpy, as a module of a cluster has; one that only this environment has is not named."""
    info = tmp_path / "numpy-1.24.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 1.24.0\n")
    ask = "import json; from nngpt_ext.doctor import *; print(json.dumps(asdict(finding('Python', check_python))))"

    def found(*places: Path | str) -> dict[str, Any]:
        at = environment(PYTHONPATH=os.pathsep.join(map(str, places)))
        return json.loads(subprocess.check_output([sys.executable, "-c", ask], env=at, cwd=tmp_path.parent))

    note = found(ROOT, tmp_path)
    assert (note["state"], note["cure"]) == ("note", "unset PYTHONPATH")
    assert note["what"].endswith(f"; PYTHONPATH, not this environment, has numpy 1.24.0 in {tmp_path}")
    assert found(ROOT)["state"] == "ok"
    assert found(ROOT, sysconfig.get_path("purelib"))["state"] == "ok"


def test_a_library_that_takes_its_process_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "bitsandbytes"
    package.mkdir()
    (package / "__init__.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(ROOT)]))
    found = {one.name: one for one in doctor.native_findings()}
    assert list(found) == list(doctor.NATIVE)
    assert found["torch"].state == "ok"
    dead = [one for one in found.values() if one.state == "broken"]
    assert dead
    assert all("ended the process with code -11" in one.what for one in dead)
    assert found["4 bits"] in dead
    assert all(one.cure for one in dead)


@pytest.mark.parametrize(("limit", "state"), [(0.2, "ok"), (0.05, "broken")])
def test_a_wrong_product(monkeypatch: pytest.MonkeyPatch, limit: float, state: str) -> None:
    monkeypatch.setattr(doctor, "_NF4_ERROR", limit)
    found = doctor.finding("4 bits", doctor.check_four_bits)
    assert found.state == state
    assert "an NF4 product differs by 0." in found.what


def test_an_incomplete_lemur(tmp_path: Path) -> None:
    def lemur(path: Path) -> Finding:
        return doctor.finding("LEMUR", lambda: doctor.check_lemur(str(path)), doctor.INSTALL)

    assert lemur(tmp_path / "none") == Finding(
        "LEMUR", "broken", f"no records at '{tmp_path / 'none'}': there is no such file or folder",
        doctor.INSTALL,
    )  # fmt: skip
    (tmp_path / "stat" / "train").mkdir(parents=True)
    (tmp_path / "nn").mkdir()
    empty = lemur(tmp_path)
    assert (empty.state, empty.cure) == ("broken", f"{doctor.INSTALL} --force-reinstall")
    assert "0 network sources, 0 trials" in empty.what


def test_little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.check_disk(tmp_path).endswith(f" free in {tmp_path}")
    whole = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: whole._replace(free=ROOM - 1))
    with pytest.raises(UserError, match=r"free in .*; a small run needs 100\.0 MB"):
        doctor.check_disk(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_does_not_answer_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")  # nothing listens there
    found = doctor.finding("hub", *doctor.OTHERS["hub"])
    assert found.state == "note"
    assert found.what == "the model hub cannot be reached; base models cannot be downloaded"
    assert found.cure is not None
    assert found.cure.endswith("--set model.base=embedded")


def test_versions_that_do_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    needed = {"": ["numpy>=1.26", "pandas<0.1"], "study": ["matplotlib>=999"]}
    monkeypatch.setattr(doctor, "requirements", lambda extra: map(Requirement, needed.get(extra, [])))
    found = doctor.finding("requirements", doctor.check_requirements)
    assert found.state == "broken"
    assert found.what.endswith(" is not <0.1")
    assert found.cure == pip("install 'pandas<0.1'")
    extra = doctor.finding("extra study", lambda: doctor.check_requirements("study"))
    assert (extra.state, extra.cure) == ("note", pip("install 'matplotlib>=999'"))


def test_a_check_that_raises_is_a_finding() -> None:
    def fail(error: Exception) -> str:
        raise error

    assert doctor.finding("x", lambda: fail(RuntimeError("two\nlines"))) == Finding(
        "x", "broken", "RuntimeError: two lines"
    )
    assert doctor.finding("x", lambda: fail(UserError("a; type: b")), "c") == Finding("x", "broken", "a", "b")
    assert doctor.finding("x", lambda: fail(doctor.Note("a")), "c") == Finding("x", "note", "a", "c")
