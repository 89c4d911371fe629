"""The host's own functions, run on what we give it: its loader, its chat template, its evaluation, its parser."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from benchmarks import host_workload
from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.host.conversion import CHAT_TEMPLATE, CHAT_TEMPLATE_FILE, export_pairs, prompt_file
from nngpt_ext.host.installation import CONF, Host
from nngpt_ext.host.integration import enable, host_status
from nngpt_ext.host.outputs import import_outputs
from nngpt_ext.host.parser import parse_answer
from nngpt_ext.host.process import MARK, bare_root, result_of, run_in
from nngpt_ext.models.base import load_base
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.scoring.predictions import questions_of
from tests.host.tricky import TRICKY
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
                 str(conf / "chat_template" / CHAT_TEMPLATE_FILE), "12"]  # fmt: skip
    out = tmp_path / "rows.parquet"
    found = result_of(in_host(host_workload.__file__, "host-prompts", str(out), *arguments), "rendering")
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
    file = host.conf / "prompt" / "train" / "NN_dataset_compare_code_based.json"
    (tmp_path / "template").write_text(CHAT_TEMPLATE)
    out = tmp_path / "rows.parquet"
    arguments = [str(out), host.module("loader"), str(file), str(EMBEDDED), str(tmp_path / "template"), "8"]
    found = result_of(in_host(host_workload.__file__, "host-prompts", *arguments), "rendering")
    assert (found["rows"] == 0) == (host.modules["main"] == "act.tune.Tune")


def test_its_evaluation_of_what_our_model_says_is_imported(host: Host, in_host: Run, tmp_path: Path) -> None:
    import torch

    base = load_base("embedded")
    data = load_pairs(DataConfig(source="package", train_networks=3, validation_networks=3, test_networks=4))
    renderer = Renderer(get_template("code_only"), base.tokenizer, code_tokens=64, facts=data.facts)
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
    folder = str(epoch / "A0" / "synth_nn")
    script = f"""
import importlib, json, pathlib
found = importlib.import_module({evaluation(host)!r}).evaluate_epoch(pathlib.Path({folder!r}))
print({MARK!r} + json.dumps([row["correct"] for row in found["results"]]))
"""
    judged = result_of(in_host("-c", script), "evaluating")
    assert len(judged) == len(pairs)
    imported = import_outputs(tmp_path / "nngpt", out=tmp_path / "report", source="package")
    counts = imported["counts"]
    assert (counts["read"], counts["missing"], counts["unreadable_without_pickle"]) == (len(pairs), 0, 0)
    assert counts["accuracy_by_the_host"] == pytest.approx(sum(judged) / len(judged))
    assert imported["report"].accuracy.n == len(pairs)


def evaluation(host: Host) -> str:
    """NNGPT's module of `evaluate_epoch`, which our package does not need: it reads the files that are left."""
    return f"ab.gpt.{'act.classification.Eval' if (host.folder / 'act').is_dir() else 'ClassificationEval'}"


def test_its_parser_against_ours(host: Host) -> None:
    """The counts and the table of docs/host.md: outputs that NNGPT reads differently, and how, in both orders."""
    script = f"""
import importlib, json
from tests.host.tricky import TRICKY
extract = importlib.import_module({evaluation(host)!r}).extract_answer
found = []
for case in TRICKY:
    text = case.output
    for marker in ("### Response:", "</think>"):  # as its evaluate_epoch does before
        text = text.split(marker, 1)[-1]
    found.append([extract(text.strip(), list(names)) for names in (case.options, case.options[::-1])])
print({MARK!r} + json.dumps(found))
"""
    with bare_root(host) as root:
        found = result_of(run_in(root, host, ["-c", script]), "parsing")
    assert all(parse_answer(case.output, case.options) == case.answer for case in TRICKY)
    different = [(case, both) for case, both in zip(TRICKY, found, strict=True) if both != [case.answer] * 2]
    depends = sum(one != two for one, two in found)
    page = (Path(__file__).parents[2] / "docs" / "host.md").read_text(encoding="utf-8")
    counts = f"Of the {len(TRICKY)} outputs in `tests/host/tricky.py`, NNGPT reads {len(different)} differently"
    assert f"{counts}, and in {depends} of them" in " ".join(page.split())
    rows = set()
    for case, (one, two) in different:
        theirs = one or "none" if one == two else f"{one or 'none'} or {two or 'none'}"
        output = case.output.replace("\n", "⏎")
        rows.add(f"| `{output}` | {case.why} | {case.answer or 'open'} | {theirs} |")
    table = page[page.index("| output |") : page.index("## Parity")].splitlines()
    assert len(shown := [line for line in table if line.startswith("| `")]) >= 3
    assert set(shown) <= rows


@pytest.mark.slow
def test_status_imports_its_tuner(host: Host) -> None:
    found = host_status(host.folder)["obstacles"]
    assert not [line for line in found if line.startswith(f"{host.module('main')} cannot be imported")]


@pytest.mark.slow
def test_our_exported_pairs_in_its_own_preprocessing(host: Host, tmp_path: Path) -> None:
    words = load_base("embedded").tokenizer
    data = load_pairs(DataConfig(source="package", train_networks=3, validation_networks=2, test_networks=2))
    renderer = Renderer(get_template("code_only"), words, code_tokens=64, facts=data.facts)
    export_pairs(data, renderer, tmp_path)
    (tmp_path / "template").write_text(CHAT_TEMPLATE)
    script = f"""
import importlib, inspect, json
from transformers import AutoTokenizer
from nngpt_ext.host.process import exported_loader
words = AutoTokenizer.from_pretrained({str(EMBEDDED)!r})
words.chat_template = open({str(tmp_path / "template")!r}).read()
loader = importlib.import_module({host.module("loader")!r}).NNGenPrompt
folder = {str(tmp_path)!r}
if "data_dir" in inspect.signature(loader).parameters:
    made = loader(2048, words, None, data_dir=folder)
else:
    made = exported_loader(importlib.import_module({host.module("prompt")!r}).Prompt)(folder, 2048, words, None)
rows = made.get_dataset(True, seed=1, max_prompts=20, max_new_tokens=64)
print({MARK!r} + json.dumps([len(rows), words.decode(rows[0]["input_ids"])]))
"""
    with bare_root(host) as root:
        n, text = result_of(run_in(root, host, ["-c", script]), "loading")
    assert n == 20
    assert text.startswith(get_template("code_only").system)
    assert text.rstrip().removesuffix(words.eos_token).endswith(tuple(data.training["better_dataset"].unique()))
