"""What a run leaves so that its adapter can be asked, and its answers found again."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from nngpt_ext.config import TaskConfig
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.load import PairData
from nngpt_ext.io import text_digest
from nngpt_ext.models.base import Base, adapted
from nngpt_ext.predict.adapter import Note, read_note, with_calibration
from nngpt_ext.predict.calibration import fit_calibration
from nngpt_ext.predict.control import known_answer
from nngpt_ext.predict.keys import shown
from nngpt_ext.prompts.template import Template
from nngpt_ext.scoring.predictions import questions_of


def describe_adapter(adapter: Path, config: TaskConfig, template: Template, data: PairData, base: Base) -> None:
    """Write how the adapter's questions are asked beside it, and its answer to one of them."""
    assert config.data.code_tokens is not None  # resolved
    names = data.pairs.loc[data.pairs["split"] == "train", ["dataset_1", "dataset_2"]]
    note = Note(
        prompt=config.prompt if not config.prompt.endswith(".json") else template.name,
        system=template.system,
        text=template.prompt,
        columns=template.columns,
        code_tokens=config.data.code_tokens,
        compact_code=config.data.compact_code,
        epoch=config.data.epoch,
        row_tokens=config.tuning.row_tokens,
        datasets=sorted({str(name) for name in names.to_numpy().ravel()}),
    )
    with adapted(base, adapter) as model:
        note.model_copy(update={"known_answer": known_answer(model, base, note)}).save(adapter)


def with_questions(predictions: pd.DataFrame, template: Template, data: PairData) -> pd.DataFrame:
    """Predictions with what makes their questions: the source's hash and what is shown of each dataset."""
    keys = ["nn", "dataset_1", "dataset_2"]
    asked = predictions[keys].merge(data.pairs, on=keys, how="left", validate="one_to_one")
    given = [shown(template, question, LEMUR_FACTS) for question in questions_of(asked)]
    hashes = {nn: text_digest(data.sources[nn]) for nn in asked["nn"].unique()}
    return predictions.assign(
        source=predictions["nn"].map(hashes), given_1=[one for one, _ in given], given_2=[two for _, two in given]
    )


def calibrated(predictions: pd.DataFrame, adapter: Path, target: float) -> pd.DataFrame:
    """Fit the calibration on the validation pairs, write it beside the adapter, and add what it says.

    Without a validation pair there is no calibration, and the predictions stay as they are.
    """
    validation = predictions[predictions["split"] == "validation"]
    if validation.empty:
        return predictions
    first_wins = (validation["better_dataset"] == validation["dataset_1"]).to_numpy()
    found = fit_calibration(validation["log_odds"].to_numpy(), first_wins, validation["nn"].to_numpy(), target)
    found.save(adapter)
    return with_calibration(predictions, found, read_note(adapter).datasets)
