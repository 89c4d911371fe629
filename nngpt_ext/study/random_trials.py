"""A finished run asked about one random trial for each test network and dataset.

A run is tested on pairs of best trials, which tell how well a network *can* do; those of random trials tell how
well it does with a recipe at hand. The networks are those of the run's own test part; the baselines learn from
what the run learnt from, and only what they judge is drawn at random.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pandas as pd

from nngpt_ext.batches.encode import Encoder
from nngpt_ext.batches.engine import checked_engine
from nngpt_ext.batches.rows import scoring_example
from nngpt_ext.config import TaskConfig
from nngpt_ext.evaluation.report import build_report, write_report
from nngpt_ext.io import replacing
from nngpt_ext.data.load import PairData
from nngpt_ext.models.base import adapted, check_base
from nngpt_ext.predict.calibration import read_calibration
from nngpt_ext.predict.note import read_note, with_calibration
from nngpt_ext.progress import Progress
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.scoring.predictions import encode_pairs, predict_pairs, questions_of
from nngpt_ext.tasks.baselines import FILE as BASELINES
from nngpt_ext.tasks.baselines import KEYS, baseline_probabilities
from nngpt_ext.tasks.folder import PREDICTIONS, read_record
from nngpt_ext.tasks.loading import Loader
from nngpt_ext.tasks.pipeline import find_template, resolve


def ask_random_trials(run: Path, config: TaskConfig, folder: Path, loader: Loader) -> None:
    """Ask the finished run in `run` about random trials; predictions, baselines and a report go to `folder`.

    Raises:
        UserError: as loading data and the base model, and for a record that is damaged.
    """
    began = time.monotonic()
    config = resolve(config, run)
    best = loader.data(config.data)
    drawn = loader.data(config.data.model_copy(update={"trials": "random"}))
    asked = same_pairs(best.part("test"), drawn.pairs)
    judged = best._replace(pairs=pd.concat([best.pairs[best.pairs["split"] != "test"], asked], ignore_index=True))
    pairs = judged.part("test")
    predictions = _predictions(run, config, judged, pairs, loader)
    folder.mkdir(parents=True, exist_ok=True)
    fitted = baseline_probabilities(judged)
    for name, frame in ((PREDICTIONS, predictions), (BASELINES, pairs[KEYS].assign(**fitted))):
        with replacing(folder / name) as temporary:
            frame.to_parquet(temporary, index=False)
    _report(run, config, folder, predictions, fitted, round(time.monotonic() - began, 2))


def same_pairs(test: pd.DataFrame, drawn: pd.DataFrame) -> pd.DataFrame:
    """Those of the drawn pairs that are test pairs, in their order.

    Pair by pair, not network by network: under `random_pairs` a test network has training pairs too.
    """
    return test[KEYS].merge(drawn, on=KEYS, validate="one_to_one").assign(split="test")


def _predictions(run: Path, config: TaskConfig, data: PairData, pairs: pd.DataFrame, loader: Loader) -> pd.DataFrame:
    assert config.data.code_tokens is not None  # resolved
    base = loader.base(config.model)
    check_base(run / "adapter", base)
    renderer = Renderer(
        find_template(config.prompt), base.tokenizer, code_tokens=config.data.code_tokens,
        compact=config.data.compact_code,
    )  # fmt: skip
    encoder = Encoder(renderer, data.sources, base.context, config.tuning.row_tokens)
    encoded = encode_pairs(encoder, questions_of(pairs))
    longest = [scoring_example(one) for one in max(encoded.groups, key=lambda group: len(group[0].prompt))]
    epoch = read_record(run, ("selected_epoch",))["selected_epoch"]
    with adapted(base, run / "adapter") as model, Progress("random trials", 2 * len(pairs), "questions") as progress:
        predictions = predict_pairs(
            model, encoded, pairs, prompt=config.prompt, base_model=base.name, tuning_epoch=epoch or 0,
            row_tokens=config.tuning.row_tokens, progress=progress.advance,
            engine=checked_engine(model, longest, encoded.pad, config.tuning.engine, encoder.longest),
        )  # fmt: skip
    calibration = read_calibration(run / "adapter")
    if calibration is None:
        return predictions
    return with_calibration(predictions, calibration, read_note(run / "adapter").datasets)


def _report(
    run: Path,
    config: TaskConfig,
    folder: Path,
    predictions: pd.DataFrame,
    fitted: dict[str, np.ndarray],
    seconds: float,
) -> None:
    needed = ("versions", "base_model", "training_pairs", "excluded", "near_duplicates", "near_duplicate_threshold")
    record = read_record(run, (*needed, "selected_epoch"))
    calibration = read_calibration(run / "adapter")
    report = build_report(
        task="dataset_compare",
        prompt=config.prompt,
        base_model=record["base_model"]["name"],
        split=config.data.split,
        pairs=pd.DataFrame({"split": ["train"] * record["training_pairs"] + ["test"] * len(predictions)}),
        predictions=predictions,
        baselines=fitted,
        near_duplicates=set(record["near_duplicates"]),
        near_duplicate_threshold=record["near_duplicate_threshold"],
        excluded=record["excluded"],
        epochs=[],
        selected_epoch=record["selected_epoch"],
        timings={"asking": seconds},
        versions=record["versions"],
        config=config.model_dump(mode="json"),
        notes=["Tested on one random trial for each network and dataset; trained as the run's configuration says."],
        calibration=None if calibration is None else calibration.model_dump(),
    )
    write_report(report, folder)
