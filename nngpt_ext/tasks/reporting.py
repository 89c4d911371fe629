"""Reports and model cards from the files of a run's folder, without LEMUR and without a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from nngpt_ext.config import TaskConfig
from nngpt_ext.data.labels import LABELS
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.baselines import BASELINES as DECLARED
from nngpt_ext.evaluation.report import Report, RunRecord, build_report, read_answers, write_report
from nngpt_ext.io import inside, write_text
from nngpt_ext.models.base import is_hub_id
from nngpt_ext.models.presets import preset
from nngpt_ext.run_folder import ADAPTER, BASELINES, CALIBRATION, CARD, CONFIG, PREDICTIONS, read_config, read_record
from nngpt_ext.scoring.calibration import read_calibration
from nngpt_ext.tuning.warm_start import start_note
from nngpt_ext.views.faces import filled
from nngpt_ext.views.wording import count, interval

LEMUR = "nn-dataset"
NEEDED = (
    "task", "versions", "base_model", "parts", "training_pairs", "excluded", "near_duplicates",
    "near_duplicate_threshold", "training_pairs_seen", "epochs", "selected_epoch", "cut_networks", "timings",
)  # fmt: skip


def rebuild_report(folder: Path) -> Report:
    """Build the report's files and the adapter's card from predictions.parquet, baselines.parquet and run.json.

    A run of all folds has no adapter of its own, and so no card.

    Raises:
        UserError: if the folder has no finished run, files of it are missing or damaged, or its adapter is a
            link to another folder.
    """
    card = inside(folder, ADAPTER) / CARD
    record = read_record(folder, NEEDED, (CONFIG, BASELINES, PREDICTIONS, f"{ADAPTER}/{CALIBRATION}"))
    calibration, config = read_calibration(folder / ADAPTER), read_config(folder / CONFIG)
    fitted, folds = None if calibration is None else calibration.model_dump(), record.get("folds")
    try:
        if folds:  # each has its own calibration
            fitted = {"temperature": None, "threshold": None, "target": config["calibration"]["target"]}
            fitted["n_pairs"] = record["parts"]["validation"]
        predictions, baselines = read_answers(folder)
        run = RunRecord.of(record, config, notes=_notes(record, config["data"], config["tuning"]), calibration=fitted)
        report = build_report(run, predictions, baselines)
        text = None if folds else model_card(report, TaskConfig.model_validate(config))
    except (LookupError, TypeError, ValueError) as error:
        if isinstance(error, UserError) or "files" in record:  # its files are whole, so this is our fault
            raise
        reason = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        raise UserError(f"a file of the run in '{folder}' is damaged ({reason}); run the task again") from None
    if text is not None:
        write_text(card, text)  # before the report, with which a run counts as finished
    write_report(report, folder)
    return report


def _notes(record: dict[str, Any], data: dict[str, Any], tuning: dict[str, Any]) -> list[str]:
    notes = []
    networks, available = record.get("networks", {}), record.get("available_networks", {})
    if record["cut_networks"]:
        of = f" of {record['read_networks']:,}" if "read_networks" in record else ""
        notes.append(
            f"{record['cut_networks']:,}{of} networks' sources were cut to {data['code_tokens']} tokens; "
            "questions and answers never are."
        )
    if tuning.get("head") == "lines":
        prior = tuning["offset"].replace("_", " ")
        offset = "" if prior == "none" else f" plus the log-odds of the {prior} (tuning.offset)"
        notes.append(
            "The adapter scores each dataset's line alone (tuning.head lines): log-odds are the difference of two "
            f"scores{offset}, so the order of the datasets never matters."
        )
    if "init_from" in record:
        notes.append(start_note(record["init_from"]))
    if record.get("unpaired_networks"):
        notes.append(
            f"{count(record['unpaired_networks'], 'network')} with trials on one dataset only at epoch {data['epoch']} "
            "are in no pair."
        )
    config = DataConfig.model_validate(data)
    if config.trials != config.tested_trials:
        every = {"all": "all trials", "best": "the best trials", "random": "random trials"}
        notes.append(f"Trained on {every[config.trials]}; priors and test pairs are of {every[config.tested_trials]}.")
    if "evidence" in record:
        notes.append(config.evidence.note(config.epoch, record["evidence"], record["without_evidence"]))
    of_folds = " of all folds" if record.get("folds") else ""
    drawn = {
        "data.pairs_per_network": data["pairs_per_network"],
        "tuning.networks_per_epoch": tuning["networks_per_epoch"],
    }
    if record.get("families"):
        drawn["data.family_cap"] = data["family_cap"]
    if any(value is not None for value in drawn.values()):
        notes.append(
            f"Training drew {record['training_pairs_seen']:,} pairs over all epochs{of_folds} from the "
            f"{record['training_pairs']:,} training pairs ({', '.join(drawn)})."
        )
    limited = [part for part in ("train", "validation", "test") if data[f"{part}_networks"] is not None]
    if limited:
        used = [f"{part} ({networks[part]:,} of {available[part]:,})" if available else part for part in limited]
        notes.append(f"Not all networks of the split were used; the configuration limits {', '.join(used)}.")
    if "path" in record.get("data", {}):
        notes.append(
            f"The records are those in '{record['data']['path']}' (fingerprint {record['data']['fingerprint'][:12]})."
        )
    return notes


def model_card(
    report: Report, config: TaskConfig, *, base_model: str | None = None, license: str | None = None, more: str = ""
) -> str:
    """The card beside an adapter: Markdown with its task, training and figures, and metadata for a hub.

    Args:
        report: of the run.
        config: of the run.
        base_model: the base's name in the metadata; by default its hub id, or else that of the configuration.
        license: of the adapter; None if it is not published.
        more: sections that follow.
    """
    location = preset(config.model.base).location
    data = ModelCardData(
        base_model=base_model or (location if is_hub_id(location) else config.model.base),
        library_name="peft",
        pipeline_tag="text-classification",
        license=license,
        datasets=None if "path" in report.records else [LEMUR],
        metrics=["accuracy", "ece"],
        tags=["nngpt_ext", "dataset_compare", "lora", "automl", "lemur"],
        model_name=f"{report.task}-{report.prompt}",
        eval_results=_eval_results(report, config.data.epoch),
    )
    return filled(
        "tasks/model_card.md.jinja", metadata=data.to_yaml(), report=report, config=config, more=more,
        label=LABELS[config.data.label], baselines=DECLARED, interval=interval,
    )  # fmt: skip


def _eval_results(report: Report, epoch: int) -> list[EvalResult]:
    """Figures of the test pairs for a card's model-index; intervals are in the metrics' `args`."""

    own = "path" in report.records
    name = f"records with fingerprint {report.records['fingerprint'][:12]}" if own else "LEMUR (nn-dataset)"

    def result(kind: str, title: str, value: float, ci95: Any = None, **more: Any) -> EvalResult:
        interval = {} if ci95 is None else {"ci95": [round(float(x), 4) for x in ci95], "interval_over": report.units}
        return EvalResult(
            task_type="text-classification", task_name="on which of two datasets does a network do better",
            dataset_type="own records" if own else LEMUR,
            dataset_name=f"{name}, pairs at epoch {epoch}, {report.split}",
            dataset_config=report.split, dataset_split="test", metric_type=kind, metric_name=title,
            metric_value=round(float(value), 4), metric_args={**interval, **more} or None,
        )  # fmt: skip

    skill, n = report.skill, {"pairs": report.n_test_pairs, "networks": report.n_test_networks}
    found = [
        result("accuracy", "accuracy", report.accuracy.value, report.accuracy.ci95, **n),
        *(
            result(f"{name}_accuracy", f"accuracy of the baseline {name}", baseline.accuracy, baseline.ci95, **n)
            for name, baseline in report.baselines.items()
        ),
        result("skill", "skill: accuracy minus the pair prior's", skill.value, skill.ci95, p=round(skill.p, 4)),
    ]
    if report.calibration is not None:
        ece = report.calibration.ece
        found.append(result("ece", "expected calibration error (15 equal-mass bins)", ece.after, ece.ci95))
    if report.ece is not None:
        found.append(result("ece", "expected calibration error before calibration", report.ece))
    return found
