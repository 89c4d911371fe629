"""The command line: help, JSON, exit codes, and mistakes that leave nothing behind."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest
import typer.main
from typer.testing import CliRunner

from nngpt_ext import cli
from nngpt_ext.config import TaskConfig
from nngpt_ext.extras import install_library
from nngpt_ext.settings import dump_config
from nngpt_ext.version import __version__

_TOP = typer.main.get_command(cli.app).commands
_INNER = {f"{name} {inner}": c for name, group in _TOP.items() for inner, c in getattr(group, "commands", {}).items()}
COMMANDS = _TOP | _INNER
RUN = ("run", "dataset_compare", "--out", "out")
FINISH = "type: nngpt-ext run dataset_compare --config out/config.yaml --out out --resume"
PROJECT = "tasks: {dataset_compare: {model: {base: embedded}}}\n"


class Done(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Run a command in an empty folder, as the installed script does."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    root, ours = logging.getLogger(), logging.getLogger("nngpt_ext")
    before = list(root.handlers), root.level, ours.level

    def run(*arguments: str) -> Done:
        monkeypatch.setattr(sys, "argv", ["nngpt-ext", *arguments])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return Done(stopped.value.code, *capsys.readouterr())

    yield run
    root.handlers[:], level, our_level = before
    root.setLevel(level)
    ours.setLevel(our_level)


def tree(folder: Path) -> dict[str, bytes | None]:
    """Everything in a folder, with what the files hold."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


# Help


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_has_help_with_an_example(name):
    done = CliRunner().invoke(cli.app, [*name.split(), "--help"], prog_name="nngpt-ext", env={"COLUMNS": "200"})
    assert done.exit_code == 0
    assert f"Usage: nngpt-ext {name}" in done.output
    assert f"Example: nngpt-ext {name}" in done.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_example_in_the_help_is_one_that_works(name):
    program, *words = shlex.split(COMMANDS[name].epilog.removeprefix("Example: "))
    deep = len(name.split())
    assert [program, *words[:deep]] == ["nngpt-ext", *name.split()]
    arguments = words[deep:]
    COMMANDS[name].make_context(name, arguments)  # raises for options and arguments that there are not


def test_help_and_version(call):
    for arguments in ([], ["--help"], ["-h"]):
        done = call(*arguments)
        assert (done.code, done.err) == (0, "")
        assert all(name in done.out for name in _TOP)
    assert call("--version") == (0, f"{__version__}\n", "")


def test_import_help_and_list_load_nothing_heavy():
    script = """
import sys
HEAVY = {"torch", "transformers", "pandas"}
def check(step):
    assert not HEAVY & set(sys.modules), (step, HEAVY & set(sys.modules))
import nngpt_ext
check("import")
from nngpt_ext.cli import main
for arguments in (["--help"], ["run", "--help"], ["tasks"]):
    sys.argv = ["nngpt-ext", *arguments]
    try:
        main()
    except SystemExit as stopped:
        assert not stopped.code
    check(arguments)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert "tasks: dataset_compare" in done.stdout


# Results on standard output, messages on standard error


def test_tasks(call):
    done = call("tasks", "--json")
    assert (done.code, done.err) == (0, "")
    tasks = json.loads(done.out)["tasks"]  # an installed plugin may add its own
    assert "dataset_compare" in tasks
    assert call("tasks").out.splitlines()[0] == f"tasks: {', '.join(tasks)}"


def test_pairs_prints_nothing_but_json(call, tmp_path):
    done = call("pairs", "--epoch", "5", "--split", "by_network", "--out", "pairs.parquet", "--json")
    assert done.code == 0
    found = json.loads(done.out)
    assert {"pairs", "networks", "pair_prior"} <= set(found)
    assert 0.5 <= found["pair_prior"] <= 1
    assert "records: " in done.err
    written = pd.read_parquet(tmp_path / "pairs.parquet")
    assert (len(written), written["nn"].nunique()) == (found["pairs"], found["networks"])
    assert sum(part["pairs"] for part in found["split"].values()) == found["pairs"]
    assert list(tree(tmp_path)) == ["pairs.parquet"]


def test_quiet(call):
    done = call("--quiet", "pairs", "--epoch", "5")
    assert (done.code, done.err) == (0, "")
    assert " pairs of " in done.out


# Mistakes

SIMPLE = {  # seen before anything is read
    "no command of that name": (("pears",), "No such command 'pears'"),
    "no option of that name": (("pairs", "--epok", "5"), "see nngpt-ext pairs --help"),
    "no argument": (("run",), "Missing argument"),
    "no number": (("pairs", "--epoch", "five"), "--epoch"),
    "task": (("run", "dataset_compere"), "unknown task 'dataset_compere' (did you mean 'dataset_compare'?); known: "),
    "prompt": ((*RUN, "--set", "prompt=code_onyl"), "unknown prompt 'code_onyl' (did you mean 'code_only'?); known: "),
    "prompt file": ((*RUN, "--set", "prompt=none.json"), "cannot read the prompt file 'none.json'"),
    "base model": (
        (*RUN, "--set", "model.base=embeded"),
        "unknown base model 'embeded' (did you mean 'embedded'?)",
    ),
    "base folder": ((*RUN, "--set", "model.base=./none"), "there is no './none'; a base model is one of"),
    "fine-tuner": ((*RUN, "--set", "tuning.finetuner=qlara"), "unknown fine-tuner 'qlara' (did you mean 'qlora'?)"),
    "store": ((*RUN, "--set", "store=nonsense"), "cannot use the prediction store 'nonsense'"),
    "store folder": ((*RUN, "--set", "store=sqlite:///nngpt.yaml/p.db"), "cannot use the prediction store"),
    "key": ((*RUN, "--set", "tuning.epoks=3"), "unknown key 'tuning.epoks' (did you mean 'tuning.epochs'?)"),
    "value": ((*RUN, "--set", "tuning.epochs=0"), "tuning.epochs: must be greater than or equal to 1"),
    "setting": ((*RUN, "--set", "tuning.epochs"), "'tuning.epochs' is not key=value"),
    "label": (("pairs", "--label", "normal"), "unknown label 'normal' (did you mean 'normalized'?)"),
    "label of baselines": (("baselines", "--label", "x"), "unknown label 'x'; known: normalized, percentile"),
    "label of a run": ((*RUN, "--set", "data.label=x"), "data.label: unknown label 'x'; known: normalized, percentile"),
    "split": (("pairs", "--split", "by_networks"), "unknown split 'by_networks' (did you mean 'by_network'?)"),
    "split of baselines": (
        ("baselines", "--split", "x"),
        "unknown split 'x'; known: by_cluster, by_dataset, by_family",
    ),
    "split of a run": (
        (*RUN, "--set", "data.split=x"),
        "data.split: unknown split 'x'; known: by_cluster, by_dataset, by_family",
    ),
    "trials": (("pairs", "--trials", "worst"), "unknown kind of trials 'worst'"),
    "source": (("pairs", "--source", "web"), "unknown data source 'web'; known: "),
    "no such LEMUR": (("pairs", "--lemur", "none"), "no records at 'none'"),
    "LEMUR that is none": ((*RUN, "--set", "data.path=nngpt.yaml"), "cannot read the LEMUR database 'nngpt.yaml'"),
    "configuration file": ((*RUN, "--config", "none.yaml"), "cannot read the configuration 'none.yaml'"),
    "a name too long": (("report", "a" * 5_000), "File name too long: 'aaa"),
    "a file in place of a folder": (("examples", "--out", "nngpt.yaml"), "File exists: 'nngpt.yaml'"),
    "a folder in a file": (("examples", "--out", "nngpt.yaml/x"), "Not a directory: 'nngpt.yaml/x"),
    "a value too long": (("pairs", "--epoch", "a" * 5_000), "Invalid value for '--epoch': "),
    "a date that does not exist": ((*RUN, "--set", "data=2024-02-30"), "data: must be a mapping with keys such as"),
    "a tag that does not fit": ((*RUN, "--set", "data=!!int x"), "the value of 'data=!!int x' cannot be read (invalid"),
    "a deep value": (
        (*RUN, "--set", f"data={'[' * 3_000}"),
        "cannot be read (too deeply nested); quote it, for example",
    ),
    "a host for standard input": (("mcp", "--run", ".", "--host", "0.0.0.0"), "--host needs --http: "),
    "a token for standard input": (("mcp", "--run", ".", "--token-file", "t"), "--token-file needs --http: "),
    "report of nothing": (("report", "none"), "no folder 'none'"),
    "report of a file": (("report", "nngpt.yaml"), "'nngpt.yaml' is a file, not a run's folder"),
    "report of no run": (("report", "."), "'.' has no run"),
    "folder for the pairs": (("pairs", "--out", "none/p.parquet"), "cannot write 'none/p.parquet': there is no folder"),
    "file for the pairs": (("pairs", "--out", "."), "cannot write '.': it is a folder"),
}
IN_THE_DATA = {  # seen once LEMUR is read, still before a run's folder is made
    "epoch": (("pairs", "--epoch", "999"), "no pairs at epoch 999: "),
    "epoch of baselines": (("baselines", "--epoch", "999"), "no pairs at epoch 999: "),
    "epoch of a run": ((*RUN, "--set", "data.epoch=999"), "no pairs at epoch 999: "),
    "source longer than the base's context": (
        (*RUN, "--set", "data.code_tokens=5000"),
        "tokens and the base model takes 2048; lower data.code_tokens (now 5000) by at least ",
    ),
    "source of a test network longer than the base's context": (
        (*RUN, "--set", "data.code_tokens=2300", "--set", "data.test_networks=388", "--set", "data.train_networks=2"),
        "a question about ",
    ),
    "source longer than a row": ((*RUN, "--set", "tuning.row_tokens=64"), "tuning.row_tokens is 64; raise it to"),
    "origin": ((*RUN, "--set", "data.split=by_origin"), "needs data.hold_out; origins with their networks: ga ("),
}


def check_mistake(call, folder: Path, arguments: tuple[str, ...], reason: str) -> list[str]:
    before = tree(folder)
    done = call(*arguments)
    assert (done.code, done.out) == (2, "")
    assert "Traceback" not in done.err
    *messages, last = done.err.splitlines()
    assert last.startswith("error: ")
    assert reason in last
    assert len(last) < 2_000
    assert not any(line.startswith("error: ") for line in messages)
    assert tree(folder) == before
    return messages


@pytest.mark.parametrize("case", SIMPLE)
def test_mistakes_are_one_line_and_leave_nothing(call, tmp_path, case):
    (tmp_path / "nngpt.yaml").write_text(PROJECT)
    assert check_mistake(call, tmp_path, *SIMPLE[case]) == []  # nor does LEMUR's line stand before it


@pytest.mark.parametrize("case", IN_THE_DATA)
def test_mistakes_that_show_in_the_data_leave_nothing_either(call, tmp_path, case):
    (tmp_path / "nngpt.yaml").write_text(PROJECT)
    check_mistake(call, tmp_path, *IN_THE_DATA[case])


def test_a_missing_library_leaves_nothing(call, tmp_path, monkeypatch):
    (tmp_path / "nngpt.yaml").write_text(PROJECT)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    check_mistake(call, tmp_path, RUN, install_library("bitsandbytes"))


def test_no_configuration(call, tmp_path):
    check_mistake(call, tmp_path, RUN, "no configuration for 'dataset_compare'")


def test_task_that_is_not_enabled(call, tmp_path):
    (tmp_path / "nngpt.yaml").write_text("tasks: {other: {}}")
    check_mistake(call, tmp_path, RUN, "task 'dataset_compare' is not enabled in ")


@pytest.mark.parametrize(
    ("there", "reason"),
    [
        (("config.yaml", dump_config(TaskConfig())), "belongs to another config (data.code_tokens None there"),
        (("thesis.tex", "mine"), "the output folder 'out' has files but no run"),
        ((None, "mine"), "the output folder 'out' is a file"),
    ],
)
def test_output_folders_of_others(call, tmp_path, there, reason):
    (tmp_path / "nngpt.yaml").write_text(PROJECT)
    name, content = there
    file = tmp_path / "out" / name if name else tmp_path / "out"
    file.parent.mkdir(exist_ok=True)
    file.write_text(content)
    assert check_mistake(call, tmp_path, (*RUN, "--resume"), reason) == []


def test_unfinished_run(call, tmp_path):
    from nngpt_ext.run_folder import claim
    from nngpt_ext.settings import build_config

    (tmp_path / "nngpt.yaml").write_text(PROJECT)
    out = Path("out")
    claim(out, build_config(TaskConfig, {"model": {"base": "embedded"}}).resolved(out), resume=False)
    assert check_mistake(call, tmp_path, RUN, "an unfinished run is in 'out'; continue with --resume") == []
    assert check_mistake(call, tmp_path, ("report", "out"), f"an unfinished run; to finish it, {FINISH}") == []


def test_a_fault_is_not_passed_off_as_the_users_mistake(call, monkeypatch):
    def fail(*_, **__):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr("nngpt_ext.tasks.inspection.summarize_pairs", fail)
    with pytest.raises(ZeroDivisionError, match="ours"):  # Python's own way out: a traceback and exit code 1
        call("pairs")


def test_interruption(call, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nngpt_ext.tasks.inspection.summarize_pairs", stop)
    done = call("pairs")
    assert done.code == 130
    assert done.err.splitlines()[-1] == "interrupted; continue a run with --resume"
    assert "Traceback" not in done.err


def test_python_dash_m():
    done = subprocess.run([sys.executable, "-m", "nngpt_ext", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == __version__
    done = subprocess.run([sys.executable, "-m", "nngpt_ext", "report", "none"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
