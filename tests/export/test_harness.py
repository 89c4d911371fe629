"""The exported task asks lm-evaluation-harness what we ask, token by token; run by it, it gives our answers."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from tokenizers import pre_tokenizers

from nngpt_ext import RunResult, UserError, run_task
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.export import harness
from nngpt_ext.export.harness import ExportedTask, export_harness
from nngpt_ext.export.publication import read_run
from nngpt_ext.models.base import adapted, load_base
from nngpt_ext.predict.adapter import load_scorer
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.scoring.predictions import pair_log_odds, questions_of
from tests import models_made
from tests.export.conftest import tree
from tests.predict.conftest import SMALL


@pytest.fixture(scope="module")
def exported(run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> ExportedTask:
    """Do not change it."""
    return export_harness(run.output_dir, tmp_path_factory.mktemp("harness") / "task")


@pytest.fixture(scope="module")
def asked(exported: ExportedTask) -> pd.DataFrame:
    """The questions."""
    return pd.read_parquet(exported.folder / "questions.parquet")


def ours(run: Path, networks: int) -> tuple[pd.DataFrame, np.ndarray]:
    """The test pairs, and our log-odds of dataset_1 in both orders, by the predictor's own way."""
    found = read_run(run)
    pairs, sources = harness.tested_pairs(found, networks)
    return pairs, load_scorer(found.adapter, "embedded", LEMUR_FACTS).log_odds(questions_of(pairs), sources)


def test_the_test_pairs_in_both_orders(run: RunResult, exported: ExportedTask, asked: pd.DataFrame) -> None:
    test = run.predictions[run.predictions["split"] == "test"]
    assert (exported.pairs, exported.networks) == (len(test), test["nn"].nunique())
    assert len(asked) == 2 * len(test)
    straight, turned = asked[~asked["turned"]], asked[asked["turned"]]
    keys = ["nn", "dataset_1", "dataset_2"]
    for rows in (straight, turned):
        same = rows[[*keys, "better_dataset", "log_odds"]].merge(test, on=keys, suffixes=("", "_run"))
        assert len(same) == len(test)
        assert (same["better_dataset"] == same["better_dataset_run"]).all()
        assert (same["log_odds"] == same["log_odds_run"]).all()
    for row in asked.to_dict("records"):
        names = (row["dataset_2"], row["dataset_1"]) if row["turned"] else (row["dataset_1"], row["dataset_2"])
        assert [choice.removesuffix("<|end|>") for choice in row["choices"]] == list(names)
        assert names[row["label"]] == row["better_dataset"]
        assert row["text"].index(names[0]) < row["text"].rindex(names[1])


def test_read_in_one_text_the_tokens_are_those_that_we_score(run: RunResult, asked: pd.DataFrame) -> None:
    found = read_run(run.output_dir)
    pairs, sources = harness.tested_pairs(found, None)
    encoded = load_scorer(found.adapter, "embedded", LEMUR_FACTS).encode(questions_of(pairs), sources)
    known = asked.set_index(["pair", "turned"])
    tokenizer = load_base("embedded").tokenizer
    seen = 0
    for rows, group in zip(encoded.rows, encoded.groups, strict=True):
        for n, one in enumerate(group):
            row = known.loc[(rows[n % len(rows)], n >= len(rows))]
            for choice, option in zip(row["choices"], one.answers, strict=True):
                assert tokenizer(row["text"] + choice)["input_ids"] == [*one.prompt.tolist(), *option.tolist()]
                seen += 1
    assert seen == 2 * len(asked)


def test_the_base_written_out_scores_as_in_4_bits(run: RunResult, exported: ExportedTask) -> None:
    pairs, expected = ours(run.output_dir, exported.networks)
    found = read_run(run.output_dir)
    _, sources = harness.tested_pairs(found, None)
    encoded = load_scorer(found.adapter, "embedded", LEMUR_FACTS).encode(questions_of(pairs), sources)
    written = load_base(exported.model_args["pretrained"], load_in_4bit=False)
    with adapted(written, Path(exported.model_args["peft"])) as model:
        scored = pair_log_odds(model, encoded, row_tokens=2048, engine="plain")
    np.testing.assert_allclose(scored, expected, atol=2e-5)
    plain = load_base("embedded", load_in_4bit=False)  # a base that is not the run's would be seen
    with adapted(plain, Path(exported.model_args["peft"])) as model:
        assert np.abs(pair_log_odds(model, encoded, row_tokens=2048, engine="plain") - expected).max() > 1e-3


def test_functions_of_the_task(exported: ExportedTask, asked: pd.DataFrame) -> None:
    names: dict[str, Any] = {"__file__": str(exported.folder / "questions.py")}
    exec((exported.folder / "questions.py").read_text(), names)
    assert names["load"](version=1.0)["test"].num_rows == len(asked)
    for order in ("straight", "turned"):
        docs = names["load"](order=order)["test"]
        assert set(docs["turned"]) == {order == "turned"}
        assert docs.num_rows == len(asked) // 2


def test_fewer_networks_and_no_base(run: RunResult, tmp_path: Path) -> None:
    done = export_harness(run.output_dir, tmp_path / "task", networks=2, with_base=False)
    assert done.networks == 2
    assert pd.read_parquet(done.folder / "questions.parquet")["nn"].nunique() == 2
    assert not (done.folder / "base").exists()
    assert Path(done.model_args["pretrained"]).name == "embedded"


def test_the_same_run_gives_the_same_task(run: RunResult, exported: ExportedTask, tmp_path: Path) -> None:
    again = export_harness(run.output_dir, tmp_path / "task")
    assert tree(again.folder) == tree(exported.folder)  # the README too: it names no folder of this machine


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda record: record.update(split_hash="0"), "the LEMUR records here are not those"),
        (lambda record: record["data"].update(fingerprint="0"), "the LEMUR records here are not those"),
        (lambda record: record.pop("split_hash"), "it has no split_hash"),
    ],
)
def test_what_cannot_be_exported_leaves_nothing(copied: Path, tmp_path: Path, change: Any, reason: str) -> None:
    record = json.loads((copied / "run.json").read_text())
    change(record)
    (copied / "run.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=reason):
        export_harness(copied, tmp_path / "task")
    assert [path.name for path in tmp_path.iterdir()] == ["copied"]


def test_a_tokenizer_that_joins_text_and_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from nngpt_ext.batches.encode import Encoder
    from nngpt_ext.prompts.fields import Question

    words = copy.deepcopy(models_made.pieces_tokenizer())
    question = Question.of("AlexNet", "mnist", "svhn", 5)
    for prefix_space, told in ((False, False), (True, True)):  # as SentencePiece's: a text of its own begins with one
        words.backend_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix_space)
        renderer = Renderer(get_template("code_only"), words, code_tokens=20, facts=LEMUR_FACTS)
        encoder = Encoder(renderer, models_made.sources(), 2048)
        text = renderer.text(question, renderer.code(models_made.sources()["AlexNet"]).text)
        choices = [name + words.eos_token for name in ("mnist", "svhn")]
        if told:
            with pytest.raises(UserError, match="the base's tokenizer joins the end of a question"):
                harness._check(encoder, question, text, choices)
        else:
            harness._check(encoder, question, text, choices)


def test_yaml_holds_what_the_harness_knows(exported: ExportedTask) -> None:
    class Loader(yaml.SafeLoader):
        pass

    Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))
    for order in ("", "_straight", "_turned"):
        config = yaml.load((exported.folder / f"{exported.task}{order}.yaml").read_text(), Loader)
        assert config["task"] == exported.task + order
        assert config["output_type"] == "multiple_choice"
        assert config["target_delimiter"] == ""
        assert {one["metric"] for one in config["metric_list"]} == ({"acc"} if order else {"acc", "acc_pairs"})


@pytest.fixture(scope="module")
def twenty(tmp_path_factory: pytest.TempPathFactory) -> RunResult:
    """A run with twenty test networks."""
    config = {**SMALL, "data": {**SMALL["data"], "test_networks": 20}}
    return run_task("dataset_compare", config, output_dir=tmp_path_factory.mktemp("twenty") / "run")


@pytest.mark.slow
def test_the_command_gives_our_answers_one_by_one(twenty: RunResult, tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    done = export_harness(twenty.output_dir, tmp_path / "task")
    assert done.networks == 20
    command = done.command(here=True).split()
    command[0] = str(Path(sys.executable).with_name("lm_eval"))
    command[command.index("--tasks") + 1] = f"{done.task},{done.task}_straight,{done.task}_turned"
    more = ["--log_samples", "--output_path", str(tmp_path / "results")]
    where = {"HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    ran = subprocess.run(
        command + more, cwd=done.folder, env=os.environ | where, capture_output=True, text=True, timeout=900
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    pairs, expected = ours(twenty.output_dir, 20)
    right = (pairs["better_dataset"] == pairs["dataset_1"]).to_numpy()
    (results,) = (tmp_path / "results").rglob("results_*.json")
    figures = json.loads(results.read_text())["results"]
    for i, order in enumerate(("straight", "turned")):
        (samples,) = (tmp_path / "results").rglob(f"samples_{done.task}_{order}_*.jsonl")
        found = np.full(len(pairs), np.nan)
        for line in samples.read_text().splitlines():
            sample = json.loads(line)
            first, second = (float(answer[0]) for answer in sample["filtered_resps"])
            found[sample["doc"]["pair"]] = (second - first) if i else (first - second)
        np.testing.assert_allclose(found, expected[:, i], atol=1e-4)
        assert ((found >= 0) == (expected[:, i] >= 0)).all()
        assert figures[f"{done.task}_{order}"]["acc,none"] == pytest.approx(((expected[:, i] >= 0) == right).mean())
    test = twenty.predictions[twenty.predictions["split"] == "test"]
    assert figures[done.task]["acc_pairs,none"] == pytest.approx(test["correct"].mean())
    assert twenty.report.accuracy.value == pytest.approx(test["correct"].mean())
