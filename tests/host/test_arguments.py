"""`tune_main`: every argument of NNGPT's main is mapped, or ignored with a reason."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host import tune_main
from nngpt_ext.host.arguments import IGNORED, JOINED, MAPPED, WARNED, Counts, map_arguments
from nngpt_ext.host.installation import Host
from nngpt_ext.host.integration import enable
from tests.host.test_installation import made


def test_every_argument_of_the_host(host: Host) -> None:
    known = {*MAPPED, *JOINED, *IGNORED}
    assert set(host.parameters("main")) <= known


def test_the_arguments_of_later_commits() -> None:
    given = {"suppress_thinking": True, "budget_tokens": 512, "llmatic": True, "llmatic_crossover_every": 3,
             "skip_lm_finetune": False}  # fmt: skip
    assert map_arguments(given) == ({}, {name: IGNORED[name] for name in given if name != "skip_lm_finetune"})


def installed(folder: Path, monkeypatch: pytest.MonkeyPatch, parameters: str) -> None:
    """Make a host whose main has these parameters the one that Python imports; `run_task` returns what it is given."""
    made(folder, "act__tune__Tune", act__tune__Tune=f"def main({parameters}): ...")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.chdir(folder)
    monkeypatch.setattr("nngpt_ext.tasks.run.run_task", lambda *given, **named: named)


def test_an_argument_that_only_the_installed_host_knows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed(tmp_path, monkeypatch, "llm_conf='x.json', brand_new=1")
    assert tune_main(brand_new=2, r=8) == {"resume": False, "model": {"lora": {"r": 8}}}
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "brand_new is ignored: this package does not know it; the installed NNGPT's main has it"
    ]
    with pytest.raises(UserError, match=r"unknown argument of NNGPT's main 'brand_ne'.*did you mean 'brand_new'"):
        tune_main(brand_ne=2)


def test_a_main_that_accepts_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    installed(tmp_path, monkeypatch, "llm_conf='x.json', **kwargs")
    assert tune_main(brand_new=2, learning_rat=1, r=8) == {"resume": False, "model": {"lora": {"r": 8}}}
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "brand_new is ignored: this package does not know it; the installed NNGPT's main accepts any name",
        "learning_rat is ignored: this package does not know it (did you mean 'learning_rate'?); the installed NNGPT's "
        "main accepts any name",
    ]


@pytest.mark.parametrize("source", ["class main: ...", "async def main(brand_new): ...", "-" * 50_000])
def test_a_main_of_another_kind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str) -> None:
    """A host whose main cannot be read is as good as none; one that is `async` has parameters."""
    made(tmp_path, "TuneNNGen", TuneNNGen=source)
    monkeypatch.syspath_prepend(str(tmp_path))
    if source.startswith("async"):
        assert set(map_arguments({"brand_new": 1})[1]) == {"brand_new"}
    else:
        assert map_arguments({"r": 8}) == ({"model": {"lora": {"r": 8}}}, {})
        with pytest.raises(UserError, match=r"^unknown argument of NNGPT's main 'brand_new'"):
            map_arguments({"brand_new": 1})


def test_the_defaults_are_those_of_the_hosts_main(host: Host) -> None:
    text = host.file("main").read_text(encoding="utf-8")
    for name, field in Counts.model_fields.items():
        if name != "num_cycles":
            assert re.search(rf"^{name.upper()} = {field.default}\b", text, re.MULTILINE), name


def test_each_is_in_one_place_and_has_a_reason() -> None:
    assert not set(MAPPED) & set(IGNORED)
    assert not set(JOINED) & {*MAPPED, *IGNORED}
    assert set(WARNED) <= set(IGNORED)


def test_the_mapping() -> None:
    config, ignored = map_arguments({
        "learning_rate": 2e-4, "r": 16.0, "lora_alpha": 32.0, "lora_dropout": 0.1, "load_in_4bit": False,
        "num_train_epochs": 2, "num_cycles": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 8,
        "warmup_ratio": 0.1, "weight_decay": None, "output_dir": Path("o"), "classification_mode": True,
        "use_agents": False, "temperature": 0.8,
    })  # fmt: skip
    assert config == {
        "tuning": {"learning_rate": 2e-4, "warmup": 0.1, "epochs": 6, "examples_per_step": 16},
        "model": {"lora": {"r": 16, "alpha": 32, "dropout": 0.1}, "load_in_4bit": False},
        "output_dir": "o",
    }
    assert set(ignored) == {"use_agents", "temperature"}


def test_an_argument_the_host_does_not_have() -> None:
    with pytest.raises(
        UserError, match=r"unknown argument of NNGPT's main 'learning_rat'.*did you mean 'learning_rate'"
    ):
        tune_main(learning_rat=1)


@pytest.mark.parametrize(
    ("given", "why"),
    [({"classification_mode": False}, "this one compares datasets"),
     ({"run_iterative_pipeline": True}, "it generates networks"),
     ({"skip_lm_finetune": True}, "nothing is fine-tuned")],
)  # fmt: skip
def test_another_task(given: dict[str, bool], why: str) -> None:
    ((name, value),) = given.items()
    with pytest.raises(UserError, match=f"{name}={value} is another task: {why}"):
        tune_main(**given)
    assert map_arguments({name: not value}) == ({}, {})


@pytest.mark.parametrize(
    "given",
    [
        {"skip_lm_finetune": "yes"},
        {"classification_mode": "false"},
        {"classification_mode": 0},
        {"run_iterative_pipeline": "True"},
        {"run_iterative_pipeline": 1},
    ],
)
def test_a_text_or_a_number_is_no_truth(given: dict[str, object]) -> None:
    ((name, value),) = given.items()
    with pytest.raises(UserError) as caught:
        tune_main(**given)
    assert str(caught.value) == f"{name} must be True or False, not {value!r}"


@pytest.mark.parametrize(
    ("given", "tuning"),
    [
        ({"per_device_train_batch_size": 1}, {"examples_per_step": 8}),
        ({"per_device_train_batch_size": 4}, {"examples_per_step": 32}),
        ({"gradient_accumulation_steps": 5}, {"examples_per_step": 5}),
        ({"num_cycles": 3}, {"epochs": 9}),
        ({"cycles": 5}, {"epochs": 15}),
        ({"num_cycles": 2, "cycles": 5}, {"epochs": 6}),
        ({"num_train_epochs": 4}, {"epochs": 4}),
        ({"num_train_epochs": 2, "num_cycles": None, "cycles": 5}, {"epochs": 10}),
    ],
)
def test_arguments_given_in_part_go_with_the_hosts_defaults(given: dict[str, int], tuning: dict[str, int]) -> None:
    assert map_arguments(given)[0] == {"tuning": tuning}


@pytest.mark.parametrize(
    "given",
    [
        {"num_train_epochs": 0.5},
        {"num_train_epochs": "three"},
        {"num_cycles": -1},
        {"per_device_train_batch_size": "a"},
        {"gradient_accumulation_steps": float("nan")},
    ],
)
def test_a_number_that_is_not_whole(given: dict[str, object]) -> None:
    with pytest.raises(UserError, match=rf"arguments of NNGPT's main: {next(iter(given))}: must be .*given: "):
        map_arguments(given)


@pytest.mark.parametrize(
    ("given", "key"),
    [({"r": 1.5}, "model.lora.r"), ({"lora_alpha": 0}, "model.lora.alpha"), ({"learning_rate": "a"}, "learning_rate"),
     ({"warmup_ratio": float("inf")}, "tuning.warmup"), ({"load_in_4bit": "x"}, "model.load_in_4bit")],
)  # fmt: skip
def test_a_value_that_our_configuration_refuses(
    given: dict[str, object], key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=key):
        tune_main(**given)
    assert not list(tmp_path.iterdir())


def test_what_is_ignored_and_matters_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("nngpt_ext.tasks.run.run_task", lambda *given, **named: None)
    caplog.set_level(logging.INFO)
    tune_main(peft="some/adapter", data_dir="/mine", dataset="mnist", top_k=70, base_data_dir=None, onnx_run=False)
    warned = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert warned == [f"{name} is ignored: {IGNORED[name]}" for name in ("peft", "data_dir", "dataset")]
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.INFO]
    assert told == [f"{name} is ignored: {IGNORED[name]}" for name in ("top_k", "onnx_run")]


def test_conf_by_name_in_an_enabled_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enable("dataset_compare", base="embedded", folder=tmp_path / "nngpt")
    name = "NN_dataset_compare_code_only.json"
    for place in (tmp_path, tmp_path / "nngpt"):
        monkeypatch.chdir(place)
        config, _ = map_arguments({"llm_conf": "nngpt_ext_embedded.json", "llm_tune_conf": name})
        assert config["model"] == {"base": "embedded"}
        assert config["prompt"] == str(tmp_path / "nngpt" / "ab/gpt/conf/prompt/train" / name)
    with pytest.raises(UserError, match=r"there is no LLM preset 'absent\.json' here or in 'ab/gpt/conf/llm'"):
        map_arguments({"llm_conf": "absent.json"})
    with pytest.raises(UserError, match=r"^the name of the LLM preset is empty; .*: .*nngpt_ext_embedded\.json"):
        map_arguments({"llm_conf": ""})
    with pytest.raises(UserError, match=rf"^the name of the prompt file is empty; .*: .*{name}"):
        map_arguments({"llm_tune_conf": ""})


@pytest.mark.slow
def test_it_fine_tunes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enable("dataset_compare", base="embedded", folder=tmp_path / "nngpt")
    limits = {"train_networks": 6, "validation_networks": 3, "test_networks": 3, "code_tokens": 64}
    (tmp_path / "nngpt.yaml").write_text(json.dumps({"tasks": {"dataset_compare": {"data": limits}}}))
    monkeypatch.chdir(tmp_path / "nngpt")
    result = tune_main(
        llm_conf="nngpt_ext_embedded.json", llm_tune_conf="NN_dataset_compare_code_only.json", num_train_epochs=1,
        learning_rate=1e-3, output_dir="out/a", classification_mode=True, use_agents=False, top_k=70,
    )  # fmt: skip
    assert result.report.n_test_networks == 3
    assert (tmp_path / "nngpt" / "out" / "a" / "adapter" / "adapter_model.safetensors").is_file()
