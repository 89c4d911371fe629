"""NNGPT in a process of its own: the folder it is started in, LEMUR's database there, and the code that it runs.

NNGPT takes the current folder, or the nearest above it with `ab/` and `README.md`, for its project: prompts and LLM
presets come from `ab/gpt/conf`, LEMUR's database from `db/ab.nn.db`. Where there is no database, importing NNGPT builds
one of 635 MB or downloads it. It also prints, so a child process gives its result as one marked line of JSON:
`python -m nngpt_ext.host.process import | tune | pairs | prompts ARGUMENTS`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import json
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.files import cannot_write
from nngpt_ext.host.installation import Host

MARK = "nngpt_ext.host: "
DATABASE = Path("db") / "ab.nn.db"


@contextmanager
def bare_root(host: Host, database: Path | None = None) -> Iterator[Path]:
    """A temporary folder to start NNGPT in, with its own conf and a database: the given one, or one without rows."""
    with tempfile.TemporaryDirectory(prefix="nngpt_ext_host_") as name:
        root = Path(name)
        (root / "README.md").touch()
        (root / "ab").mkdir()
        (root / "ab" / "gpt").symlink_to(host.folder)
        link_database(root, database)
        yield root


def link_database(root: Path, database: Path | None) -> None:
    """Put a link to a database into a folder, or a database without rows, so that importing NNGPT builds none."""
    file = root / DATABASE
    file.parent.mkdir(exist_ok=True)
    if database is not None:
        file.symlink_to(database.resolve())
        return
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("CREATE TABLE nn (name TEXT PRIMARY KEY, code TEXT NOT NULL, id TEXT NOT NULL)")
        connection.commit()


def run_in(
    root: Path, host: Host, arguments: Sequence[str], *, environment: Mapping[str, str] | None = None,
    capture: bool = True,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run Python in a folder with arguments such as `-m MODULE`; it imports this very NNGPT and this package."""
    places = [str(host.folder.parents[1]), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(filter(None, places))
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else sys.stderr, stderr=subprocess.PIPE if capture else None,
        env={**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", **(environment or {})},
    )  # fmt: skip


def result_of(done: subprocess.CompletedProcess[str], doing: str) -> Any:
    """The marked line of JSON that a child process printed last; if it failed, an error with its last message."""
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        last = (done.stderr.strip() or done.stdout.strip() or "there was no output").splitlines()[-1]
        raise UserError(f"{doing} failed: {last}")
    return json.loads(lines[-1][len(MARK) :])


def import_errors(host: Host, roles: Sequence[str]) -> dict[str, str]:
    """Import NNGPT's modules in a process of their own; the errors by role, empty if all can be imported."""
    with bare_root(host) as root:
        done = run_in(root, host, ["-m", __name__, "import", *(host.module(role) for role in roles)])
    failed = result_of(done, "importing NNGPT")
    return {role: failed[host.module(role)] for role in roles if host.module(role) in failed}


def check_database(file: Path) -> None:
    """Check that a LEMUR database exists and has trials: NNGPT would accept one that was only half built."""
    from nngpt_ext.lemur.sqlite import SqliteSource
    from nngpt_ext.lemur.trials import METRIC, TASK

    SqliteSource(file)
    with closing(sqlite3.connect(f"{file.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        row = connection.execute("SELECT 1 FROM stat WHERE task = ? AND metric = ? LIMIT 1", (TASK, METRIC)).fetchone()
    if row is None:
        raise UserError(f"the LEMUR database '{file}' has no trials; remove it and build it again")


def build_database(out: Path) -> int:
    """Have `ab.nn.api` build LEMUR's database in a temporary folder and move it to `out` when it is complete.

    Returns:
        The number of trials in it, of all tasks.

    Raises:
        UserError: if `out` exists or the import of `ab.nn.api` fails.
    """
    if out.exists():
        raise UserError(f"'{out}' exists; remove it, or use it as it is")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nngpt_ext_", dir=out.parent) as name:
            root = Path(name)
            (root / "README.md").touch()
            (root / "ab").mkdir()
            done = subprocess.run(
                [sys.executable, "-c", "import ab.nn.api"], cwd=root, text=True, capture_output=True,
                stdin=subprocess.DEVNULL,
            )  # fmt: skip
            if done.returncode or not (root / DATABASE).is_file():
                last = (done.stderr.strip() or "there is no database afterwards").splitlines()[-1]
                raise UserError(f"ab.nn.api could not build LEMUR's database: {last}")
            check_database(root / DATABASE)
            with closing(sqlite3.connect(root / DATABASE)) as connection:
                rows = int(connection.execute("SELECT count(*) FROM stat").fetchone()[0])
            shutil.move(root / DATABASE, out)
    except OSError as error:
        raise cannot_write(out, error) from None
    return rows


# Below: what runs in the child process.


def launch(call: dict[str, Any]) -> None:
    """Call NNGPT's `main` with our number of cycles and our pairs.

    1.0.6 accepts `data_dir` and drops it, and runs 100 cycles in any case; so both are given to its `tune` here.

    Args:
        call: `main`, `tune` and `prompt` (names of modules), `arguments` of main, `cycles`, `data_dir`.
    """
    tuner: Any = importlib.import_module(call["tune"])
    given = {"num_cycles": call["cycles"]}
    if "data_dir" in inspect.signature(tuner.tune).parameters:
        given["data_dir"] = call["data_dir"]
    else:
        prompt = importlib.import_module(call["prompt"])
        tuner.NNGenPrompt = functools.partial(exported_loader(prompt.Prompt), call["data_dir"])
    tune = tuner.tune
    # main imports `tune` from its module when it is called, and so gets this one.
    tuner.tune = lambda *positional, **named: tune(*positional, **{**named, **given})
    importlib.import_module(call["main"]).main(**call["arguments"])


def exported_loader(base: Any) -> Any:
    """A prompt loader for `train.jsonl`, a subclass of NNGPT's `Prompt`, for versions that have none.

    It is called as `loader(data_dir, max_len, tokenizer, prompts_path)`.
    """

    class ExportedPairs(base):
        def __init__(self, data_dir: str, max_len: int, tokenizer: Any, prompts_path: Any = None) -> None:
            super().__init__(max_len, tokenizer)
            self.file = Path(data_dir) / "train.jsonl"

        def get_raw_dataset(self, only_best_accuracy: bool, n_training_prompts: int | None = None) -> Any:
            import pandas as pd

            rows = []
            with self.file.open(encoding="utf-8") as lines:
                for line in islice(lines, n_training_prompts or None):
                    messages = json.loads(line)["messages"]
                    texts = {message["role"]: message["content"] for message in messages}
                    text = self.tokenizer.apply_chat_template(messages, tokenize=False)
                    rows.append([texts["user"], "", texts["assistant"], "", text])
            return pd.DataFrame(rows, columns=["instruction", "context", "response", "category", "text"])

    return ExportedPairs


def peak_mb() -> float:
    """The highest memory use of this process in MB.

    On Linux it is read from VmHWM (`man 5 proc`): `getrusage` there also counts the memory of the parent process.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        found = re.search(r"^VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"), re.MULTILINE)
        if found is not None:
            return int(found[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def finish(out: str, work: Callable[[], Any]) -> None:
    """Do some work, write the table that it returns as Parquet, and print its cost: seconds, CPU seconds, memory."""
    began, busy = time.perf_counter(), time.process_time()
    table = work()
    took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - busy, "peak_mb": peak_mb()}
    table.to_parquet(out, index=False)
    print(MARK + json.dumps({"rows": len(table), **took}))


def _host_pairs(module: Any, meta: str, epoch: str) -> Any:
    """The pairs of NNGPT's `DatasetCompareBuilder`, without the sources."""
    import pandas as pd

    found = module.DatasetCompareBuilder(meta_path=meta, epoch=int(epoch)).build_pairs()
    columns = ["nn", "dataset_1", "dataset_2", "norm_acc_1", "norm_acc_2", "answer"]
    return pd.DataFrame([{name: row[name] for name in columns} for row in found], columns=columns)


def _host_prompts(module: Any, prompt_file: str, tokenizer: Any, limit: str) -> Any:
    """The rows that NNGPT's `NNGenPrompt` renders from a prompt file."""
    rows = module.NNGenPrompt(8192, tokenizer, prompt_file).get_raw_dataset(False, int(limit))
    return rows[["instruction", "response", "text"]]


def _main(what: str, *given: str) -> None:
    if what == "tune":
        launch(json.loads(Path(given[0]).read_text(encoding="utf-8")))
    elif what == "import":
        failed = {}
        for name in given:
            try:
                importlib.import_module(name)
            except (Exception, SystemExit) as error:
                failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())}"
        print(MARK + json.dumps(failed))
    else:  # measured, without the time of imports and of loading the tokenizer
        import pandas  # noqa: F401

        out, name, *rest = given
        module = importlib.import_module(name)
        if what == "pairs":
            finish(out, lambda: _host_pairs(module, *rest))
            return
        from transformers import AutoTokenizer

        file, folder, template, limit = rest
        tokenizer = AutoTokenizer.from_pretrained(folder)
        tokenizer.chat_template = Path(template).read_text(encoding="utf-8")
        finish(out, lambda: _host_prompts(module, file, tokenizer, limit))


if __name__ == "__main__":
    _main(*sys.argv[1:])
