"""A finished run tested on one random trial for each test network and dataset.

A run is tested on pairs of best trials, which show how well a network *can* do; those of random trials show how well
it does with a given recipe. The networks are those of the run's own test part, and the baselines learn from the run's
training pairs: only the trials that are judged are drawn at random.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pandas as pd

from nngpt_ext.config import TaskConfig
from nngpt_ext.evaluation.baselines import baseline_probabilities
from nngpt_ext.evaluation.report import RunRecord, build_report, write_report
from nngpt_ext.io import file_digest, replacing
from nngpt_ext.models.base import adapted, check_base
from nngpt_ext.run_folder import ADAPTER, BASELINES, HASHES, KEYS, PREDICTIONS, read_record, write_sealed
from nngpt_ext.scoring.calibration import read_calibration, with_calibration
from nngpt_ext.scoring.note import read_note
from nngpt_ext.tasks.pipeline import Loader, find_template
from nngpt_ext.tasks.reporting import NEEDED
from nngpt_ext.tasks.workbench import Workbench

_NOTE = "Tested on one random trial for each network and dataset; trained as the run's configuration says."


def ask_random_trials(run: Path, config: TaskConfig, folder: Path, loader: Loader) -> None:
    """Test the finished run in `run` on random trials; predictions, baselines and a report go to `folder`.

    Raises:
        UserError: as when loading data and the base model, and for a damaged record.
    """
    began = time.monotonic()
    resolved = config.resolved(run)
    record = read_record(run, NEEDED, [ADAPTER])
    best = loader.data(config.data)
    drawn = loader.data(config.data.model_copy(update={"trials": "random", "test_trials": None}))
    asked = same_pairs(best.part("test"), drawn.pairs)
    base = loader.base(config.model)
    adapter = run / ADAPTER
    check_base(adapter, base)
    train = best.pairs[best.pairs["split"] == "train"]
    judged = replace(best, pairs=pd.concat([train, asked], ignore_index=True))
    # Nothing is trained, so the pairs that are tested also take the place of the training examples.
    template = find_template(config.prompt, config.tuning.head)
    bench = Workbench(resolved, template, base, replace(judged, training=asked))
    with adapted(base, adapter) as model:
        predictions = bench.predict(model, "test", record["selected_epoch"] or 0)
    calibration = read_calibration(adapter)
    if calibration is not None:
        predictions = with_calibration(predictions, calibration, read_note(adapter).datasets)
    baselines = baseline_probabilities(judged)
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in ((PREDICTIONS, predictions), (BASELINES, asked[KEYS].assign(**baselines))):
        with replacing(folder / name) as temporary:
            frame.to_parquet(temporary, index=False)
    write_sealed(folder / HASHES, {name: file_digest(folder / name) for name in (PREDICTIONS, BASELINES)})
    tested = RunRecord.of(
        record,
        resolved.model_dump(mode="json"),
        pairs={"train": record["training_pairs"], "test": len(predictions)},
        epochs=[],
        timings={"asking": round(time.monotonic() - began, 2)},
        notes=[_NOTE],
        calibration=None if calibration is None else calibration.model_dump(),
    )
    write_report(build_report(tested, predictions, baselines), folder)


def same_pairs(test: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    """The drawn pairs that are test pairs, in the order of the test pairs.

    They are matched by pair, not by network, because under `random_pairs` a test network has training pairs too.
    """
    return test[KEYS].merge(drawn, on=KEYS, validate="one_to_one").assign(split="test")
