"""Several processes train one run: what is dealt to each, the same gradients and winners as one, and one that fails."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from nngpt_ext.batches.rows import tokens_of
from nngpt_ext.errors import UserError
from nngpt_ext.io import read_text
from nngpt_ext.prompts.builtin import FOLDER
from nngpt_ext.run_folder import CHECKPOINTS, CONFIG, HISTORY, PREDICTIONS, read_record, read_table
from nngpt_ext.tuning.plan import deal_rows, make_plan
from nngpt_ext.tuning.ranks import deal, launched, of_first, one_process, size
from tests import models_made
from tests.docs.blocks import ROOT
from tests.tuning.dealt_step import gradients
from tests.tuning.stepping import relative
from tests.tuning.test_trainer import config, groups_of

BIN = Path(sys.executable).parent
SMALL = [
    "dataset_compare", "--set", "model.base=embedded", "--set", "data.train_networks=16", "--set",
    "data.validation_networks=8", "--set", "data.test_networks=12", "--set", "data.code_tokens=128", "--set",
    "tuning.epochs=2",
]  # fmt: skip


@given(st.lists(st.integers(0, 50), max_size=30), st.integers(1, 5))
def test_every_item_is_dealt_once_and_no_pile_is_much_larger(amounts: list[int], n: int) -> None:
    dealt = deal(amounts, n)
    assert sorted(i for items in dealt for i in items) == list(range(len(amounts)))
    totals = [sum(amounts[i] for i in items) for items in dealt]
    assert max(totals) - min(totals) <= max(amounts, default=0)


@pytest.mark.parametrize("engine", ["shared", "plain"])
@pytest.mark.parametrize("row_tokens", [300, 4096])
@pytest.mark.parametrize("n", [2, 3, 8])
def test_the_rows_of_a_step_are_dealt_evenly(engine: str, row_tokens: int, n: int) -> None:
    groups = groups_of(models_made.base("llama", load_in_4bit=False))
    (rows,) = make_plan(groups, config(epochs=1, engine=engine, row_tokens=row_tokens)).steps
    share = engine == "shared"
    dealt = deal_rows(groups, rows, n, share=share)

    def examples(rows: Any) -> list[tuple[int, int]]:
        return sorted((g, e) for row in rows for g, *numbers in row for e in numbers)

    assert examples(row for own in dealt for row in own) == examples(rows)
    totals = [sum(tokens_of(groups, row, share=share) for row in own) for own in dealt]
    parts = [tokens_of(groups, [part], share=share) for row in rows for part in row]
    assert max(totals) <= max(sum(parts[i] for i in numbers) for numbers in deal(parts, n))
    assert max(totals) <= {2: 0.6, 3: 0.5, 8: 0.4}[n] * sum(parts)


def test_a_process_of_its_own_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (launched(), size(), of_first(lambda: 3)) == ((0, 1), 1, 3)
    one_process("a study", "")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert launched() == (1, 4)
    with pytest.raises(UserError, match="4 processes cannot share a study; start it alone"):
        one_process("a study", "start it alone")


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def torchrun(*command: str, launcher: str = "torchrun") -> subprocess.CompletedProcess[str]:
    options = ["--nproc-per-node", "2"]
    if launcher == "accelerate":
        options = ["launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1", "--mixed_precision", "bf16"]
    return subprocess.run(
        [BIN / launcher, *options, *command], env=environment(), capture_output=True, text=True, timeout=600
    )


def cli(folder: Path, *more: str) -> list[str]:
    return [str(BIN / "nngpt-ext"), "run", *SMALL, "--out", str(folder), *more]


@pytest.mark.slow
def test_gradients_of_two_processes_are_those_of_one(tmp_path: Path) -> None:
    done = torchrun("-m", "tests.tuning.dealt_step", str(tmp_path / "two.safetensors"))
    assert done.returncode == 0, done.stderr[-2000:]
    two = load_file(tmp_path / "two.safetensors")
    for name, one in gradients(models_made.base("llama", load_in_4bit=False)).items():
        assert two[name][0].item() == pytest.approx(one[0].item(), rel=1e-6)
        assert relative(two[name][1:], one[1:]) <= 1e-6, name


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    done = subprocess.run(cli(folder), env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def assert_same(folder: Path, alone: Path) -> None:
    """The same files and, but for 0.2 %, the same winners."""
    assert {f.relative_to(folder) for f in folder.rglob("*")} == {f.relative_to(alone) for f in alone.rglob("*")}
    one, two = (read_table(run / PREDICTIONS) for run in (alone, folder))
    assert (one["predicted"] != two["predicted"]).mean() <= 0.002


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["torchrun", "accelerate"])
def test_two_processes_run_as_one(alone: Path, tmp_path: Path, launcher: str) -> None:
    command = cli(tmp_path / "two")
    if launcher == "accelerate":
        command[0:0] = ["--no_python"]
    done = torchrun(*command, launcher=launcher)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("\nHeadline") == 1
    assert done.stderr.count("The run is in") == done.stderr.count("epoch 2: training loss") == 1
    assert_same(tmp_path / "two", alone)
    assert read_record(tmp_path / "two")["processes"] == 2
    again = torchrun(*cli(tmp_path / "two", "--resume"))  # prints it again
    assert (again.returncode, again.stdout.count("\nHeadline")) == (0, 1)


@pytest.mark.slow
def test_the_others_wait_until_the_first_has_recorded_what_it_reads(alone: Path, tmp_path: Path) -> None:
    done = torchrun("-m", "tests.tuning.late_record", *cli(tmp_path / "two")[1:])
    assert done.returncode == 0, done.stderr[-2000:]
    assert_same(tmp_path / "two", alone)


def meeting_place() -> dict[str, str]:
    """What a launcher says to each of two processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}


def wait_for_an_epoch(folder: Path) -> None:
    deadline = time.monotonic() + 300
    while not (folder / CHECKPOINTS / HISTORY).is_file():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Pair:
    """Two processes of a run, started without a launcher that would end one when the other fails."""

    def __init__(
        self,
        folder: Path,
        *of_the_second: str,
        of_both: Sequence[str] = (),
        places: Sequence[Path] = (ROOT, ROOT),
        known_to_the_second: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.folder, self.processes, meeting = folder, [], meeting_place()
        for rank, (options, known) in enumerate((((), {}), (of_the_second, known_to_the_second))):
            own = environment() | meeting | {"RANK": str(rank)} | known
            pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": own, "cwd": places[rank]}
            self.processes.append(subprocess.Popen(cli(folder, *of_both, *options), text=True, **pipes))

    def after_an_epoch(self, of: int, number: signal.Signals) -> None:
        """Send a signal to one of them when the first epoch is over."""
        wait_for_an_epoch(self.folder)
        self.processes[of].send_signal(number)

    def ends(self) -> tuple[list[int], list[str]]:
        """The exit codes, and all lines that are errors."""
        said = [process.communicate(timeout=120)[1] for process in self.processes]
        assert "Traceback" not in "".join(said), said
        lines = [line for text in said for line in text.splitlines() if line.startswith(("error:", "interrupted"))]
        return [process.returncode for process in self.processes], lines


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Any]:
    made: list[Pair] = []
    yield lambda *options, **more: made.append(Pair(tmp_path / "pair", *options, **more)) or made[-1]
    for process in (process for one in made for process in one.processes):
        process.kill()


@pytest.mark.slow
def test_a_mistake_of_one_process_ends_both_with_its_line(pair: Any) -> None:
    codes, lines = pair("--set", "tuning.epochz=3").ends()
    assert codes == [2, 2]
    assert lines == ["error: configuration: unknown key 'tuning.epochz' (did you mean 'tuning.epochs'?)"]


@pytest.mark.slow
def test_processes_with_other_settings_do_not_begin(pair: Any) -> None:
    started = pair("--set", "tuning.weight_decay=5", "--set", "model.lora.alpha=256", "--set", "tuning.report_to=[]")
    codes, lines = started.ends()
    assert codes == [2, 2]
    assert lines == [
        "error: the processes of this run have different settings: process 1 has model.lora.alpha 256, the first 32, "
        "tuning.weight_decay 5.0, the first 0.0; give all the same"
    ]
    assert not started.folder.exists()


@pytest.mark.slow
def test_processes_that_read_other_files_do_not_begin(pair: Any, tmp_path: Path) -> None:
    places, text = (tmp_path / "here", tmp_path / "there"), read_text(FOLDER / "code_only.json")
    for place, own in zip(places, (text, text.replace("accuracy", "precision")), strict=True):
        place.mkdir()
        (place / "own.json").write_text(own)
    started = pair(of_both=("--set", "prompt=own.json"), places=places)
    codes, (line,) = started.ends()
    assert codes == [2, 2]
    prompt, tokens = (
        f"{name} '[0-9a-f]{{12}}', the first '[0-9a-f]{{12}}'" for name in ("prompt", "questions as tokens")
    )
    wanted = (
        f"error: the processes of this run have different inputs: process 1 has {prompt}, {tokens}; give all the same"
    )
    assert re.fullmatch(wanted, line), line
    assert not started.folder.exists()


@pytest.mark.slow
def test_processes_without_a_common_folder_do_not_begin(pair: Any, tmp_path: Path) -> None:
    started = pair("--out", str(tmp_path / "other"))
    codes, lines = started.ends()
    assert codes == [2, 2]
    assert lines == [
        f"error: process 1 on {socket.gethostname()} does not see '{started.folder}' of the first one; give all a "
        "folder that they share (--out)"
    ]
    assert [file.name for file in started.folder.iterdir()] == [CONFIG]


@pytest.mark.slow
@pytest.mark.parametrize("local", ["-1", ""])
def test_a_number_on_the_machine_that_is_none_is_one_line(pair: Any, local: str) -> None:
    assert pair(known_to_the_second={"LOCAL_RANK": local}).ends() == (
        [2, 2],
        [
            f"error: process 1: LOCAL_RANK is '{local}', not a whole number from 0; start the processes with torchrun "
            "--nproc-per-node N or accelerate launch"
        ],
    )


@pytest.mark.slow
def test_a_process_that_ends_while_others_meet_it_is_one_line(tmp_path: Path) -> None:
    meeting = environment() | meeting_place()
    gone = "from torch.distributed import rendezvous; next(rendezvous('env://'))"
    first = subprocess.Popen([sys.executable, "-c", gone], env=meeting | {"RANK": "0"})
    second = subprocess.run(cli(tmp_path), env=meeting | {"RANK": "1"}, capture_output=True, text=True, timeout=120)
    assert (first.wait(), second.returncode) == (0, 2)
    (line,) = second.stderr.splitlines()[-1:]
    assert line.startswith("error: another process of this run ended (")
    assert "Traceback" not in second.stderr


@pytest.mark.slow
def test_processes_that_torchrun_starts_again_continue(alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "again"
    command = [BIN / "torchrun", "--nproc-per-node", "2", "--max-restarts", "1", *cli(folder, "--resume")]
    with subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True) as started:
        wait_for_an_epoch(folder)
        psutil.Process(started.pid).children()[1].kill()
        said = started.communicate(timeout=300)[1]
    assert started.returncode == 0, said[-2000:]
    assert (said.count("epoch 1: training loss"), said.count("epoch 2: training loss")) == (1, 1)
    assert_same(folder, alone)


@pytest.mark.slow
def test_ctrl_c_in_one_process_ends_both(pair: Any) -> None:
    started = pair()
    started.after_an_epoch(1, signal.SIGINT)
    assert started.ends() == ([130, 130], ["interrupted; continue a run with --resume"])


@pytest.mark.slow
def test_one_process_finishes_what_a_kill_left_of_two(pair: Any, alone: Path) -> None:
    started = pair()
    started.after_an_epoch(1, signal.SIGKILL)
    assert started.ends() == ([2, -9], ["error: another process of this run ended; continue with --resume"])
    before = read_text(started.folder / CHECKPOINTS / HISTORY)
    subprocess.run(cli(started.folder, "--resume"), env=environment(), capture_output=True, check=True)
    assert read_text(started.folder / CHECKPOINTS / HISTORY).startswith(before.rstrip("\n]").rstrip())
    assert_same(started.folder, alone)
