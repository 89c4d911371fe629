"""`nngpt-ext study` from the shell's side."""

from __future__ import annotations

import json

import pytest
import yaml

from nngpt_ext import cli
from tests.study.conftest import CODE, CUT, grid, written


@pytest.fixture
def call(monkeypatch, capsys):
    """Run the command, as the installed script does; returns exit code, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["nngpt-ext", "-q", "study", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return int(stopped.value.code or 0), *capsys.readouterr()

    return run


def test_a_finished_study_is_printed(call, studied):
    code, out, err = call("--config", studied.file, "--out", studied.folder, "--draw")
    assert code == 0
    assert f"The page is {studied.folder / 'index.html'}" in err
    assert CODE in out
    assert "failed: a question about" in out
    assert "not run: needs a card & time" in out
    assert "no skill shown" in out


def test_json_is_what_study_json_says(call, studied):
    code, out, _ = call("--config", studied.file, "--out", studied.folder, "--draw", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((studied.folder / "study.json").read_text(encoding="utf-8"))
    assert next(cell for cell in json.loads(out)["cells"] if cell["name"] == CUT)["status"] == "failed"


MISTAKES = {
    "names": (
        grid(cells=[{"prompts": ["code_onyl"], "bases": ["embeded"], "splits": ["x"], "labels": ["y"]}]),
        ["unknown prompt 'code_onyl'", "unknown base model 'embeded'", "unknown split 'x'", "unknown label 'y'"],
    ),
    "key": (grid(cels=1), ["unknown key 'cels' (did you mean 'cells'?)"]),
    "nothing": ("", ["has no keys", "cells: [{prompts"]),
    "no file": (None, ["cannot read the configuration"]),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_one_line_and_leave_nothing(call, tmp_path, case):
    content, reasons = MISTAKES[case]
    file = tmp_path / "s.yaml" if content is None else written(tmp_path, content, "s.yaml")
    code, out, err = call("--config", file, "--out", tmp_path / "out")
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert len(err.splitlines()) == 1
    assert all(reason in err for reason in reasons)
    assert not (tmp_path / "out").exists()


def test_resume_with_another_config_is_one_line_too(call, studied, tmp_path):
    content = yaml.safe_load(studied.file.read_text(encoding="utf-8"))
    content["common"]["tuning"]["epochs"] = 2
    code, out, err = call("--config", written(tmp_path, content), "--out", studied.folder, "--resume")
    assert (code, out) == (2, "")
    assert "tuning.epochs 1 there, 2 now" in err
    assert len(err.splitlines()) == 1
