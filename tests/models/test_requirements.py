"""What is missing on a machine is said in one line, with what to type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.extras import install_library, pip
from nngpt_ext.models.requirements import check_libraries

OTHERWISE = "load the base model unquantised: --set model.load_in_4bit=false"


def line(load_in_4bit: bool = True) -> str:
    with pytest.raises(UserError) as caught:
        check_libraries(load_in_4bit, OTHERWISE)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def install_torchvision(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a torchvision before all others on the path."""
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(body)
    monkeypatch.delitem(sys.modules, "torchvision", raising=False)
    monkeypatch.syspath_prepend(folder)


def test_torchvision_that_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = "raise RuntimeError('operator torchvision::nms does not exist\\nmore')"
    install_torchvision(tmp_path, body, monkeypatch)
    assert line() == (
        "torchvision cannot be imported (RuntimeError: operator torchvision::nms does not exist); "
        f"nngpt_ext does not need it: {pip('uninstall torchvision')}"
    )


def test_torchvision_that_fails_without_a_word(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_torchvision(tmp_path, "raise RuntimeError", monkeypatch)
    assert "(RuntimeError: no message)" in line()


def test_no_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert line().startswith("bitsandbytes cannot be imported (ModuleNotFoundError: ")
    assert line().endswith(f"type: {install_library('bitsandbytes')}; or {OTHERWISE}")
    check_libraries(load_in_4bit=False)  # needed for 4 bits only


@pytest.mark.parametrize("library", ["torch", "transformers"])
def test_no_library(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    assert line().startswith(f"{library} cannot be imported (ModuleNotFoundError: ")
    assert line().endswith(f"type: {install_library(library)}")


def test_in_a_process_of_its_own_loading_says_it_too() -> None:
    code = """
import sys
sys.modules["bitsandbytes"] = None
from nngpt_ext.models.base import load_base
load_base("embedded")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        "nngpt_ext.errors.UserError: bitsandbytes cannot be imported (ModuleNotFoundError: "
    )


def test_a_command_that_asks_once_leaves_out_the_optimiser() -> None:
    """Which takes 0.3 s of CPU; what is asked stays the same."""
    code = (
        "import sys\nfrom nngpt_ext.models import requirements\nrequirements.ask_once = {once}\n"
        "requirements.check_libraries(True)\nimport transformers.loss.loss_for_object_detection\n"
        "from nngpt_ext.data.families import signature\n"
        "print('scipy.optimize' in sys.modules, signature('x = 1; y = 2; z = x + y').tolist())"
    )
    said = []
    for once in (True, False):
        words = [sys.executable, "-c", code.format(once=once)]
        said.append(
            subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()[-1].split(" ", 1)
        )
    assert [one[0] for one in said] == ["False", "True"]
    assert said[0][1] == said[1][1]
