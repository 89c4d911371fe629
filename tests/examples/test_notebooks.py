"""The notebooks run from top to bottom, quietly; what is committed is the small output of a real execution."""

from __future__ import annotations

import importlib.util
import re
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
FOLDER = EXAMPLES / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
FEW = {"train_networks": 8, "validation_networks": 6, "test_networks": 5}

_spec = importlib.util.spec_from_file_location("execute", FOLDER / "execute.py")
assert _spec is not None
assert _spec.loader is not None
tool = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(tool)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The notebooks' folder in a repository of their own, where no demo has run."""
    folder = tmp_path / "examples" / "notebooks"
    folder.mkdir(parents=True)
    for name in ("alexnet.py", "demo.yaml"):
        shutil.copy(EXAMPLES / name, folder.parent)
    return folder


def outputs(notebook: Any) -> list[Any]:
    return [out for cell in notebook.cells if cell.cell_type == "code" for out in cell.outputs]


def shown(notebook: Any, kind: str) -> list[str]:
    return [out.data[kind] for out in outputs(notebook) if kind in out.get("data", {})]


def check_quiet(notebook: Any) -> None:
    """Nothing on standard error but that a run with few validation networks leaves no threshold."""
    left = tool.remaining("".join(out.text for out in outputs(notebook) if out.get("name") == "stderr"))
    assert [line for line in left.splitlines() if not line.endswith("every answer abstains")] == []


@pytest.mark.slow
def test_first_look(place: Path) -> None:
    done = tool.execute(FOLDER / "first_look.ipynb", place, {"TINY": {**FEW, "code_tokens": 64}})
    check_quiet(done)
    assert (place.parents[1] / "runs" / "first_look" / "report.json").is_file()
    html = shown(done, "text/html")
    assert "the skill (accuracy minus that of the pair prior, on fewer than 30 networks) is" in html[0]
    assert any("AlexNet may do best on" in text for text in html)
    (ranking,) = (text for text in html if "AlexNet may do best on" in text)
    assert len(re.findall('<th scope="row">', ranking)) == 7
    assert len(shown(done, "image/png")) == 1
    again = tool.execute(FOLDER / "first_look.ipynb", place, {"TINY": {**FEW, "code_tokens": 64}})
    check_quiet(again)  # the finished run is asked, and nothing trained
    assert ranking in shown(again, "text/html")


@pytest.mark.slow
def test_fine_tune(place: Path) -> None:
    few = {"TRAIN_NETWORKS": 8, "VALIDATION_NETWORKS": 4, "TEST_NETWORKS": 5, "EPOCHS": 2, "PAIRS_PER_NETWORK": 4}
    done = tool.execute(FOLDER / "fine_tune.ipynb", place, few)
    check_quiet(done)
    assert (place / "runs" / "fine_tune" / "report.json").is_file()
    curves = [out for out in outputs(done) if "image/png" in out.get("data", {})]
    assert len(curves) == 1  # drawn anew, not again
    alt = curves[0].metadata["image/png"]["alt"]
    assert re.search(r"accuracy: 0\.\d+ after epoch 1, 0\.\d+ after epoch 2; pair prior 0\.\d+", alt)
    assert len(shown(done, "text/html")) >= 3


@pytest.mark.slow
def test_host_graph(place: Path) -> None:
    pytest.importorskip("ab.gpt")
    done = tool.execute(FOLDER / "host_graph.ipynb", place, {"TINY": {**FEW, "code_tokens": 64}})
    check_quiet(done)
    *_, table = shown(done, "text/html")
    assert table.count("<tr") == 3  # a round for each network
    assert table.count("None") == 2  # no error


@pytest.mark.slow
def test_your_own_task(place: Path) -> None:
    done = tool.execute(FOLDER / "your_own_task.ipynb", place, {"NETWORKS": FEW, "EPOCHS": 1})
    check_quiet(done)
    assert (place / "runs" / "your_own_task" / "recipe_only" / "report.json").is_file()
    (table,) = shown(done, "text/html")
    assert "recipe_only" in table
    assert "did you mean 'prompts'" in outputs(done)[-1].text
    assert "did you mean 'recipe_only'" in outputs(done)[-1].text


def test_all_of_them_are_executed_here() -> None:
    assert [file.stem for file in NOTEBOOKS] == ["fine_tune", "first_look", "host_graph", "your_own_task"]


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_what_is_committed_is_small_whole_and_of_no_machine(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert len(text) < 200_000
    notebook = nbformat.read(file, as_version=4)
    nbformat.validate(notebook)
    assert "What to install" in notebook.cells[0].source
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    check_quiet(notebook)
    assert shown(notebook, "text/html")
    for page in shown(notebook, "text/html"):
        assert not re.search(r"<script|<link|\bsrc=|\bhref=|url\(|@import", page)
    shown_to_readers = "".join(map(str, outputs(notebook)))
    assert not re.search(r"/(work|root|home|tmp)/|site-packages", shown_to_readers)
