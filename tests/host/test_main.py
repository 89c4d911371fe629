"""The real host's main, called as `host tune` calls it, as far as a CPU carries it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nngpt_ext.host.conversion import CHAT_TEMPLATE
from nngpt_ext.host.installation import Host
from nngpt_ext.host.integration import enable
from nngpt_ext.host.process import result_of, run_in
from nngpt_ext.host.tuner import HostTuning, tune_host

SET = ["data.train_networks=4", "data.validation_networks=2", "tuning.epochs=2", "tuning.learning_rate=0.003",
       "tuning.examples_per_step=16", "tuning.warmup=0.2", "model.lora.r=8", "model.load_in_4bit=false"]  # fmt: skip


@pytest.mark.slow
def test_the_hosts_own_main_gets_what_we_hand_it(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not (host.folder / "brute").is_dir():
        pytest.skip(f"'{host.folder}' is a part of the host: its tuner cannot be imported")
    monkeypatch.chdir(tmp_path)
    enable("dataset_compare", base="embedded")
    # NF4 needs a CUDA device in the host's LLM; the rest is the same.
    exported = tune_host(
        HostTuning("nngpt_ext_embedded.json", out=Path("out"), host=host.folder, settings=SET, export_only=True)
    )
    out = tmp_path / "out"
    old = out / "nngpt" / "llm" / "epoch" / "A7"
    old.mkdir(parents=True)
    done = run_in(out / "root", host, ["-m", "tests.host.real_main", str(out / "call.json")],
                  environment={"AB_GPT_NNGPT_DIR": str(out / "nngpt")})  # fmt: skip
    seen = result_of(done, "running the host's main")
    assert not old.exists()  # its rmtree ran, in the new folder only
    assert (out / "data" / "train.jsonl").is_file()
    # As many rounds as epochs, though 1.0.6 would run 100; none of them generates.
    assert [Path(epoch["to"]) for epoch in seen["epochs"]] == [
        out / "nngpt" / "llm" / "epoch" / f"A{n}" / "bases" / "embedded" for n in (0, 1)
    ]
    assert not list((out / "nngpt" / "llm" / "epoch").rglob("synth_nn"))
    # Our exported pairs and no others, each in the preset's chat template, none left out or cut.
    lines = (out / "data" / "train.jsonl").read_text().splitlines()
    parts = [[message["content"] for message in json.loads(line)["messages"]] for line in lines]
    assert "assistant" in CHAT_TEMPLATE
    wanted = sorted(f"{system}\n\n{user}\n{answer}" for system, user, answer in parts)
    for epoch in seen["epochs"]:
        assert [text.removesuffix("<|end|>").removesuffix("<|end|>") for text in epoch["texts"]] == wanted
        assert epoch["longest"] == exported["longest_row"]
    assert len(wanted) == exported["rows"]["train"]
    assert seen["lora"] == [8, 32, 0.0]
    training = {"num_train_epochs": 1, "learning_rate": 0.003, "warmup_ratio": 0.2, "per_device_train_batch_size": 1,
                "gradient_accumulation_steps": 16}  # fmt: skip
    assert training.items() <= seen["training"].items()
