"""The part of a run that needs torch: examples, predictions, the fine-tuner's call, the adapter's notes."""

import json
import shutil

import numpy as np
import pytest
import torch

from nngpt_ext import TaskConfig, register_finetuner
from nngpt_ext.io import text_digest
from nngpt_ext.models.base import adapted
from nngpt_ext.registry import finetuners
from nngpt_ext.scoring.scorer import LocalScorer
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.pipeline import find_template
from nngpt_ext.tasks.workbench import Workbench, calibrated
from tests.tasks.conftest import LOADER, TASK, resume


@pytest.fixture(scope="module")
def bench(result):
    config = build_config(TaskConfig, TASK).resolved(result.output_dir)
    return Workbench(config, find_template("recipe"), LOADER.base(config.model), LOADER.data(config.data))


def test_every_pair_trains_in_both_orders_on_the_same_answer(bench):
    examples = [example for group in bench.training for example in group]
    assert len(bench.training) == 3
    assert len(examples) == 2 * len(bench.data.training)
    for one, other in zip(examples[::2], examples[1::2], strict=True):
        assert one.answers[0].tolist() == other.answers[0].tolist()
        assert one.prompt.tolist() != other.prompt.tolist()


def test_the_selected_epochs_predictions_are_those_of_the_run(bench, result):
    predictions, epochs, selected = bench.score(result.output_dir)
    assert selected == 1
    assert [entry["epoch"] for entry in epochs] == [1]
    assert predictions["log_odds"].tolist() == result.predictions["log_odds"].tolist()
    assert bench.encoder.cut_networks()  # 32 tokens hold no source whole


def test_a_part_is_tokenised_once(bench, result, monkeypatch):
    with adapted(bench.base, result.adapter) as model:
        first = bench.predict(model, "train", 1)
        monkeypatch.setattr(bench.encoder, "encode", None)
        assert bench.predict(model, "train", 1).equals(first)


def test_predictions_carry_what_makes_their_questions(bench, result):
    found = bench.with_questions(result.predictions[["nn", "dataset_1", "dataset_2"]])
    row = found.iloc[0]
    assert row["source"] == text_digest(bench.data.sources[row["nn"]])
    assert found["prompt_sha256"].nunique() == len(found)
    assert row["given_1"].startswith("lr ")


def test_calibration_is_fitted_on_validation(bench, result, run):
    test = result.predictions["split"] == "test"
    fitted = calibrated(result.predictions, run / "adapter", 0.95)
    other = result.predictions.assign(log_odds=np.where(test, 7.0, result.predictions["log_odds"]))
    assert calibrated(other, run / "adapter", 0.95)["calibrated_1"][~test].equals(fitted["calibrated_1"][~test])
    assert "calibrated_1" not in calibrated(result.predictions[test].iloc[:, :15], run / "adapter", 0.95)


def test_a_finetuner_is_given_the_whole_decided_configuration(bench, result, monkeypatch):
    given = []

    def kept(base, examples, validation, config, output_dir):
        given.append(config)
        assert validation.score(base.model).keys() >= {"accuracy", "log_loss", "prior_accuracy", "prior_log_loss"}
        return output_dir / "adapter"

    monkeypatch.setattr(finetuners, "_items", {"qlora": kept})
    assert bench.tune(result.output_dir) == result.adapter
    tuning = given[0].tuning
    decided = (tuning.engine, tuning.row_tokens, tuning.gradient_checkpointing)  # any card has room for this base
    assert decided == ("shared", 8192 if torch.cuda.is_available() else 2048, False)
    assert given[0].model_copy(update={"tuning": bench.config.tuning}) == bench.config


@pytest.mark.parametrize("recomputed", [True, False])
def test_the_engine_is_tried_with_activations_kept_or_recomputed_as_in_training(bench, recomputed, monkeypatch):
    tried = []

    def seen(self, group, training=False):
        tried.append((training, self.base.model.is_gradient_checkpointing))
        return checked(self, group, training)

    checked = LocalScorer.check_engine
    monkeypatch.setattr(LocalScorer, "check_engine", seen)
    tuning = bench.config.tuning.model_copy(update={"gradient_checkpointing": recomputed})
    made = Workbench(
        bench.config.model_copy(update={"tuning": tuning}), bench.template, bench.base, LOADER.data(bench.config.data)
    )
    assert tried == [(True, recomputed)]
    assert made.engine == "shared"
    assert not bench.base.model.is_gradient_checkpointing


def test_the_number_of_threads_is_recorded_and_put_back(result):
    assert json.loads((result.output_dir / "run.json").read_text())["threads"] == 1
    (epoch,) = json.loads((result.output_dir / "checkpoints" / "history.json").read_text())
    assert epoch["threads"] == 1


def test_a_finetuner_may_keep_its_adapter_elsewhere(result, tmp_path, monkeypatch):
    """One that keeps no history and knows nothing of notes: its adapter is asked all the same."""

    def elsewhere(base, examples, validation, config, output_dir):
        made = tmp_path / "made"
        made.mkdir(exist_ok=True)
        for name in ("adapter_config.json", "adapter_model.safetensors"):
            shutil.copy(result.output_dir / "adapter" / name, made / name)
        return made

    monkeypatch.setattr(finetuners, "_items", dict(finetuners._items))
    register_finetuner("elsewhere")(elsewhere)
    config = {"tuning": {**TASK["tuning"], "finetuner": "elsewhere"}}
    found = resume(tmp_path / "run", **config)
    assert found.report.selected_epoch is None
    assert found.adapter == tmp_path / "run" / "adapter"
    same = found.predictions["log_odds"].to_numpy() - result.predictions["log_odds"].to_numpy()
    assert abs(same).max() < 1e-5
