"""A run that is interrupted (Ctrl-C) at random moments ends with exit code 130; continued it gives the same result."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

MOMENTS, EACH = 20, 4  # of all runs, and of one run at most


def started(config: Path, out: Path, log: Path) -> subprocess.Popen[bytes]:
    def as_in_a_terminal() -> None:  # a background job would ignore interrupts
        signal.signal(signal.SIGINT, signal.default_int_handler)

    words = ["run", "dataset_compare", "--config", str(config), "--out", str(out), "--resume"]
    with log.open("ab") as stream:
        return subprocess.Popen(
            [sys.executable, "-m", "nngpt_ext", *words], stdout=stream, stderr=stream, preexec_fn=as_in_a_terminal
        )


def result(out: Path) -> tuple[dict[str, object], pd.DataFrame]:
    report = json.loads((out / "report.json").read_text())
    for changing in ("timings", "config", "sha256", "run_sha256"):
        report.pop(changing, None)
    return report, pd.read_parquet(out / "predictions.parquet")


@pytest.mark.parametrize("seed", [0])
def test_interrupted_and_continued(config: Path, tmp_path: Path, seed: int) -> None:
    began = time.monotonic()
    assert started(config, tmp_path / "whole", tmp_path / "log").wait() == 0
    seconds, chance = time.monotonic() - began, random.Random(seed)
    whole = result(tmp_path / "whole")
    done = number = 0
    while done < MOMENTS:
        number += 1
        out, log = tmp_path / str(number), tmp_path / f"{number}.log"
        for left in [1.0, 0.8, 0.6, 0.4][:EACH]:
            process = started(config, out, log)
            before = log.stat().st_size
            while log.stat().st_size == before and process.poll() is None:  # loading: Python itself answers then
                time.sleep(0.02)
            time.sleep(chance.random() * seconds * left)
            if process.poll() is not None:
                assert process.returncode == 0, log.read_text()[-3000:]
                break
            process.send_signal(signal.SIGINT)
            code = process.wait(60)
            if code != 130:  # all but Python's own end may be done
                assert (out / "report.json").exists(), log.read_text()[-3000:]
                break
            done += 1
        assert started(config, out, log).wait() == 0, log.read_text()[-3000:]
        found = result(out)
        assert found[0] == whole[0]
        pd.testing.assert_frame_equal(found[1], whole[1])
        assert "Error" not in log.read_text()  # what Python drops in a destructor or an import has a traceback
