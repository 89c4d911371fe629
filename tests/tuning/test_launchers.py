"""What launchers set: whose processes are refused, which card each has, and that a run of one process ignores it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nngpt_ext import run_task
from nngpt_ext.errors import UserError
from nngpt_ext.io import read_text
from nngpt_ext.run_folder import read_record
from nngpt_ext.tuning.ranks import joined, launched, one_process
from tests.tuning.test_ranks import BIN, SMALL, environment, torchrun


def test_only_the_launchers_own_variables_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    launchers = ("LOCAL_RANK", "MASTER_ADDR", "ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
    kept = ("LOCAL_NOTES", "MASTER_KEY", "RANKING", "ROLE_OF_USER", "GROUP_NAME")
    for name in launchers + kept:
        monkeypatch.setenv(name, "1")
    with joined():
        assert not [name for name in launchers if name in os.environ]
        assert all(name in os.environ for name in kept)


@pytest.mark.parametrize(
    ("rank", "count"),
    [
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
        ("PMI_RANK", "PMI_SIZE"),
        ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
        ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
    ],
)
def test_processes_of_mpi_and_slurm_are_refused(rank: str, count: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(rank, "1")
    monkeypatch.setenv(count, "2")
    line = (
        f"{count} is 2 and RANK is not set, without which 2 processes do not find each other; start the processes with "
        f"torchrun --nproc-per-node N or accelerate launch, or unset {count}"
    )
    with pytest.raises(UserError, match=f"^{line}$"), joined():
        pass
    with pytest.raises(UserError, match=f"^2 processes cannot share a study; start it alone, or unset {count}$"):
        one_process("a study", "start it alone")
    with pytest.raises(UserError, match=r"^2 processes cannot share run_task; type: torchrun"):
        run_task("dataset_compare", model={"base": "embedded"})
    monkeypatch.setenv("RANK", "0")  # of torchrun, which was started by them
    monkeypatch.setenv("WORLD_SIZE", "1")
    with joined():
        assert (launched(), rank in os.environ, count in os.environ) == ((0, 1), False, False)


@pytest.mark.slow
@pytest.mark.parametrize(("cards", "own"), [(None, ["0", "1"]), ("5,7", ["5", "7"]), ("3", ["3", "3"]), ("", ["", ""])])
def test_each_process_sees_its_own_card(
    cards: str | None, own: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last but one as if a launcher had given each its own."""
    script = tmp_path / "seen.py"
    script.write_text(
        "import os, pathlib\n"
        "from nngpt_ext.tuning.ranks import joined, own_number\n"
        "with joined():\n"
        f"    (pathlib.Path({str(tmp_path)!r}) / str(own_number())).write_text(os.environ['CUDA_VISIBLE_DEVICES'])\n"
    )
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if cards is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", cards)
    done = torchrun(str(script))
    assert done.returncode == 0, done.stderr[-2000:]
    assert [read_text(tmp_path / number) for number in "01"] == own


@pytest.mark.slow
def test_a_script_under_a_launcher_of_one_process_trains(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    settings = [one for one in SMALL[1:] if one != "--set"]
    script.write_text(
        "from nngpt_ext import run_task\n"
        f"run_task('dataset_compare', settings={settings!r}, output_dir={str(tmp_path / 'run')!r})\n"
    )
    done = subprocess.run(
        [BIN / "torchrun", "--nproc-per-node", "1", script], capture_output=True, text=True,
        env=environment() | {"ACCELERATE_MIXED_PRECISION": "bf16", "PMI_SIZE": "1", "PMI_RANK": "0"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_record(tmp_path / "run")["processes"] == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "what"),
    [
        (["run", *SMALL, "--set", "data.split=by_family"], "a run of all folds; give each one fold, such as --set"),
        (["study", "--config", "examples/study_quick.yaml"], "a study; its runs follow one another: start it without"),
    ],
)
def test_what_is_not_divided_says_so_once(tmp_path: Path, command: list[str], what: str) -> None:
    done = torchrun(str(BIN / "nngpt-ext"), *command, "--out", str(tmp_path / "out"))
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: 2 processes cannot share {what}")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("rank", "words"),
    [
        ("5", "RANK is 5 of a WORLD_SIZE of 2; start the processes with torchrun"),
        ("0", "2 processes were to meet within"),
    ],
)
def test_processes_that_cannot_meet(rank: str, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match=words), joined():
        pass


def test_a_process_beyond_the_last_is_not_silent(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "nngpt_ext",
        "run",
        "dataset_compare",
        "--set",
        "a=1",
        "--out",
        str(tmp_path / "run"),
    ]
    said = [
        subprocess.run(command, env={**os.environ, "RANK": rank, "WORLD_SIZE": "2"}, capture_output=True, text=True)
        for rank in ("1", "5")
    ]
    assert [one.returncode for one in said] == [2, 2]
    assert [one.stderr.count("error: ") for one in said] == [0, 1]


def test_commands_that_print_are_of_one_process() -> None:
    command = [sys.executable, "-m", "nngpt_ext", "tasks", "--json"]
    said = [
        subprocess.run(command, env={**os.environ, "RANK": rank, "WORLD_SIZE": "2"}, capture_output=True, text=True)
        for rank in "01"
    ]
    assert [(one.returncode, one.stdout) for one in said] == [(2, "")] * 2
    line = "error: 2 processes cannot share 'nngpt-ext tasks'; start it alone, or unset WORLD_SIZE\n"
    assert [one.stderr for one in said] == [line, ""]
