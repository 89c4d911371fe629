"""The small real run that is published, and a guard: without --push nothing leaves the machine."""

from __future__ import annotations

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from nngpt_ext import RunResult
from tests.models_made import one_thread
from tests.predict.conftest import older, run

__all__ = ["one_thread", "run"]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Any connection but one to this machine is a failure; there is no token; datasets caches in a folder of ours."""
    connect = socket.socket.connect

    def local_only(self: socket.socket, address: Any) -> None:
        assert isinstance(address, (str, bytes)) or address[0] in ("127.0.0.1", "localhost", "::1"), address
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local_only)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "no-token"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")


@pytest.fixture
def copied(run: RunResult, tmp_path: Path) -> Path:
    """A copy of the run without hashes, to change."""
    return older(shutil.copytree(run.output_dir, tmp_path / "copied"))


def tree(folder: Path) -> dict[str, bytes]:
    """Every file in a folder, with what it holds."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
