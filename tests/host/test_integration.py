"""`host enable`, `disable` and `status`: what is written, what of the user's is not touched, and what is reported."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nngpt_ext.cli import app
from nngpt_ext.errors import UserError
from nngpt_ext.host.conversion import prompt_file
from nngpt_ext.host.installation import CONF, Host
from nngpt_ext.host.integration import BUILT_IN_PRESET, NOTE, disable, enable, enabled, host_status
from nngpt_ext.models.presets import EMBEDDED, PRESETS
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.template import load_template

PROMPT = CONF / "prompt"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "nngpt"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_what_is_written(folder: Path) -> None:
    changes = enable("dataset_compare", ["code_only", "metadata"], folder=folder)
    assert {c.path for c in changes} | {NOTE} == set(everything(folder))
    for prompt in ("code_only", "metadata"):
        train, test = (
            json.loads((folder / PROMPT / part / prompt_file(prompt)).read_text()) for part in ("train", "test")
        )
        assert train == test
        assert train[prompt]["dataset"] is None
        assert train[prompt]["nn_prefixes"] == [""]
        assert load_template(folder / PROMPT / "train" / prompt_file(prompt)) == get_template(prompt)
    preset = json.loads((folder / CONF / "llm" / "nngpt_ext_deepseek-coder-7b-instruct-v1.5.json").read_text())
    assert preset["base_model_name"] == PRESETS["deepseek-coder-7b"].location
    assert (folder / CONF / "llm" / BUILT_IN_PRESET).is_file()
    compile((folder / "tune_dataset_compare.py").read_text(), "script", "exec")


def test_a_prompt_that_the_host_cannot_fill(folder: Path) -> None:
    with pytest.raises(UserError, match=r"prompt 'recipe' shows recipe_1, recipe_2, which NNGPT's loader does not"):
        enable("dataset_compare", ["code_only", "recipe"], folder=folder)
    assert not folder.exists()


def test_again_changes_nothing(folder: Path) -> None:
    enable("dataset_compare", folder=folder)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert enable("dataset_compare", folder=folder) == []
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


def test_a_dry_run_shows_and_writes_nothing(folder: Path) -> None:
    shown = enable("dataset_compare", folder=folder, dry_run=True)
    assert not folder.exists()
    assert '+    "dataset": null,' in "".join(change.diff() for change in shown)
    assert enable("dataset_compare", folder=folder) == shown
    assert [c.path for c in disable("dataset_compare", folder=folder, dry_run=True)] == [c.path for c in shown]
    assert enable("dataset_compare", folder=folder) == []


def test_disable_leaves_the_users_files(folder: Path) -> None:
    (folder / "db").mkdir(parents=True)
    (folder / "db" / "ab.nn.db").write_text("theirs")
    (folder / PROMPT / "train").mkdir(parents=True)
    (folder / PROMPT / "train" / "Mine.json").write_text("{}")
    before = everything(folder)
    enable("dataset_compare", base="embedded", folder=folder)
    assert (folder / "bases" / "embedded").resolve() == EMBEDDED.resolve()
    assert enabled(folder)["prompts"] == ["code_only"]
    disable("dataset_compare", folder=folder)
    assert everything(folder) == before
    assert enabled(folder) is None
    assert disable("dataset_compare", folder=folder) == []
    assert (EMBEDDED / "config.json").is_file()  # behind the link


@pytest.mark.parametrize("act", [lambda f: enable("dataset_compare", ["code_only", "metadata"], folder=f),
                                 lambda f: disable("dataset_compare", folder=f)])  # fmt: skip
def test_a_file_edited_by_hand(folder: Path, act) -> None:
    enable("dataset_compare", folder=folder)
    file = folder / PROMPT / "train" / prompt_file("code_only")
    file.write_text(file.read_text().replace("source", "code"))
    before = everything(folder)
    with pytest.raises(UserError, match=r"NN_dataset_compare_code_only\.json' was edited by hand"):
        act(folder)
    assert everything(folder) == before
    assert enabled(folder)["changed"] == [str(PROMPT / "train" / prompt_file("code_only"))]


def test_a_file_of_someone_else(folder: Path) -> None:
    file = folder / PROMPT / "test" / prompt_file("code_only")
    file.parent.mkdir(parents=True)
    file.write_text("{}")
    with pytest.raises(UserError, match=r"code_only\.json' exists and is not ours"):
        enable("dataset_compare", folder=folder)
    assert everything(folder) == {str(file.relative_to(folder)): b"{}"}


def test_a_checkout_keeps_its_own_files(folder: Path) -> None:
    folder.mkdir()
    (folder / "README.md").write_text("The host's.")
    enable("dataset_compare", folder=folder)
    assert (folder / "README.md").read_text() == "The host's."
    disable("dataset_compare", folder=folder)
    assert everything(folder) == {"README.md": b"The host's."}


def test_never_into_an_installed_package(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="in an installed package"):
        enable("dataset_compare", folder=tmp_path / "lib" / "site-packages" / "ab")


@pytest.mark.parametrize("place", ["lib/site-packages/ab", "elsewhere"])
def test_never_through_a_link(folder: Path, tmp_path: Path, place: str) -> None:
    package = tmp_path / place
    (package / "gpt").mkdir(parents=True)
    folder.mkdir()
    (folder / "ab").symlink_to(package)
    with pytest.raises(UserError, match=r"in an installed package|outside"):
        enable("dataset_compare", folder=folder)
    assert not everything(tmp_path)
    (folder / "ab").unlink()
    enable("dataset_compare", folder=folder)
    (folder / "ab").rename(tmp_path / "moved")
    (folder / "ab").symlink_to(tmp_path / "moved")
    before = everything(tmp_path / "moved")
    with pytest.raises(UserError, match="outside"):
        disable("dataset_compare", folder=folder)
    assert everything(tmp_path / "moved") == before


def test_two_prompts_in_any_order(folder: Path) -> None:
    for _ in range(2):
        for prompts in (["normalized_accuracy"], ["code_only"]):
            last = enable("dataset_compare", prompts, folder=folder)
    assert last == []
    assert enabled(folder)["prompts"] == ["normalized_accuracy", "code_only"]
    assert prompt_file("normalized_accuracy") in (folder / "tune_dataset_compare.py").read_text()


def test_a_link_that_is_something_else(folder: Path) -> None:
    (folder / "bases" / "embedded").mkdir(parents=True)
    (folder / "bases" / "embedded" / "mine").write_text("mine")
    before = everything(folder)
    with pytest.raises(UserError, match=r"cannot read '.*embedded' \(Is a directory\); move it away"):
        enable("dataset_compare", base="embedded", folder=folder)
    assert everything(folder) == before


def test_the_link_is_shown(folder: Path) -> None:
    shown = enable("dataset_compare", base="embedded", folder=folder, dry_run=True)
    assert f"+link to {EMBEDDED.resolve()}" in "".join(change.diff() for change in shown)
    assert enable("dataset_compare", base="embedded", folder=folder) == shown
    assert {c.path for c in disable("dataset_compare", folder=folder)} == {c.path for c in shown}
    assert not folder.exists()


def test_a_damaged_note(folder: Path) -> None:
    enable("dataset_compare", folder=folder)
    (folder / NOTE).write_text("{")
    with pytest.raises(UserError, match=r"\.nngpt_ext\.json' is damaged"):
        disable("dataset_compare", folder=folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_may_not_be_written(folder: Path) -> None:
    folder.mkdir()
    folder.chmod(0o500)
    with pytest.raises(UserError, match="cannot write"):
        enable("dataset_compare", folder=folder)


def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shown = CliRunner().invoke(app, ["host", "enable", "dataset_compare", "--dry-run"], catch_exceptions=False)
    assert "+++ ab/gpt/conf/prompt/train/NN_dataset_compare_code_only.json" in shown.stdout
    assert not list(tmp_path.iterdir())
    done = CliRunner().invoke(app, ["host", "enable", "dataset_compare", "--json"], catch_exceptions=False)
    changes = json.loads(done.stdout[: done.stdout.rindex("}") + 1])["changes"]
    assert {change["change"] for change in changes} == {"written"}
    done = CliRunner().invoke(app, ["host", "disable", "dataset_compare"], catch_exceptions=False)
    assert len([line for line in done.stdout.splitlines() if line.startswith("- ")]) == len(changes)
    assert not list(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"unknown task 'dataset-compar'.*did you mean 'dataset_compare'"):
        CliRunner().invoke(app, ["host", "enable", "dataset-compar"], catch_exceptions=False)


def test_status(host: Host, folder: Path) -> None:
    enable("dataset_compare", folder=folder)
    found = host_status(host.folder, project=folder, run=False)
    assert found["modules"] == host.modules
    assert found["missing"] == {}
    assert "ds_coder_7b_instruct.json" in found["llm_presets"]
    assert found["enabled"]["prompts"] == ["code_only"]
    arguments = ["host", "status", "--host", str(host.folder), "--folder", str(folder), "--no-run"]
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False).stdout
    assert f"in {host.folder}: main in {host.modules['main']}, tune in util.Tune, " in shown
    assert "enabled: code_only in" in shown
