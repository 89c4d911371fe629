"""Runs in processes of their own: folds of a split, cells of a study.

`main` is one run. Its configuration comes on standard input, whose end says that the parent is gone; each line that it
logs goes to standard output, after its level and a tab.
"""

from __future__ import annotations

import itertools
import json
import logging
import os
import subprocess
import sys
import threading
import traceback
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext, suppress
from pathlib import Path
from types import TracebackType

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError, for_shell, typed

log = logging.getLogger(__name__)

_FAILED = "failed:\t"  # begins the line with the reason of a run that failed
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def gpus() -> list[str]:
    """The GPUs that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    import torch

    numbers = map(str, range(torch.cuda.device_count()))
    return (os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(numbers)).split(",")[: torch.cuda.device_count()]


def reason_of(error: Exception) -> str:
    """What a line about a failed run says: the error, with its type if it was not written for the user."""
    return str(error) if isinstance(error, (UserError, RuntimeError)) else f"{type(error).__name__}: {error}"


class RunProcesses:
    """`with RunProcesses(2) as processes: processes.submit("fold 0", config)`: two runs at a time, each in a process.

    Each computes with one thread, on a GPU of its worker's if there are some; more workers than GPUs share them. When
    the block ends with an error, all processes are ended.
    """

    def __init__(self, workers: int) -> None:
        places, self._worker = itertools.cycle(gpus() or [None]), threading.local()
        self._pool = ThreadPoolExecutor(workers, initializer=lambda: setattr(self._worker, "gpu", next(places)))
        self._running: list[subprocess.Popen[str]] = []
        self._stopped = threading.Event()

    def __enter__(self) -> RunProcesses:
        return self

    def __exit__(self, kind: type[BaseException] | None, _error: object, _trace: TracebackType | None) -> None:
        if kind is not None:
            self._stopped.set()
            self._pool.shutdown(wait=False, cancel_futures=True)
            for process in self._running:
                process.kill()
        self._pool.shutdown()

    def submit(self, name: str, config: TaskConfig) -> Future[None]:
        """Run `config` in its `output_dir`, or continue it there, as soon as a worker is free.

        Its log lines begin with `name`. The result is None; it raises UserError if the run ended with one or was
        killed, RuntimeError if it failed otherwise.
        """
        return self._pool.submit(self._run, name, config)

    def _run(self, name: str, config: TaskConfig) -> None:
        paths = os.pathsep.join(path or str(Path.cwd()) for path in sys.path)
        more = {**_ONE_THREAD, "PYTHONPATH": paths, "PYTHONSAFEPATH": "1", "PYTHONIOENCODING": "utf-8"}
        more |= {} if self._worker.gpu is None else {"CUDA_VISIBLE_DEVICES": self._worker.gpu}
        level, shell = logging.getLogger("nngpt_ext").getEffectiveLevel(), typed("shell", "")
        given, reason = {"config": config.model_dump(), "level": level, "shell": bool(shell)}, ""
        with (
            suppress(BrokenPipeError),  # it ended before it read anything
            subprocess.Popen(
                [sys.executable, "-c", "from nngpt_ext.tasks.processes import main; main()"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                errors="replace", env={**os.environ, **more}, start_new_session=True,  # Ctrl-C reaches the parent only
            ) as process,
        ):  # fmt: skip
            self._running.append(process)
            if self._stopped.is_set():
                process.kill()
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()
            for line in process.stdout:
                number, tab, text = line.rstrip().partition("\t")
                own = bool(tab) and number.isdecimal()
                if line.startswith(_FAILED):
                    reason = text
                elif line.strip():
                    log.log(int(number) if own else logging.WARNING, "%s: %s", name, text if own else line.rstrip())
        code = process.returncode
        if code < 0:
            killed = f"its process was killed by signal {-code}, perhaps for lack of memory (try fewer workers)"
            raise UserError(killed)
        if code == 2 and reason:
            raise UserError(reason)
        if code:
            raise RuntimeError(reason or f"its process ended with code {code}")


def main() -> None:
    """Do one run, as the first line of standard input says, and exit with 0, 2 (the user's mistake) or 1."""
    given = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.basicConfig(level=logging.WARNING, format="%(levelno)d\t%(message)s", stream=sys.stdout)
    logging.getLogger("nngpt_ext").setLevel(given["level"])
    import torch

    from nngpt_ext.tasks.pipeline import run_pipeline

    torch.set_num_threads(1)
    config = TaskConfig.model_validate(given["config"])
    with for_shell() if given["shell"] else nullcontext():
        try:
            run_pipeline(config, Path(config.output_dir), resume=True)
        except Exception as error:
            if not isinstance(error, UserError):
                traceback.print_exc()
            print(f"{_FAILED}{reason_of(error)}", flush=True)
            sys.exit(2 if isinstance(error, UserError) else 1)


def _end_with_parent() -> None:
    os.read(0, 1)  # nothing more is written: this returns when the parent is gone
    os._exit(1)
