"""A folder to publish is complete or absent, and holds no file from outside the run; pushing fails with one line."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from nngpt_ext import Predictor, RunResult, UserError
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.export.adapter_folder import export_hub
from nngpt_ext.export.harness import export_harness
from nngpt_ext.export.publication import copy_model, exporting, push
from nngpt_ext.predict.adapter import AdapterFiles
from tests.export.conftest import tree

# The run's files


@pytest.mark.parametrize("export", [export_hub, export_harness])
def test_a_secret_behind_a_link_is_never_published(copied: Path, tmp_path: Path, export: Callable[..., Any]) -> None:
    (tmp_path / "secret").write_text('{"token": "mine"}')
    (copied / "adapter" / "x.json").symlink_to(tmp_path / "secret")
    with pytest.raises(UserError, match=r"x\.json' leads to '.*secret', outside") as caught:
        export(copied, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert {path.name for path in tmp_path.iterdir()} == {"copied", "secret"}


@pytest.mark.parametrize("name", ["config.yaml", "run.json", "report.json", "adapter", "adapter/task.json"])
def test_a_run_with_files_elsewhere_is_not_published(copied: Path, tmp_path: Path, name: str) -> None:
    shutil.move(copied / name, tmp_path / "elsewhere")
    (copied / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="outside"):
        export_hub(copied, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("export", [export_hub, export_harness])
@pytest.mark.parametrize(
    "name",
    [
        "config.yaml", "run.json", "report.json", "predictions.parquet", "adapter/calibration.json",
        "adapter/tokenizer.json", "adapter/tokenizer_config.json", "adapter/task.json",
    ],
)  # fmt: skip
def test_a_damaged_file_is_never_published(
    run: RunResult, tmp_path: Path, export: Callable[..., Any], name: str
) -> None:
    folder = Path(shutil.copytree(run.output_dir, tmp_path / "run"))
    content = (folder / name).read_bytes()
    for damaged in (content[: len(content) // 2], content[:-2] + b" " + content[-1:], b"[" * 5000, None):
        (folder / name).unlink()
        if damaged is not None:
            (folder / name).write_bytes(damaged)
        gone = name == "report.json" and damaged is None
        with pytest.raises(UserError, match="unfinished run" if gone else name.split("/")[-1]) as caught:
            export(folder, tmp_path / "out")
        assert "\n" not in str(caught.value)
        (folder / name).write_bytes(content)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_published_adapter_is_checked_too(run: RunResult, tmp_path: Path) -> None:
    folder = export_hub(run.output_dir, tmp_path / "out").folder
    assert {"adapter_config.json", "calibration.json", "tokenizer.json"} <= set(AdapterFiles(folder).base.files)
    assert read_report(folder).accuracy == run.report.accuracy
    (folder / "README.md").write_text("the user's own card")
    assert Predictor.from_pretrained(folder).calibrated
    (folder / "calibration.json").unlink()
    with pytest.raises(UserError, match=r"calibration\.json' is missing or cannot be read; fetch or train the adapter"):
        Predictor.from_pretrained(folder)


def test_a_run_behind_a_link_is_published(run: RunResult, tmp_path: Path) -> None:
    (tmp_path / "latest").symlink_to(run.output_dir)
    assert (export_hub(tmp_path / "latest", tmp_path / "out").folder / "task.json").is_file()


def test_only_regular_files_of_the_folder_are_copied(tmp_path: Path) -> None:
    model, target = tmp_path / "model", tmp_path / "target"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "same.json").symlink_to("config.json")
    (model / "modeling.py").write_text("mine")
    copy_model(model, target)
    assert tree(target) == {"config.json": b"{}", "same.json": b"{}"}
    for made in (os.mkfifo, os.mkdir, lambda path: path.symlink_to("absent")):
        strange = model / "strange.json"
        made(strange)
        with pytest.raises(UserError, match=r"strange\.json' is not a regular file"):
            copy_model(model, target)
        strange.rmdir() if strange.is_dir() else strange.unlink()


# The folder that is written


def test_what_breaks_off_leaves_the_former_one(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with exporting(out, "dataset", {"epoch": 5}) as folder:
        (folder / "a").write_text("first")
    assert json.loads((out / "export.json").read_text())["kind"] == "dataset"
    with pytest.raises(UserError, match="cannot write"), exporting(out, "dataset", {}) as folder:
        (folder / "a").rename(folder / "b")
    assert (out / "a").read_text() == "first"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with exporting(out, "hub", {}) as folder:
        (folder / "a").write_text("first")
    assert (out / "a").is_file()


def test_a_link_is_replaced_and_what_it_leads_to_stays(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine", tmp_path / "latest"
    with exporting(mine, "hub", {}) as folder:
        (folder / "a").write_text("mine")
    out.symlink_to(mine)
    with exporting(out, "hub", {}) as folder:
        (folder / "a").write_text("second")
    assert (mine / "a").read_text() == "mine"
    assert (out / "a").read_text() == "second"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["latest", "mine"]


def test_links_in_a_former_one_are_not_followed(tmp_path: Path) -> None:
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.mkdir()
    (mine / "thesis.tex").write_text("mine")
    with exporting(out, "dataset", {}) as folder:
        (folder / "data").symlink_to(mine)
    with exporting(out, "dataset", {}) as folder:
        (folder / "data").mkdir()
    assert (mine / "thesis.tex").read_text() == "mine"
    assert [path.name for path in (out / "data").iterdir()] == []


# The hub


@pytest.fixture
def adapter(run: RunResult) -> Path:
    """A folder to push. Do not change it."""
    assert run.adapter is not None
    return run.adapter


class _Refuses(BaseHTTPRequestHandler):
    asked: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.asked.append(self.path)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def refusing_hub() -> Iterator[str]:
    _Refuses.asked.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), _Refuses) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_hub_that_refuses_is_one_line(refusing_hub: str, adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", refusing_hub)
    before = tree(adapter)
    with pytest.raises(UserError, match=r"was written but not pushed to 'someone/adapter': .*401") as caught:
        push(adapter, "someone/adapter", "model")
    assert "\n" not in str(caught.value)
    assert _Refuses.asked == ["/api/repos/create"]
    assert tree(adapter) == before


def test_a_hub_that_is_not_there_is_one_line(adapter: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="was written but not pushed") as caught:
        push(adapter, "someone/adapter", "model")
    assert "\n" not in str(caught.value)
