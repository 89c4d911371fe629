"""`tune_main`: every argument of the host's main is mapped, or ignored with a reason."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host import tune_main
from nngpt_ext.host.arguments import IGNORED, JOINED, MAPPED, map_arguments
from nngpt_ext.host.conf import enable
from nngpt_ext.host.layout import Host
from nngpt_ext.host.reading import parameters


@pytest.mark.slow
def test_every_argument_of_the_host(host: Host) -> None:
    known = {*MAPPED, *JOINED, *IGNORED}
    assert set(parameters(host, "main", "main")) <= known


def test_each_is_in_one_place_and_has_a_reason() -> None:
    assert not set(MAPPED) & set(IGNORED)
    assert not set(JOINED) & {*MAPPED, *IGNORED}
    assert all(len(why) > 4 for why in IGNORED.values())


def test_the_mapping() -> None:
    found = map_arguments({
        "learning_rate": 2e-4, "r": 16.0, "lora_alpha": 32.0, "lora_dropout": 0.1, "load_in_4bit": False,
        "num_train_epochs": 2, "num_cycles": 3, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 8,
        "warmup_ratio": 0.1, "weight_decay": None, "output_dir": Path("o"), "classification_mode": True,
        "use_agents": False, "temperature": 0.8,
    })  # fmt: skip
    assert found.config == {
        "tuning": {"learning_rate": 2e-4, "warmup": 0.1, "epochs": 6, "examples_per_step": 16},
        "model": {"lora": {"r": 16, "alpha": 32, "dropout": 0.1}, "load_in_4bit": False},
        "output_dir": "o",
    }
    assert set(found.ignored) == {"use_agents", "temperature"}


def test_an_argument_the_host_does_not_have() -> None:
    with pytest.raises(
        UserError, match=r"unknown argument of the host's main 'learning_rat'.*did you mean 'learning_rate'"
    ):
        tune_main(learning_rat=1)


def test_another_task() -> None:
    with pytest.raises(UserError, match="classification_mode=False is not this task"):
        tune_main(classification_mode=False)


def test_conf_by_name_in_an_enabled_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enable("dataset_compare", base="embedded", folder=tmp_path / "nngpt")
    name = "NN_dataset_compare_code_only.json"
    for place in (tmp_path, tmp_path / "nngpt"):
        monkeypatch.chdir(place)
        found = map_arguments({"llm_conf": "nngpt_ext_embedded.json", "llm_tune_conf": name})
        assert found.config["model"] == {"base": "embedded"}
        assert found.config["prompt"] == str(tmp_path / "nngpt" / "ab/gpt/conf/prompt/train" / name)
    with pytest.raises(UserError, match=r"no conf file 'absent\.json' here or in ab/gpt/conf/llm"):
        map_arguments({"llm_conf": "absent.json"})


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
