"""`nngpt-ext`, whose first process is slow to record what a run reads: `python -m tests.tuning.late_record run …`."""

from __future__ import annotations

import time
from typing import Any

from nngpt_ext.cli import main
from nngpt_ext.tasks import pipeline

recorded = pipeline.same_inputs


def late(*given: Any) -> None:
    time.sleep(4)  # in which the other process, if it did not wait, would begin to train
    recorded(*given)


if __name__ == "__main__":
    pipeline.same_inputs = late
    main()
