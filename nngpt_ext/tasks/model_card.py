"""The model card beside an adapter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nngpt_ext.config import TaskConfig
from nngpt_ext.data.labels import LABELS
from nngpt_ext.evaluation.report import Report
from nngpt_ext.views.faces import filled

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

LEMUR = "nn-dataset"
TAGS = ["nngpt_ext", "dataset_compare", "lora", "automl", "lemur"]
METRICS = ["accuracy", "ece"]


def model_card(
    report: Report, config: TaskConfig, *, base_model: str | None = None, license: str | None = None, more: str = ""
) -> str:
    """Markdown with what the adapter answers, how it was trained and how good it is, and metadata for a hub.

    Args:
        report: of the run.
        config: of the run.
        base_model: the base's name in the metadata; by default that of the configuration.
        license: of the adapter; None where it is not published.
        more: sections that follow.
    """
    from huggingface_hub import ModelCardData

    from nngpt_ext.evaluation.baselines import BASELINES

    data = ModelCardData(
        base_model=base_model or config.model.base,
        library_name="peft",
        pipeline_tag="text-classification",
        license=license,
        datasets=[LEMUR],
        metrics=METRICS,
        tags=TAGS,
        model_name=f"{report.task}-{report.prompt}",
        eval_results=_results(report, config.data.epoch),
    )
    return filled(
        "tasks/model_card.md.jinja", metadata=data.to_yaml(), report=report, config=config, more=more,
        label=LABELS[config.data.label], baselines=BASELINES,
    )  # fmt: skip


def _results(report: Report, epoch: int) -> list[EvalResult]:
    """What the report measured on the test pairs, for a card's model-index; intervals are in the metrics' `args`."""
    from huggingface_hub import EvalResult

    def result(kind: str, name: str, value: float, ci95: Any = None, **more: Any) -> EvalResult:
        interval = {} if ci95 is None else {"ci95": [round(float(x), 4) for x in ci95], "interval_over": "networks"}
        return EvalResult(
            task_type="text-classification", task_name="on which of two datasets does a network do better",
            dataset_type=LEMUR, dataset_name=f"LEMUR (nn-dataset), pairs at epoch {epoch}, {report.split}",
            dataset_config=report.split, dataset_split="test", metric_type=kind, metric_name=name,
            metric_value=round(float(value), 4), metric_args={**interval, **more} or None,
        )  # fmt: skip

    skill, calibration = report.skill, report.calibration
    n = {"pairs": report.n_test_pairs, "networks": report.n_test_networks}
    found = [result("accuracy", "accuracy", report.accuracy.value, report.accuracy.ci95, **n)]
    for name, baseline in report.baselines.items():
        found.append(
            result(f"{name}_accuracy", f"accuracy of the baseline {name}", baseline.accuracy, baseline.ci95, **n)
        )
    found.append(
        result("skill", "skill: accuracy minus the pair prior's", skill.value, skill.ci95, p=round(skill.p, 4))
    )
    if calibration is not None:
        ece = calibration.ece
        found.append(result("ece", "expected calibration error (15 equal-mass bins)", ece.after, ece.ci95))
    if report.ece is not None:
        found.append(result("ece", "expected calibration error before calibration", report.ece))
    return found
