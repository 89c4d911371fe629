"""The fine-tuner on real pairs, real NF4, real PEFT and TRL, with the embedded base model."""

import math
import os
from dataclasses import replace

import numpy as np
import pytest

from nngpt_ext import run_task

SMALL = {
    "prompt": "code_only",
    "model": {"base": "embedded"},
    "data": {"train_networks": 8, "validation_networks": 3, "test_networks": 4, "code_tokens": 96},
    "tuning": {"epochs": 2, "learning_rate": 2e-3, "examples_per_step": 16},
}


def small(**changes):
    """The small configuration with some stages changed key by key."""
    return {key: {**kept, **changes.get(key, {})} if isinstance(kept, dict) else kept for key, kept in SMALL.items()}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return run_task("dataset_compare", SMALL, output_dir=tmp_path_factory.mktemp("runs") / "a")


def test_run_folder_holds_what_the_design_lists(run):
    names = {file.name for file in run.output_dir.iterdir()}
    assert {
        "config.yaml", "run.json", "adapter", "checkpoints", "predictions.parquet", "report.json", "report.md",
        "report.html", "predictions.db",
    } <= names  # fmt: skip
    adapter = {file.name for file in (run.output_dir / "adapter").iterdir()}
    assert {"adapter_config.json", "adapter_model.safetensors", "tokenizer.json", "README.md"} <= adapter


def test_the_environment_is_never_emptied(tmp_path, monkeypatch):
    """A thread that reads a variable at that moment would end the process."""
    removed = []
    kept = type(os.environ).__delitem__
    monkeypatch.setattr(type(os.environ), "__delitem__", lambda self, key: (removed.append(key), kept(self, key)))
    run_task("dataset_compare", small(tuning={"epochs": 1}), output_dir=tmp_path / "run")
    assert "PATH" not in removed


def test_every_epoch_has_a_checkpoint_and_figures(run):
    assert len(list((run.output_dir / "checkpoints").glob("checkpoint-*"))) == 2
    assert [epoch.epoch for epoch in run.report.epochs] == [1, 2]
    for epoch in run.report.epochs:
        assert epoch.train_loss > 0
        assert 0 <= epoch.validation_accuracy <= 1
        assert 0 <= epoch.test_accuracy <= 1
    best = max(run.report.epochs, key=lambda e: e.validation_accuracy)
    assert run.report.epochs[run.report.selected_epoch - 1].validation_accuracy == best.validation_accuracy


def test_same_seed_same_predictions_to_the_byte(run, tmp_path):
    again = run_task("dataset_compare", SMALL, output_dir=tmp_path / "b")
    first = (run.output_dir / "predictions.parquet").read_bytes()
    assert (again.output_dir / "predictions.parquet").read_bytes() == first


def test_a_killed_run_goes_on_to_the_same_predictions(run, tmp_path, monkeypatch):
    from nngpt_ext.tuning import trainer

    class Killed(BaseException):
        pass

    whole = trainer.EpochEnd.on_step_end

    def killed_in_the_second_epoch(self, args, state, control, **rest):
        if state.global_step > self.trainer.plan.epoch_ends[0]:
            raise Killed
        return whole(self, args, state, control, **rest)

    monkeypatch.setattr(trainer.EpochEnd, "on_step_end", killed_in_the_second_epoch)
    with pytest.raises(Killed):
        run_task("dataset_compare", SMALL, output_dir=tmp_path / "c")
    monkeypatch.undo()
    result = run_task("dataset_compare", SMALL, output_dir=tmp_path / "c", resume=True)
    assert result.predictions.equals(run.predictions)
    a, b = ((d / "adapter" / "adapter_model.safetensors").read_bytes() for d in (run.output_dir, result.output_dir))
    assert a == b


def test_the_adapter_is_plain_peft(run):
    """Load it without any of our scoring code and compute the log-odds by hand."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    from nngpt_ext.data.facts import LEMUR_FACTS
    from nngpt_ext.data.sources.discovery import open_source
    from nngpt_ext.models.presets import EMBEDDED
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.prompts.fields import Question
    from nngpt_ext.prompts.render import Renderer

    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForCausalLM.from_pretrained(EMBEDDED, quantization_config=nf4, dtype=torch.float32)
    for layer in base.modules():  # where a CPU has AVX512-BF16, bitsandbytes multiplies in bf16 unless told not to
        layer.support_avx512bf16_for_cpu = False
    model = PeftModel.from_pretrained(base, run.output_dir / "adapter").eval()
    tokenizer = AutoTokenizer.from_pretrained(run.output_dir / "adapter")
    renderer = Renderer(get_template("code_only"), tokenizer, code_tokens=96, facts=LEMUR_FACTS)
    for row in run.predictions.head(3).itertuples():
        code = renderer.code(open_source().sources([row.nn])[row.nn]).text
        question = Question.of(row.nn, row.dataset_1, row.dataset_2, row.epoch)

        def score(text, answer):
            prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
            ids = tokenizer(answer, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
            with torch.no_grad():
                logs = torch.log_softmax(model(torch.tensor([prompt + ids])).logits[0].double(), -1)
            return sum(logs[len(prompt) + i - 1, token].item() for i, token in enumerate(ids))

        texts = [renderer.text(q, code) for q in (question, question.turned())]
        odds = np.mean([score(text, row.dataset_1) - score(text, row.dataset_2) for text in texts])
        assert math.log(row.probability_1 / (1 - row.probability_1)) == pytest.approx(odds, abs=1e-4)


def test_learning_rate_zero_leaves_the_scores_of_the_base(run, tmp_path):
    still = run_task(
        "dataset_compare", small(tuning={"learning_rate": 0.0, "epochs": 1}), output_dir=tmp_path / "still"
    )
    base = _base_probabilities(still)
    assert np.allclose(still.predictions["probability_1"], base, atol=1e-9)
    assert not np.allclose(run.predictions["probability_1"], base, atol=1e-3)


def _base_probabilities(result):
    from nngpt_ext.config import TaskConfig
    from nngpt_ext.models.base import load_base
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.settings import build_config
    from nngpt_ext.tasks.pipeline import Loader
    from nngpt_ext.tasks.workbench import Workbench

    config = build_config(TaskConfig, SMALL).resolved(result.output_dir).decided()
    data, base = Loader().data(config.data), load_base("embedded")
    bench = Workbench(config, get_template("code_only"), base, data)
    parts = [bench.predict(base.model, part, 0) for part in ("validation", "test")]
    return np.concatenate([part["probability_1"] for part in parts])


def test_an_adapter_belongs_to_its_base(run, tmp_path):
    from nngpt_ext.errors import UserError
    from nngpt_ext.models.base import check_base, load_base

    base = load_base("embedded")
    check_base(run.output_dir / "adapter", base)
    with pytest.raises(UserError, match="was trained on 'embedded'"):
        check_base(run.output_dir / "adapter", replace(base, name="other", sha256="0" * 64))


@pytest.mark.slow
def test_it_learns_eight_networks_by_heart(tmp_path):
    from nngpt_ext.tuning.history import read_history

    config = small(
        data={"code_tokens": 512},  # near-duplicates begin alike
        tuning={"epochs": 30, "learning_rate": 3e-3, "test_every_epoch": False},
    )
    result = run_task("dataset_compare", config, output_dir=tmp_path / "heart")
    history = read_history(result.output_dir)
    assert _training_accuracy(config, result, history[-1]["checkpoint"]) >= 0.95


def _training_accuracy(config, result, checkpoint):
    from nngpt_ext.config import TaskConfig
    from nngpt_ext.models.base import adapted, load_base
    from nngpt_ext.prompts.builtin import get_template
    from nngpt_ext.settings import build_config
    from nngpt_ext.tasks.pipeline import Loader
    from nngpt_ext.tasks.workbench import Workbench

    built = build_config(TaskConfig, config).resolved(result.output_dir).decided()
    data, base = Loader().data(built.data), load_base("embedded")
    bench = Workbench(built, get_template("code_only"), base, data)
    with adapted(base, result.output_dir / "checkpoints" / checkpoint) as model:
        return bench.predict(model, "train", 0)["correct"].mean()
