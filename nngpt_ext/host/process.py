"""NNGPT in a separate process: the folder in which it is started, LEMUR's database there, and the code that it runs.

NNGPT takes the current folder, or the nearest above it with `ab/` and `README.md`, for its project: prompts and LLM
presets come from `ab/gpt/conf`, LEMUR's database from `db/ab.nn.db`. If there is no database, importing NNGPT builds
one of 635 MB or downloads it. It also prints, so a child process reports its result as one marked line of JSON.
"""

from __future__ import annotations

import asyncio
import functools
import importlib
import inspect
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from nngpt_ext.errors import UserError
from nngpt_ext.host.installation import Host
from nngpt_ext.io import cannot_write
from nngpt_ext.light import check_whole

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
    """Run Python in a folder with arguments such as `-m MODULE`; it imports this NNGPT and this package."""
    places = [str(host.folder.parents[1]), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]
    path = os.pathsep.join(filter(None, places))
    return subprocess.run(
        [sys.executable, *arguments], cwd=root, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if capture else sys.stderr, stderr=subprocess.PIPE if capture else None,
        env={**os.environ, "PYTHONPATH": path, "TOKENIZERS_PARALLELISM": "false", **(environment or {})},
    )  # fmt: skip


def result_of(done: subprocess.CompletedProcess[str], doing: str) -> Any:
    """The last marked line of JSON that a child process printed; if it failed, an error with its last message."""
    lines = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not lines:
        last = (done.stderr.strip() or done.stdout.strip() or "there was no output").splitlines()[-1]
        raise UserError(f"{doing} failed: {last}")
    return json.loads(lines[-1][len(MARK) :])


# What NNGPT passes to a library: the library, the versions that still accept it (from the wheels of transformers 5.14.1
# and 5.15.1, trl 1.6.0 and 1.7.0), the role of the module that passes it, and the argument.
_REMOVED = (("transformers", "<5.15", "main", "warmup_ratio"), ("trl", "<1.7", "lora", "completion_only_loss"))


def obstacles(host: Host, *, run: bool = True) -> list[str]:
    """What prevents NNGPT's tuner from running here, a line each; with `run`, its tuner is imported to find out."""
    from packaging.specifiers import SpecifierSet

    check_whole()
    import torch

    found = [] if torch.cuda.is_available() else ["no CUDA device: NNGPT loads its model onto one"]
    found += [host.missing[role] for role in ("main", "tune", "prompt") if role in host.missing]
    if run and (modules := [host.module(role) for role in ("main", "tune") if role in host.modules]):
        with bare_root(host) as root:
            done = run_in(root, host, ["-m", __name__, *modules])
        found += result_of(done, "importing NNGPT")
    for package, accepted, role, argument in _REMOVED:
        version = metadata.version(package)
        passed = role in host.modules and argument.encode() in host.file(role).read_bytes()
        if passed and not SpecifierSet(accepted, prereleases=True).contains(version):
            own = f"its tuner needs an environment of its own with {package}{accepted}"
            found.append(f"{package} {version} does not accept {argument}, which NNGPT passes to it: {own}")
    return found


def check_database(file: Path) -> None:
    """Check that a LEMUR database exists and is complete: NNGPT would accept one that was only half built."""
    importlib.import_module("nngpt_ext.data.sources.sqlite").SqliteSource(file)


def build_database(out: Path) -> int:
    """Have `ab.nn.api` build LEMUR's database, moved to `out` when complete; the number of its trials, of all tasks."""
    if out.exists():
        raise UserError(f"'{out}' exists; remove it, or use it as it is")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".nngpt_ext_", dir=out.parent) as name:
            root = Path(name)
            (root / "README.md").touch()
            (root / "ab").mkdir()
            script = f"import ab.nn.api; print({MARK + 'null'!r})"
            done = subprocess.run(
                [sys.executable, "-c", script], cwd=root, text=True, capture_output=True, stdin=subprocess.DEVNULL
            )
            result_of(done, "building LEMUR's database with ab.nn.api")
            check_database(root / DATABASE)
            with closing(sqlite3.connect(root / DATABASE)) as connection:
                rows = int(connection.execute("SELECT count(*) FROM stat").fetchone()[0])
            shutil.move(root / DATABASE, out)
    except OSError as error:
        raise cannot_write(out, error) from None
    return rows


# The code below runs in the child process, `launch` and `exported_loader` in environments without this package too.


def start_script() -> str:
    """A script that calls NNGPT's `main` by the call.json beside it, and needs nothing of this package."""
    parts = [inspect.getsource(one) for one in (exported_loader, launch)]
    return (
        '"""Call NNGPT\'s main by call.json. Start it with the Python in whose environment NNGPT\'s tuner runs."""\n\n'
        "from __future__ import annotations\n\nimport asyncio\nimport functools\nimport importlib\nimport inspect\n"
        "import json\nimport os\nfrom itertools import islice\nfrom pathlib import Path\nfrom typing import Any\n\n\n"
        + "\n\n".join(parts)
        + '\n\nhere = Path(__file__).resolve().parent\nos.chdir(here / "root")\n'
        + 'os.environ["AB_GPT_NNGPT_DIR"] = str(here / "nngpt")\n'
        + 'launch(json.loads((here / "call.json").read_text(encoding="utf-8")))\n'
    )


def launch(call: dict[str, Any]) -> None:
    """Call NNGPT's `main` with the arguments in a call.json.

    1.0.6 accepts `data_dir` and drops it, and runs 100 cycles in any case; so both are passed to its `tune` here.
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
    done = importlib.import_module(call["main"]).main(**call["arguments"])
    if inspect.iscoroutine(done):  # else a main that is `async` would do nothing
        asyncio.run(done)


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
                    _, user, assistant = (message["content"] for message in messages)
                    text = self.tokenizer.apply_chat_template(messages, tokenize=False)
                    rows.append([user, "", assistant, "", text])
            return pd.DataFrame(rows, columns=["instruction", "context", "response", "category", "text"])

    return ExportedPairs


def _main(*modules: str) -> None:
    """Import modules; print why those that cannot be imported cannot."""
    errors = []
    for name in modules:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:
            errors.append(f"{name} cannot be imported: {type(error).__name__}: {' '.join(str(error).split())}")
    print(MARK + json.dumps(errors))


if __name__ == "__main__":
    _main(*sys.argv[1:])
