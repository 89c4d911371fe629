"""The host's own functions, run on what we give it: its loader, its chat template, its evaluation, its parser."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.host import probe, work
from nngpt_ext.host.answers import TRICKY, parse_answer
from nngpt_ext.host.conf import enable, prompt_file
from nngpt_ext.host.export import export_pairs
from nngpt_ext.host.layout import Host
from nngpt_ext.host.prompts import CHAT_TEMPLATE, TEMPLATE_FILE
from nngpt_ext.host.results import import_outputs
from nngpt_ext.host.root import CONF, bare_root, run_in, said
from nngpt_ext.host.status import host_status, probed
from nngpt_ext.models.base import load_base
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.scoring.predictions import questions_of
from tests.models_made import one_thread

__all__ = ["one_thread"]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.mark.parametrize(
    "prompt",
    ["code_only", *(pytest.param(name, marks=pytest.mark.slow) for name in ("metadata", "normalized_accuracy"))],
)
def test_its_loader_renders_rows_from_the_written_conf(prompt: str, host: Host, in_host: Run, tmp_path: Path) -> None:
    enable("dataset_compare", [prompt], base="embedded", folder=tmp_path / "nngpt")
    conf = tmp_path / "nngpt" / CONF
    arguments = [host.module("loader"), str(conf / "prompt" / "train" / prompt_file(prompt)), str(EMBEDDED),
                 str(conf / "chat_template" / TEMPLATE_FILE), "12"]  # fmt: skip
    out = tmp_path / "rows.parquet"
    found = said(in_host("-m", "nngpt_ext.host.work", "prompts", str(out), *arguments), work.MARK, "rendering")
    assert found["rows"] == 12
    template = get_template(prompt)
    names = set()
    for row in pd.read_parquet(out).itertuples():
        assert row.text.startswith(f"{template.system}\n\n{row.instruction}\n{row.response}")
        last = row.instruction.splitlines()[-2:]
        offered = last[1].rstrip("?").split(" or ") if prompt == "code_only" else [line.split(":")[0] for line in last]
        assert row.response in offered
        assert len(set(offered)) == 2
        assert "Missing: " not in row.instruction
        names |= set(offered)
    assert len(names) > 2


@pytest.mark.slow
def test_the_shipped_conf_gives_no_rows_where_it_defaults_to_one_dataset(
    host: Host, in_host: Run, tmp_path: Path
) -> None:
    present = {d["name"]: d["present"] for d in host_status(host.folder, run=False)["defects"]}
    file = host.conf / "prompt" / "train" / "NN_dataset_compare_code_based.json"
    (tmp_path / "template").write_text(CHAT_TEMPLATE)
    out = tmp_path / "rows.parquet"
    arguments = [str(out), host.module("loader"), str(file), str(EMBEDDED), str(tmp_path / "template"), "8"]
    found = said(in_host("-m", "nngpt_ext.host.work", "prompts", *arguments), work.MARK, "rendering")
    assert (found["rows"] == 0) == (present["default_dataset"] or present["default_prefixes"])


def test_its_evaluation_of_what_our_model_says_is_imported(host: Host, in_host: Run, tmp_path: Path) -> None:
    import torch

    base = load_base("embedded")
    data = load_pairs(DataConfig(source="package", train_networks=3, validation_networks=3, test_networks=4))
    renderer = Renderer(get_template("code_only"), base.tokenizer, code_tokens=64)
    pairs = data.part("test").groupby("nn").head(2).reset_index(drop=True)
    epoch = tmp_path / "nngpt" / "llm" / "epoch"
    for number, (question, answer) in enumerate(zip(questions_of(pairs), pairs["better_dataset"], strict=True)):
        text = renderer.text(question, renderer.code(data.sources[question.nn]).text)
        tokens = base.tokenizer(text, return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            made = base.model.generate(
                tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=6, do_sample=False
            )
        folder = epoch / "A0" / "synth_nn" / f"B{number}"
        folder.mkdir(parents=True)
        said_by_model = base.tokenizer.decode(made[0, tokens.shape[1] :], skip_special_tokens=True)
        (folder / "full_output.txt").write_text(said_by_model)
        # What the host's nn_gen leaves beside it: the row of its table, pickled.
        row = {
            "nn": question.nn,
            "dataset": question.dataset_1,
            "dataset_2": question.dataset_2,
            "better_dataset": answer,
        }
        pd.Series(row).to_pickle(folder / "dataframe.df")
    synth, out = epoch / "A0" / "synth_nn", tmp_path / "judged.parquet"
    arguments = [str(out), host.module("evaluation"), str(synth)]
    found = said(in_host("-m", "nngpt_ext.host.work", "evaluate", *arguments), work.MARK, "judging")
    assert found["rows"] == len(pairs)
    imported = import_outputs(tmp_path / "nngpt", out=tmp_path / "report", source="package")
    counts = imported["counts"]
    assert (counts["read"], counts["missing"], counts["unreadable_without_pickle"]) == (len(pairs), 0, 0)
    judged = pd.read_parquet(out)
    assert counts["accuracy_by_the_host"] == pytest.approx(judged["correct"].mean())
    assert imported["report"].accuracy.n == len(pairs)


def test_its_parser_against_ours(host: Host) -> None:
    found = probed(host, ("evaluation",))["answers"]
    assert found["outputs"] == len(TRICKY)
    wrong = {case["output"]: case for case in found["wrong"]}
    for case in TRICKY:
        host_one, host_two = wrong[case.output]["host"] if case.output in wrong else (case.answer, case.answer)
        ours = parse_answer(case.output, case.options)
        assert ours == case.answer
        if case.output not in wrong:
            assert host_one == host_two == ours
    # Where they differ, and why: docs/host.md has the table.
    assert "svhn rather than mnist" in found["order_decides"]
    assert {"CIFAR100", "Not mnist.", "fashion-mnist", "mnist or svhn"} <= set(wrong)
    assert len(wrong) >= 10


@pytest.mark.slow
def test_status(host: Host) -> None:
    found = host_status(host.folder)
    present = {d["name"]: d["present"] for d in found["defects"]}
    assert None not in present.values()
    assert "ds_coder_7b_instruct.json" in found["llm_presets"]
    assert found["tuner"]["importable"]["main"] is True
    for name in ("formulas_evaluated", "order_decides", "output_removed", "pickled_frames", "undeclared_dropped"):
        assert present[name] is True
    # The two differ in these: found in the code, not by the version.
    flat = found["layout"] == "flat"
    assert present["data_dir_dropped"] is flat
    assert present["own_options_refused"] is flat
    assert present["default_dataset"] is not flat


@pytest.mark.slow
def test_our_exported_pairs_in_its_own_preprocessing(host: Host, tmp_path: Path) -> None:
    words = load_base("embedded").tokenizer
    data = load_pairs(DataConfig(source="package", train_networks=3, validation_networks=2, test_networks=2))
    renderer = Renderer(get_template("code_only"), words, code_tokens=64)
    export_pairs(data, renderer, tmp_path)
    (tmp_path / "template").write_text(CHAT_TEMPLATE)
    script = f"""
import importlib, inspect, json
from transformers import AutoTokenizer
from nngpt_ext.host.launch import exported_loader
words = AutoTokenizer.from_pretrained({str(EMBEDDED)!r})
words.chat_template = open({str(tmp_path / "template")!r}).read()
loader = importlib.import_module({host.module("loader")!r}).NNGenPrompt
folder = {str(tmp_path)!r}
if "data_dir" in inspect.signature(loader).parameters:
    made = loader(2048, words, None, data_dir=folder)
else:
    made = exported_loader(importlib.import_module({host.module("prompt")!r}).Prompt)(folder, 2048, words, None)
rows = made.get_dataset(True, seed=1, max_prompts=20, max_new_tokens=64)
print({probe.MARK!r} + json.dumps([len(rows), words.decode(rows[0]["input_ids"])]))
"""
    with bare_root(host) as root:
        n, text = said(run_in(root, host, ["-c", script]), probe.MARK, "loading")
    assert n == 20
    assert text.startswith(get_template("code_only").system)
    assert text.rstrip().removesuffix(words.eos_token).endswith(tuple(data.training["better_dataset"].unique()))
