"""The registry, and the entry-point route with plugins that are really installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.prompts.builtin import NAMES, get_template
from nngpt_ext.prompts.template import Template
from nngpt_ext.registry import Registry, finetuners, prompts, tasks

HERE = Path(__file__).parent
GROUP = "nngpt_ext.tests_use_no_such_group"
BROKEN = "plugin 'broken' (nngpt_ext.tasks) failed to load: RuntimeError: this plugin wants a library of 1997"


def install(plugin: str, scratch: Path) -> Path:
    """Install a plugin as a user does, into a folder of its own; the build leaves nothing in the repository."""
    copy, target = scratch / "source", scratch / "installed"
    shutil.copytree(HERE / plugin, copy, ignore=shutil.ignore_patterns("__pycache__"))
    command = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
    subprocess.run(
        [*command, "--no-build-isolation", "--no-index", "--target", target, copy],
        check=True, timeout=120, capture_output=True,
    )  # fmt: skip
    return target


@pytest.fixture(scope="module")
def broken(tmp_path_factory) -> Path:
    return install("broken_plugin", tmp_path_factory.mktemp("broken"))


def python(folders: list[Path], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(map(str, [*folders, HERE.parent]))  # this very package, whatever else is installed
    return subprocess.run(
        [sys.executable, *arguments], env={**os.environ, "PYTHONPATH": path}, cwd=cwd, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


def cli(folders: list[Path], *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return python(folders, "-c", "from nngpt_ext.cli import main; main()", *arguments, cwd=cwd)


def installed(folder: Path, entry_points: str, code: str) -> None:
    """What an installer leaves of a package with one module, `mine`."""
    info = folder / "mine-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1\n")
    (info / "entry_points.txt").write_text(entry_points)
    (folder / "mine.py").write_text(code)


def test_a_finetuner_comes_through_an_entry_point(tmp_path):
    installed(tmp_path, "[nngpt_ext.finetuners]\nnothing = mine:train_nothing\n", "def train_nothing(): ...\n")
    script = "from nngpt_ext.registry import finetuners; print(finetuners.get('nothing').__module__)"
    done = python([tmp_path], "-c", script, cwd=tmp_path)
    assert done.stdout == "mine\n", done.stderr


def test_broken_plugin_is_shown_with_its_own_error_and_the_others_go_on(broken, tmp_path):
    installed(tmp_path, "[nngpt_ext.tasks]\nfine = mine:Fine\n", "class Fine: ...\n")
    done = cli([broken, tmp_path], "tasks", "--json", cwd=tmp_path)
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["tasks"] == ["dataset_compare", "fine"]
    assert found["broken"] == [BROKEN]
    done = cli([broken, tmp_path], "tasks", cwd=tmp_path)
    assert done.stdout.startswith("tasks: dataset_compare, fine\n")
    assert done.stderr.splitlines() == [BROKEN]


def test_broken_plugin_is_named_when_its_task_is_asked_for(broken, tmp_path):
    done = cli([broken], "run", "broken", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"error: unknown task 'broken'; known: dataset_compare; {BROKEN}"
    assert "Traceback" not in done.stderr


def test_a_plugin_that_takes_a_built_in_name_is_refused_by_both_names(tmp_path):
    # Its name sorts before ours, so it loads first: it must not quietly become `dataset_compare`.
    code = "from nngpt_ext import register_task\n@register_task('dataset_compare')\nclass Mine: ...\n"
    installed(tmp_path, "[nngpt_ext.tasks]\na = mine\n", code)
    done = cli([tmp_path], "run", "dataset_compare", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == (
        "error: task 'dataset_compare' is registered twice: by mine.Mine and by "
        "nngpt_ext.tasks.dataset_compare.DatasetCompare; give one of them another name"
    )


def test_built_ins_come_through_entry_points():
    assert tasks.names() == ["dataset_compare"]
    assert set(prompts.names()) == set(NAMES)
    assert finetuners.names() == ["qlora"]
    assert [known.broken() for known in (tasks, prompts, finetuners)] == [[], [], []]


def test_a_name_used_twice_is_an_error_that_names_both():
    registry: Registry[type] = Registry("task", GROUP)
    one = type("One", (), {"__module__": "here"})
    two = type("Two", (), {"__module__": "there"})
    registry.register("x")(one)
    with pytest.raises(UserError, match=r"task 'x' is registered twice: by here\.One and by there\.Two; give one"):
        registry.register("x")(two)
    assert registry.get("x") is one


def test_the_same_thing_defined_again_takes_the_name():
    registry: Registry[type] = Registry("task", GROUP)
    first, again = (type("Task", (), {"__module__": "notebook"}) for _ in range(2))
    registry.register("x")(first)
    registry.register("x")(again)
    assert registry.get("x") is again
    assert registry.names() == ["x"]


def test_unknown_name_lists_the_known_ones_and_the_nearest():
    registry: Registry[int] = Registry("prompt", GROUP)
    with pytest.raises(UserError, match=r"^unknown prompt 'code_only'; known: none$"):
        registry.get("code_only")
    for name in ("recipe", "metadata"):
        registry.register(name)(1)
    with pytest.raises(UserError) as error:
        registry.get("recipes")
    assert str(error.value) == "unknown prompt 'recipes' (did you mean 'recipe'?); known: metadata, recipe"


def test_a_template_itself_can_be_a_prompt_and_is_checked(monkeypatch):
    # Not left behind for the tests that come after.
    monkeypatch.setattr(prompts, "_items", dict(prompts._items))
    given = Template("mine", "", "{a} or {b}?", {"a": "dataset", "b": "dataset_2"})
    prompts.register("mine")(given)
    assert get_template("mine") == given
    prompts.register("wrong")(replace(given, prompt="{c}"))
    with pytest.raises(UserError, match=r"variable \{c\} is not in input_list"):
        get_template("wrong")


def test_a_thread_waits_until_another_has_loaded_all(monkeypatch):
    class Slow:
        name, value = "slow", "slow"

        def load(self):
            time.sleep(0.2)
            return object

    monkeypatch.setattr("nngpt_ext.registry.metadata.entry_points", lambda group: [Slow()])
    registry = Registry("thing", GROUP)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(registry.get, ["slow"] * 4)) == [object] * 4
