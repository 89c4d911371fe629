"""Reports from what a run folder holds, without LEMUR and without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.report import Report, RunRecord, build_report, write_report
from nngpt_ext.io import inside, write_text
from nngpt_ext.run_folder import (
    ADAPTER,
    BASELINES,
    CARD,
    CONFIG,
    KEYS,
    PREDICTIONS,
    read_config,
    read_record,
    read_table,
)
from nngpt_ext.scoring.calibration import read_calibration
from nngpt_ext.tasks.model_card import model_card

NEEDED = (
    "task", "versions", "base_model", "parts", "training_pairs", "excluded", "near_duplicates",
    "near_duplicate_threshold", "training_pairs_seen", "epochs", "selected_epoch", "cut_networks", "timings",
)  # fmt: skip


def rebuild_report(folder: Path) -> Report:
    """Build the report's files and the adapter's card from predictions.parquet, baselines.parquet and run.json.

    Raises:
        UserError: when the folder holds no finished run, files of it are missing or damaged, or its adapter is a
            link to another folder.
    """
    card, record = inside(folder, ADAPTER) / CARD, read_record(folder, NEEDED)
    predictions, baselines = read_table(folder / PREDICTIONS), read_table(folder / BASELINES)
    test = predictions[predictions["split"] == "test"]
    matched = test[KEYS].merge(baselines, on=KEYS, how="left", validate="one_to_one")
    if matched.isna().to_numpy().any():
        raise UserError(f"'{folder / BASELINES}' is of other pairs than '{folder / PREDICTIONS}'; run the task again")
    config = read_config(folder / CONFIG)
    calibration = read_calibration(folder / ADAPTER)
    run = RunRecord(
        task=record["task"],
        prompt=config["prompt"],
        base_model=record["base_model"]["name"],
        split=config["data"]["split"],
        pairs=dict(record["parts"], train=record["training_pairs"]),
        near_duplicates=set(record["near_duplicates"]),
        near_duplicate_threshold=record["near_duplicate_threshold"],
        excluded=record["excluded"],
        epochs=record["epochs"],
        selected_epoch=record["selected_epoch"],
        timings=record["timings"],
        versions=record["versions"],
        config=config,
        notes=_notes(record, config),
        calibration=None if calibration is None else calibration.model_dump(),
    )
    priors = {name: matched[name].to_numpy() for name in baselines.columns if name not in KEYS}
    report = build_report(run, predictions, priors)
    # The card first: with the report a run counts as finished.
    write_text(card, model_card(report, TaskConfig.model_validate(config)))
    write_report(report, folder)
    return report


def _notes(record: dict[str, Any], config: dict[str, Any]) -> list[str]:
    notes = []
    if record["cut_networks"]:
        notes.append(
            f"{record['cut_networks']} networks' sources were cut to {config['data']['code_tokens']} tokens; "
            "questions and answers never are."
        )
    if config["data"]["trials"] == "all":
        notes.append("Trained on all trials; the prior is that of the best trials, and the test pairs are of the best.")
    data, tuning = config["data"], config["tuning"]
    if data["pairs_per_network"] is not None or tuning["networks_per_epoch"] is not None:
        notes.append(
            f"Training drew {record['training_pairs_seen']:,} pairs over all epochs from the "
            f"{record['training_pairs']:,} training pairs (data.pairs_per_network, tuning.networks_per_epoch)."
        )
    limited = [p for p in ("train", "validation", "test") if config["data"][f"{p}_networks"] is not None]
    if limited:
        notes.append(f"Not all networks of the split were used; the configuration limits {', '.join(limited)}.")
    return notes
