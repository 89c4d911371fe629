"""The card beside an adapter: metadata that a hub reads, and the report's figures in words."""

from __future__ import annotations

from huggingface_hub import ModelCard

from nngpt_ext import RunResult, TaskConfig
from nngpt_ext.run_folder import read_config
from nngpt_ext.tasks.model_card import model_card


def test_metadata_and_text_hold_the_reports_figures(result: RunResult) -> None:
    config = TaskConfig.model_validate(read_config(result.output_dir / "config.yaml"))
    text = model_card(result.report, config, license="mit", more="\nMore.\n")
    card, report = ModelCard(text), result.report
    assert (card.data.library_name, card.data.license, card.data.base_model) == ("peft", "mit", "embedded")
    measured = {(one.metric_type, one.metric_name): one for one in card.data.eval_results}
    skill = next(one for (kind, _), one in measured.items() if kind == "skill")
    assert skill.metric_value == round(report.skill.value, 4)
    assert skill.metric_args["p"] == round(report.skill.p, 4)
    assert f"Test accuracy {report.accuracy.value:.3f}" in card.text
    assert "rank 32, alpha 32, dropout 0.0, learning rate 0.001" in " ".join(card.text.split())
    assert text.endswith("\nMore.\n")
    assert model_card(result.report, config) == (result.output_dir / "adapter" / "README.md").read_text()
