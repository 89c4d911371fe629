"""The model card beside an adapter."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nngpt_ext.config import TaskConfig
from nngpt_ext.evaluation.report import Report

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LEMUR = "nn-dataset"
TAGS = ["nngpt_ext", "dataset_compare", "lora", "automl", "lemur"]
METRICS = ["accuracy", "ece"]


def model_card(
    report: Report, config: TaskConfig, *, base_model: str | None = None, license: str | None = None, more: str = ""
) -> str:
    """Markdown with what the adapter answers, how it was trained and how well it does, and metadata for a hub.

    Args:
        report: of the run.
        config: of the run, resolved.
        base_model: how the metadata name the base, if not as the configuration does.
        license: of the adapter; None where it is not published.
        more: sections that follow.
    """
    from huggingface_hub import ModelCardData

    data = ModelCardData(
        base_model=base_model or config.model.base,
        library_name="peft",
        pipeline_tag="text-classification",
        license=license,
        datasets=[LEMUR],
        metrics=METRICS,
        tags=TAGS,
        model_name=f"{report.task}-{report.prompt}",
        eval_results=eval_results(report, config),
    )
    return f"---\n{data.to_yaml()}\n---\n{_text(report, config)}{more}"


def eval_results(report: Report, config: TaskConfig) -> list[EvalResult]:
    """What the report measured on the test pairs, for a card's model-index: intervals are in the metrics' `args`."""
    from huggingface_hub import EvalResult

    def result(kind: str, name: str, value: float, ci95: Any = None, **more: Any) -> EvalResult:
        interval = {} if ci95 is None else {"ci95": [round(float(x), 4) for x in ci95], "interval_over": "networks"}
        return EvalResult(
            task_type="text-classification", task_name="on which of two datasets does a network do better",
            dataset_type=LEMUR, dataset_name=f"LEMUR (nn-dataset), pairs at epoch {config.data.epoch}, {report.split}",
            dataset_config=report.split, dataset_split="test", metric_type=kind, metric_name=name,
            metric_value=round(float(value), 4), metric_args={**interval, **more} or None,
        )  # fmt: skip

    prior, skill = report.baselines["pair_prior"], report.skill
    n = {"pairs": report.n_test_pairs, "networks": report.n_test_networks}
    found = [
        result("accuracy", "accuracy", report.accuracy.value, report.accuracy.ci95, **n),
        result(
            "pair_prior_accuracy",
            "accuracy of the pair prior, which never sees the network",
            prior.accuracy,
            prior.ci95,
            **n,
        ),
        result("skill", "skill: accuracy minus the pair prior's", skill.value, skill.ci95, p=round(skill.p, 4)),
    ]
    calibration = report.calibration
    if calibration is not None:
        ece = calibration.ece
        found.append(result("ece", "expected calibration error (15 equal-mass bins)", ece.after, ece.ci95))
    if report.ece is not None:
        found.append(result("ece", "expected calibration error before calibration", report.ece))
    return found


def _text(report: Report, config: TaskConfig) -> str:
    lora, skill = config.model.lora, report.skill
    prior = report.baselines["pair_prior"].accuracy
    points = [
        f"Trained on draws from {report.n_train_pairs:,} pairs of LEMUR, split `{report.split}`, prompt "
        f"`{report.prompt}`, rank {lora.r}, alpha {lora.alpha}, dropout {lora.dropout}, learning rate "
        f"{config.tuning.learning_rate}, epoch {report.selected_epoch} of {config.tuning.epochs} by validation.",
        f"Test accuracy {report.accuracy.value:.3f} (95 % interval over networks {_between(report.accuracy.ci95)}) on "
        f"{report.n_test_pairs:,} pairs of {report.n_test_networks:,} networks. The pair prior, which never sees the "
        f"network, scores {prior:.3f} there: skill {skill.value:+.3f} ({_between(skill.ci95, '+')}).",
        *_apart(report),
        *_calibrated(report),
    ]
    lines = "\n".join(textwrap.fill(point, 118, initial_indent="- ", subsequent_indent="  ") for point in points)
    return f"""# {report.task}: {report.prompt}

A LoRA adapter (PEFT) for `{config.model.base}`. It reads a network's PyTorch source and names the one of two
image-classification datasets on which the network reaches the higher normalised accuracy.

{lines}

`nngpt_ext.json` holds the sha256 of the base model that it belongs to; on another base it means nothing.
"""


def _between(interval: tuple[float, float], sign: str = "") -> str:
    return " to ".join(f"{value:{sign}.3f}" for value in interval)


def _apart(report: Report) -> Iterator[str]:
    found = report.near_duplicates
    parts = [
        f"{group.accuracy:.3f} {name} one in training (prior {group.prior:.3f}, n = {group.n:,})"
        for name, group in (("with", found.with_), ("without", found.without))
        if group.accuracy is not None and group.prior is not None
    ]
    if parts:
        yield f"By whether a test network has a near-duplicate in training: {'; '.join(parts)}."


def _calibrated(report: Report) -> Iterator[str]:
    found = report.calibration
    if found is None:
        return
    shown = (
        f"Calibrated by temperature {found.temperature:.2f} on validation: expected calibration error "
        f"{found.ece.after:.3f} (before: {found.ece.before:.3f})."
    )
    answered = found.answered
    if found.threshold is not None and answered.accuracy is not None:
        shown += (
            f" At a confidence of {found.threshold:.3f} and above, {100 * answered.share:.0f} % of the test pairs, "
            f"{answered.accuracy:.3f} of its answers are right."
        )
    yield shown
