"""Every fenced block of the documentation works as it stands there."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from nngpt_ext import cli
from nngpt_ext.config import TaskConfig
from nngpt_ext.settings import build_config, read_project
from nngpt_ext.study.grid import read_grid
from tests.docs.blocks import PAGES, PLAIN, READ, REASONS, ROOT, RUN, SLOW, Block, all_blocks, blocks
from tests.docs.conftest import Clone

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BLOCKS = all_blocks()
TRIED = [one for one in BLOCKS if one.reason is None and one.language in RUN + READ]
PROGRAMS = ("nngpt-ext", ".venv/bin/nngpt-ext", "pip", "python", "python3", "make", "cd", "git", "$")
_OF_THE_SHELL = set("|;&<>$()`*")


def marked(block: Block) -> object:
    slow = [pytest.mark.slow] if block.comment == SLOW else []
    return pytest.param(block, id=block.name, marks=slow)


@pytest.mark.parametrize("block", [marked(one) for one in TRIED])
def test_block(block: Block, clone: Callable[[str], Clone], as_typed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    place = clone(block.page)
    monkeypatch.chdir(place.folder)
    if block.language in RUN:
        for one in TRIED:  # those above it too, where only this one was chosen
            above = one.page == block.page and one.language == block.language and one.line < block.line
            if one is block or (above and one.comment != SLOW):
                run_once(one, place, monkeypatch)
    elif block.language == "yaml":
        read_yaml(block.text, place.folder)
    else:
        (json if block.language == "json" else tomllib).loads(block.text)


def run_once(block: Block, place: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    if block.line in place.lines:
        return
    if block.language == "bash":
        typed(block.text, place.folder, monkeypatch)
    else:
        exec(compile(block.text, block.name, "exec"), place.names)
    place.lines.add(block.line)


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def typed(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Type commands; ours alone are called in this process, which has loaded all libraries already."""
    text = text.replace("8377", free_port()).replace("0.0.0.0", "127.0.0.1")  # a server's
    lines = [line for line in text.replace("\\\n", " ").splitlines() if shlex.split(line, comments=True)]
    commands = [shlex.split(line, comments=True) for line in lines]
    if all(words[0] == "nngpt-ext" for words in commands) and not _OF_THE_SHELL & set("".join(map(uncommented, lines))):
        for words in commands:
            monkeypatch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as stopped:
                cli.main()
            assert stopped.value.code == 0, words
        return
    path = f"{folder / '.venv' / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text], cwd=folder, env={**os.environ, "PATH": path}, capture_output=True,
        text=True, timeout=900,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def uncommented(line: str) -> str:
    return re.sub(r"(^|\s)#.*", "", line)


def read_yaml(text: str, folder: Path) -> None:
    """A project file, a run's configuration or a study: read as the commands do."""
    content = yaml.safe_load(text)
    file = folder / "block.yaml"
    file.write_text(text, encoding="utf-8")
    if "cells" in content:
        assert read_grid(file).cells
    else:
        build_config(TaskConfig, read_project(file, "dataset_compare"))


@pytest.mark.parametrize("block", BLOCKS, ids=lambda one: one.name)
def test_a_block_says_what_it_is(block: Block) -> None:
    assert block.language in RUN + READ + PLAIN, "give the fence a language"
    if block.comment is not None and block.comment.startswith(("not run", "run")):
        assert block.comment == SLOW or block.reason in REASONS
    if block.language in PLAIN:  # no command hides as text; the usage of a command is none
        hidden = [line for line in block.text.splitlines() if line.split(" ")[0] in PROGRAMS and "[" not in line]
        assert hidden == []


def test_what_is_read_of_a_page() -> None:
    page = "a\n\n<!-- not run: GPU -->\n```bash\nx\n```\n\n- b\n\n  ```python\n  y\n  ```\n\n"
    page += "<!-- note -->\n\nc\n\n```text\nz\n```\n"
    found = [(one.language, one.text, one.comment, one.reason) for one in blocks(page, "p.md")]
    assert found == [
        ("bash", "x\n", "not run: GPU", "GPU"), ("python", "y\n", None, None), ("text", "z\n", None, None),
    ]  # fmt: skip


def test_a_block_that_fails_is_seen(
    clone: Callable[[str], Clone], as_typed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = clone("README.md").folder
    monkeypatch.chdir(folder)
    with pytest.raises(AssertionError):
        typed("nngpt-ext pears\n", folder, monkeypatch)
    with pytest.raises(AssertionError):
        typed("nngpt-ext tasks | grep no_such_task\n", folder, monkeypatch)


def test_pages() -> None:
    assert {"README.md", "CONTRIBUTING.md", "docs/index.md"} <= set(PAGES)
    assert all((ROOT / page).is_file() for page in PAGES)
