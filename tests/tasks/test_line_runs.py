"""A run with `tuning.head: lines`, from records to answers: resumed, asked, loaded by PEFT alone, exported."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from scipy.special import logit

from nngpt_ext import Predictor, Query, RunResult, TaskConfig
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.evaluation.baselines import kind_prior, pair_prior
from nngpt_ext.export.adapter_folder import export_hub
from nngpt_ext.export.harness import export_harness
from nngpt_ext.host.node import make_dataset_compare_node
from nngpt_ext.host.tuner import HostTuning, tune_host
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.predict.adapter import AdapterFiles
from nngpt_ext.prompts.builtin import NAMES, get_template
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.run_folder import read_config, record_adapter
from nngpt_ext.scoring.predictions import questions_of
from nngpt_ext.settings import build_config
from nngpt_ext.tasks.pipeline import Loader, run_pipeline
from nngpt_ext.tuning import trainer
from tests import models_made
from tests.predict.conftest import older
from tests.tasks.conftest import line

TASK = {
    "prompt": "recipe",
    "model": {"base": "embedded"},
    "data": {"train_networks": 8, "validation_networks": 6, "test_networks": 5, "code_tokens": 48},
    "tuning": {"epochs": 2, "learning_rate": 2e-3, "examples_per_step": 16, "head": "lines", "offset": "pair_prior"},
}
RECIPE = {"lr": 0.01, "batch": 64, "momentum": 0.9, "dropout": None, "transform": "norm_32"}
CODE = models_made.sources()["AlexNet"]
LOADER = Loader()


def started(folder: Path, **changes: Any) -> RunResult:
    return run_pipeline(build_config(TaskConfig, TASK, changes), folder, resume=True, loader=LOADER)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """Do not change its folder."""
    return started(tmp_path_factory.mktemp("lines") / "run")


@pytest.fixture
def adapter(run: RunResult, tmp_path: Path) -> Path:
    """A copy of its adapter, to be changed."""
    assert run.adapter is not None
    return shutil.copytree(run.adapter, tmp_path / "adapter")


def test_no_answer_depends_on_the_order(run: RunResult) -> None:
    assert not run.predictions["flipped"].any()
    assert run.report.flip_rate == 0.0
    assert run.predictions["log_odds"].nunique() > len(run.predictions) / 2
    history = json.loads((run.output_dir / "checkpoints" / "history.json").read_text())
    n_pairs = len(LOADER.data(build_config(TaskConfig, TASK).resolved(Path()).data).training)
    assert [entry["examples"] for entry in history] == [n_pairs, n_pairs]
    assert json.loads((run.output_dir / "run.json").read_text())["training_pairs_seen"] == 2 * n_pairs


def test_killed_between_epochs_it_ends_as_without(
    run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    whole = trainer.EpochEnd.on_step_end

    def in_the_second_epoch(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> Any:
        if state.global_step > self.trainer.plan.epoch_ends[0]:
            raise Killed
        return whole(self, args, state, control, **rest)

    monkeypatch.setattr(trainer.EpochEnd, "on_step_end", in_the_second_epoch)
    with pytest.raises(Killed):
        started(tmp_path / "killed")
    monkeypatch.undo()
    assert len(list((tmp_path / "killed" / "checkpoints").glob("checkpoint-*"))) == 1
    resumed = started(tmp_path / "killed")
    assert resumed.predictions.equals(run.predictions)
    for name in ("adapter_model.safetensors", "prior.json", "task.json", "calibration.json"):
        assert (resumed.output_dir / "adapter" / name).read_bytes() == (run.output_dir / "adapter" / name).read_bytes()


@pytest.mark.parametrize("base", ["embedded", "made"])
def test_an_untrained_adapter_says_what_the_pair_prior_says(base: str, tmp_path: Path) -> None:
    place = "embedded" if base == "embedded" else str(models_made.folder("qwen2"))
    changes = {"model": {"base": place}, "tuning": {"learning_rate": 0.0, "epochs": 1}}
    found = started(tmp_path / "run", **changes).predictions
    data = LOADER.data(build_config(TaskConfig, TASK).resolved(Path()).data)
    assert np.array_equal(found["log_odds"], logit(pair_prior(data.part("train"), found)))


def test_with_the_kind_prior_a_source_says_the_kind(tmp_path: Path) -> None:
    changes = {"offset": "kind_prior", "learning_rate": 0.0, "epochs": 1}
    run = started(tmp_path / "run", tuning=changes)
    data = LOADER.data(build_config(TaskConfig, TASK).resolved(Path()).data)
    train, found = data.part("train"), run.predictions
    assert found["log_odds"].to_numpy() == pytest.approx(logit(kind_prior(train, found, data.kinds)), abs=1e-9)
    predictor = Predictor.from_run(run.output_dir)
    row = next(row for row in found.itertuples() if row.nn in data.kinds and row.split == "test")
    answer = predictor.compare(data.sources[row.nn], row.dataset_1, row.dataset_2, recipe=RECIPE)
    assert answer.log_odds == pytest.approx(row.log_odds, abs=1e-9)
    card = (export_hub(run.output_dir, tmp_path / "hub").folder / "README.md").read_text()
    assert "plus those of the kind prior, in `prior.json`, for the kind of network that\n`basis.json` tells." in card
    # A source that nobody knows has the kind of what it is most like, or none.
    nn = next(nn for nn in train["nn"] if nn in data.kinds)
    seen = json.loads((run.output_dir / "adapter" / "basis.json").read_text())
    assert seen["known"][nn] == data.kinds[nn]
    files = AdapterFiles(run.output_dir / "adapter")
    assert files.seen is not None
    assert files.seen.kind_of(data.sources[nn] + "\nmore = 1\n") == data.kinds[nn]
    assert files.seen.kind_of("x = 1\n") is None
    (run.output_dir / "adapter" / "basis.json").unlink()
    assert "basis.json" in line(lambda: AdapterFiles(run.output_dir / "adapter"))


def test_without_an_offset_scores_alone_answer(run: RunResult, tmp_path: Path) -> None:
    other = started(tmp_path / "run", tuning={"offset": "none", "epochs": 1})
    assert not (other.output_dir / "adapter" / "prior.json").exists()
    assert json.loads((other.output_dir / "adapter" / "task.json").read_text())["offset"] == "none"
    for _, rows in other.predictions.groupby("nn"):
        odds = {(a, b): o for a, b, o in zip(rows["dataset_1"], rows["dataset_2"], rows["log_odds"], strict=True)}
        triples = [(a, b, c) for (a, b), (x, c) in itertools.product(odds, odds) if b == x and (a, c) in odds]
        for a, b, c in triples:
            assert odds[a, b] + odds[b, c] == pytest.approx(odds[a, c], abs=1e-9)


def test_the_predictor_answers_as_the_run_did(run: RunResult, lemur_source: Any) -> None:
    sources = lemur_source.sources(sorted(run.predictions["nn"].unique()))
    pairs = LOADER.data(build_config(TaskConfig, TASK).resolved(Path()).data).pairs
    keys = ["nn", "dataset_1", "dataset_2"]
    asked = run.predictions[keys].merge(pairs, on=keys)
    queries = [
        Query(sources[row.nn], row.dataset_1, row.dataset_2, {row.dataset_1: row.recipe_1, row.dataset_2: row.recipe_2})
        for row in asked.itertuples()
    ]
    answers = list(Predictor.from_run(run.output_dir).compare_many(queries))
    assert np.abs(np.array([c.log_odds for c in answers]) - run.predictions["log_odds"]).max() < 1e-4
    assert not any(c.flipped for c in answers)


def test_a_ranking_is_its_comparisons_and_swapping_changes_nothing(run: RunResult) -> None:
    predictor = Predictor.from_run(run.output_dir)
    ranking = predictor.rank(CODE, recipe=RECIPE)
    assert len(ranking.comparisons) == 21
    assert ranking.comparisons[0].model == predictor.model
    for one in ranking.comparisons:
        alone = predictor.compare(CODE, one.dataset_1, one.dataset_2, recipe=RECIPE)
        turned = predictor.compare(CODE, one.dataset_2, one.dataset_1, recipe=RECIPE)
        assert alone.log_odds == -turned.log_odds
        assert alone.log_odds == pytest.approx(one.log_odds, abs=1e-4)
        assert (alone.winner, alone.flipped) == (one.winner, False)


def test_the_store_has_the_answers_of_the_run(run: RunResult) -> None:
    store = f"sqlite:///{run.output_dir / 'predictions.db'}"
    first = run.predictions.iloc[0]
    data = LOADER.data(build_config(TaskConfig, TASK).resolved(Path()).data)
    row = data.pairs.merge(run.predictions.head(1)[["nn", "dataset_1", "dataset_2"]]).iloc[0]

    class Never:
        def log_odds(self, *_: Any, **__: Any) -> np.ndarray:
            raise AssertionError("the store has it")

    predictor = Predictor(run.output_dir / "adapter", store=store, scorer=Never())
    recipe = {row.dataset_1: row.recipe_1, row.dataset_2: row.recipe_2}
    answer = predictor.compare(data.sources[row.nn], row.dataset_1, row.dataset_2, recipe=recipe)
    assert answer.log_odds == first["log_odds"]


def test_the_adapter_is_plain_peft(run: RunResult) -> None:
    """Loaded without any of our code, as transformers' class for sequence classification with one label."""
    from peft import AutoPeftModelForSequenceClassification, PeftModel
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, BitsAndBytesConfig

    assert run.adapter is not None
    tokenizer = AutoTokenizer.from_pretrained(run.adapter)
    template = get_template("recipe").lines
    assert template is not None
    data = LOADER.data(build_config(TaskConfig, TASK).resolved(Path()).data)
    renderer = Renderer(template, tokenizer, code_tokens=48, facts=LEMUR_FACTS)
    nf4 = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True)
    base = AutoModelForSequenceClassification.from_pretrained(
        EMBEDDED, num_labels=1, dtype=torch.float32, quantization_config=nf4
    )
    for layer in base.modules():  # where a CPU has AVX512-BF16, bitsandbytes multiplies in bf16 unless told not to
        layer.support_avx512bf16_for_cpu = False
    model: Any = PeftModel.from_pretrained(base, str(run.adapter)).eval()
    auto: Any = AutoPeftModelForSequenceClassification.from_pretrained(str(run.adapter), num_labels=1)
    assert torch.equal(auto.base_model.model.score.weight, model.base_model.model.score.weight.to(auto.dtype))
    prior = json.loads((run.adapter / "prior.json").read_text())["log_odds"]
    keys = ["nn", "dataset_1", "dataset_2"]
    asked = data.pairs.merge(run.predictions.head(4)[keys], on=keys)
    for question in questions_of(asked):
        code = renderer.code(data.sources[question.nn]).text
        scores = []
        for text in renderer.line_texts(question, code):
            ids = torch.tensor([tokenizer(text, add_special_tokens=False)["input_ids"]])
            with torch.no_grad():
                scores.append(model(input_ids=ids).logits.item())
        odds = scores[0] - scores[1] + prior[question.dataset_1][question.dataset_2]
        row = run.predictions.set_index(keys).loc[(question.nn, question.dataset_1, question.dataset_2)]
        assert odds == pytest.approx(row["log_odds"], abs=1e-4)


def test_the_prior_is_a_part_of_the_adapter(adapter: Path) -> None:
    before = AdapterFiles(adapter)
    file = adapter / "prior.json"
    content = json.loads(file.read_text())
    content["log_odds"]["mnist"]["svhn"] += 1.0
    file.write_text(json.dumps(content))
    advice = "fetch or train the adapter again"
    assert line(AdapterFiles, adapter) == f"'{file}' was changed or damaged after it was written; {advice}"
    older(adapter)  # without hashes: it is another adapter
    assert AdapterFiles(adapter).hash != before.hash
    file.unlink()
    assert "it has no prior.json; run the task again" in line(AdapterFiles, adapter)


def test_a_removed_prior_is_missed(adapter: Path) -> None:
    file = adapter / "prior.json"
    file.unlink()
    assert line(AdapterFiles, adapter) == (f"'{file}' is missing or cannot be read; fetch or train the adapter again")


def test_a_head_that_is_missing_from_the_weights_is_found(adapter: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(adapter / "adapter_model.safetensors")
    del weights["base_model.model.score.weight"]
    save_file(weights, adapter / "adapter_model.safetensors")
    record_adapter(adapter)
    told = line(lambda: Predictor(adapter).compare(CODE, "mnist", "svhn", recipe=RECIPE))
    assert told == (
        f"the adapter in '{adapter}' is damaged (KeyError: 'base_model.model.score.weight'); fetch or train it again"
    )


def test_report_and_card_say_the_head(run: RunResult) -> None:
    note = (
        "The adapter scores each dataset's line alone (tuning.head lines): log-odds are the difference of two scores "
        "plus the log-odds of the pair prior (tuning.offset), so the order of the datasets never matters."
    )
    assert note in run.report.notes
    assert "| head | lines |" in (run.output_dir / "report.md").read_text()
    card = (run.output_dir / "adapter" / "README.md").read_text()
    assert "prompt `recipe`, head `lines`" in card
    assert note in card


def test_the_published_adapter_answers_as_the_run_does(run: RunResult, tmp_path: Path) -> None:
    folder = export_hub(run.output_dir, tmp_path / "hub").folder
    ours, theirs = Predictor.from_run(run.output_dir), Predictor.from_pretrained(folder)
    assert ours.rank(CODE, recipe=RECIPE) == theirs.rank(CODE, recipe=RECIPE)
    card = (folder / "README.md").read_text()
    assert 'base = AutoModelForSequenceClassification.from_pretrained(f"{folder}/base", num_labels=1)\n' in card
    assert "plus those of the pair prior, in `prior.json`" in card


def test_lm_eval_is_refused(run: RunResult, tmp_path: Path) -> None:
    told = line(export_harness, run.output_dir, tmp_path / "out")
    assert told == (
        f"the run in '{run.output_dir}' scores each dataset's line (tuning.head lines), and lm_eval compares answers; "
        "export a run with tuning.head=answer"
    )
    assert not (tmp_path / "out").exists()


def test_the_hosts_tuner_is_refused(tmp_path: Path) -> None:
    from tests.host.test_installation import made

    made(tmp_path, "TuneNNGen")
    preset = tmp_path / "preset.json"
    preset.write_text(json.dumps({"base_model_name": str(EMBEDDED)}))
    asked = HostTuning(str(preset), out=tmp_path / "out", host=tmp_path, settings=["tuning.head=lines"])
    assert line(tune_host, asked) == (
        "NNGPT's tuner trains on answers and has no scoring head for tuning.head=lines; set tuning.head=answer"
    )


def test_the_graphs_node_answers(run: RunResult) -> None:
    predictor = Predictor.from_run(run.output_dir)
    found = make_dataset_compare_node(predictor)({"nn_code": CODE, "recipe": RECIPE})
    assert found["dataset_compare_error"] is None
    assert found["dataset_ranking"] == list(predictor.rank(CODE, recipe=RECIPE).datasets)


def test_a_prompt_without_lines_is_refused(tmp_path: Path) -> None:
    told = line(lambda: started(tmp_path / "run", prompt="code_only"))
    having = ", ".join(name for name in NAMES if get_template(name).lines)
    assert "recipe" in having
    assert told == (
        "prompt 'code_only' has no lines, one for each dataset, which tuning.head=lines scores; use a prompt with "
        f"lines ({having}), or set tuning.head=answer"
    )
    assert not (tmp_path / "run").exists()


def test_a_finished_run_of_an_older_version_is_still_its_own(run: RunResult, tmp_path: Path) -> None:
    """It had no `tuning.head`, which then was `answer`; with lines it is another configuration."""
    folder = shutil.copytree(run.output_dir, tmp_path / "run")
    older(folder)
    config = read_config(folder / "config.yaml")
    assert config["tuning"]["head"] == "lines"
    told = line(lambda: started(folder, tuning={"head": "answer", "offset": "none"}))
    assert "tuning.head lines there, answer now" in told
    for key in ("head", "offset"):
        del config["tuning"][key]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    assert "tuning.head answer there, lines now" in line(lambda: started(folder))
