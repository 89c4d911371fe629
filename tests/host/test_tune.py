"""`host tune`: the exported pairs, the call, and what stops it."""

from __future__ import annotations

import copy
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from nngpt_ext.cli import app
from nngpt_ext.config import TaskConfig, build_config
from nngpt_ext.errors import UserError
from nngpt_ext.host.conf import enable
from nngpt_ext.host.export import export_pairs
from nngpt_ext.host.launch import launch
from nngpt_ext.host.layout import Host, find_host
from nngpt_ext.host.tune import Obstacles, _arguments, find_preset, read_preset, tune_host
from nngpt_ext.lemur.dataset import PairData, load_pairs
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.tasks.pipeline import resolve
from tests import models_made
from tests.host.test_layout import made

FEW = {"train": 6, "validation": 3, "test": 3}
SET = ["data.train_networks=6", "data.validation_networks=3", "data.test_networks=3"]


@pytest.fixture(scope="module")
def data() -> PairData:
    return load_pairs(source="package", networks=FEW)


def with_template() -> Any:
    words = copy.deepcopy(models_made.tokenizer())
    words.chat_template = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
    return words


def rows(file: Path) -> list[list[str]]:
    return [[m["content"] for m in json.loads(line)["messages"]] for line in file.read_text().splitlines()]


def test_the_exported_pairs(data: PairData, tmp_path: Path) -> None:
    renderer = Renderer(get_template("code_only"), models_made.tokenizer(), code_tokens=100)
    counts = export_pairs(data, renderer, tmp_path)
    train, dev = rows(tmp_path / "train.jsonl"), rows(tmp_path / "dev.jsonl")
    assert counts == {"train": len(train), "validation": len(dev)}
    assert len(train) == 2 * len(data.training)
    assert len(dev) == 2 * len(data.part("validation"))
    assert [answer for *_, answer in train[::2]] == [answer for *_, answer in train[1::2]]
    assert [answer for *_, answer in train[::2]] == data.training["better_dataset"].tolist()
    for system, user, answer in train:
        assert system == get_template("code_only").system
        assert user.rsplit("\n", 1)[1].removeprefix("Higher relative accuracy: ")[:-1].split(" or ").count(answer) == 1
    # No source of a network that is held out, in whole or in the part that is shown.
    held = {renderer.code(data.sources[nn]).text for part in ("validation", "test") for nn in data.part(part)["nn"]}
    train_sources = {renderer.code(data.sources[nn]).text for nn in data.training["nn"]}
    shown = {user.split("\n", 1)[1].rsplit("\n\nIt was trained", 1)[0] for _, user, _ in train}
    assert shown == train_sources
    assert held - train_sources  # networks that begin alike are near-duplicates, not the same network


@pytest.fixture
def host_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A main that imports `tune` when it is called, as the host's does, and hands it what it got but `data_dir`."""
    called: list[Any] = []
    tuning, prompt, main = ModuleType("their_tune"), ModuleType("their_prompt"), ModuleType("their_main")

    class Prompt:
        def __init__(self, max_len: int, tokenizer: Any) -> None:
            self.max_len, self.tokenizer = max_len, tokenizer

    def old_tune(n: int, *, num_cycles: int | None = None) -> None:
        loader = tuning.NNGenPrompt(64, with_template(), "a file")
        called.append((n, num_cycles, loader.get_raw_dataset(True, 3)))

    def call(n: int, data_dir: str | None = None) -> None:
        from their_tune import tune

        tune(n)

    tuning.tune, tuning.NNGenPrompt, prompt.Prompt, main.main = old_tune, None, Prompt, call
    for module in (tuning, prompt, main):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return called


def test_what_main_drops_is_handed_on(host_modules: list[Any], data: PairData, tmp_path: Path) -> None:
    renderer = Renderer(get_template("code_only"), models_made.tokenizer(), code_tokens=20)
    export_pairs(data, renderer, tmp_path)
    note = {"main": "their_main", "tune": "their_tune", "prompt": "their_prompt", "cycles": 7,
            "data_dir": str(tmp_path), "arguments": {"n": 5, "data_dir": str(tmp_path)}}  # fmt: skip
    launch(note)
    [(n, cycles, table)] = host_modules
    assert (n, cycles) == (5, 7)
    assert list(table.columns) == ["instruction", "context", "response", "category", "text"]
    assert table[["instruction", "response"]].to_numpy().tolist() == [r[1:] for r in rows(tmp_path / "train.jsonl")[:3]]
    assert all(row.text.endswith(row.response) for row in table.itertuples())


def test_a_preset_by_name_and_by_path(tmp_path: Path) -> None:
    enable("dataset_compare", base="embedded", folder=tmp_path / "nngpt")
    file = find_preset("nngpt_ext_embedded.json", None, tmp_path / "nngpt")
    assert find_preset(str(file), None, tmp_path) == file
    with pytest.raises(UserError, match=r"no LLM preset 'nngpt_ext_embeded\.json' \(did you mean 'nngpt_ext_embedded"):
        find_preset("nngpt_ext_embeded.json", None, tmp_path / "nngpt")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"base_model_name": 3}'])
def test_a_preset_edited_by_hand(tmp_path: Path, text: str) -> None:
    file = tmp_path / "p.json"
    file.write_text(text)
    with pytest.raises(UserError, match=r"LLM preset '.*p\.json'"):
        read_preset(file)


def preset(tmp_path: Path, base: str) -> str:
    file = tmp_path / "preset.json"
    file.write_text(json.dumps({"base_model_name": base}))
    return str(file)


def test_code_of_a_model_is_not_run_unasked(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    with pytest.raises(
        UserError, match=r"code that comes with 'someone/model' without asking; add --trust-remote-code"
    ):
        tune_host(preset(tmp_path, "someone/model"), out=tmp_path / "out", folder=tmp_path)
    assert not (tmp_path / "out").exists()


def test_code_that_a_local_model_names_is_not_run_unasked(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "org/repo--module.Class"}}))
    with pytest.raises(UserError, match="holds or names code, which the host would run; add --trust-remote-code"):
        tune_host(preset(tmp_path, str(base)), out=tmp_path / "out", folder=tmp_path)


def test_a_prompt_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    takes_all(tmp_path)
    with pytest.raises(UserError, match="prompt 'recipe' shows recipe_1, recipe_2"):
        tune_host(preset(tmp_path, str(EMBEDDED)), "recipe", out=tmp_path / "out", folder=tmp_path, export_only=True)
    assert not (tmp_path / "out").exists()


def takes_all(folder: Path) -> Host:
    """A host whose main and tune take what ours hands over."""
    call = (*BASIC, "llm_conf", "llm_tune_conf", "nn_gen_conf", "nn_gen_conf_id", "data_dir", "max_prompts",
            "learning_rate", "skip_epoches")  # fmt: skip
    made(folder, "TuneNNGen", util__Tune="def tune(num_cycles=1): ...", TuneNNGen=f"def main({', '.join(call)}): ...")
    return find_host(folder)


BASIC = (
    "num_train_epochs", "classification_mode", "use_agents", "only_best_accuracy", "max_new_tokens", "r", "lora_alpha",
    "lora_dropout", "load_in_4bit", "warmup_ratio", "max_grad_norm", "per_device_train_batch_size",
    "gradient_accumulation_steps", "weight_decay",
)  # fmt: skip


def test_what_the_host_takes_is_handed_over(tmp_path: Path) -> None:
    asked = build_config(TaskConfig, {"model": {"base": "embedded"}, "tuning": {"examples_per_step": 16}})
    call = _arguments(takes_all(tmp_path), resolve(asked, tmp_path))
    assert set(call) == set(BASIC)
    assert call["per_device_train_batch_size"] * call["gradient_accumulation_steps"] == 16
    assert call["lora_dropout"] == 0.0  # the preset's


def test_what_does_not_apply_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    takes_all(tmp_path)
    with pytest.raises(UserError, match="absent"):
        tune_host(preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", folder=tmp_path, export_only=True,
                  settings=["tuning.seed=3", "tuning.networks_per_epoch=4", "data.path=absent"])  # fmt: skip
    assert "has nothing for tuning.networks_per_epoch, tuning.seed: it does not apply" in caplog.text


def test_a_main_that_has_changed(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    with pytest.raises(UserError, match=r"NNGPT's main in '.*TuneNNGen\.py' takes no num_train_epochs, .*data_dir"):
        tune_host(preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", folder=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_stays(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    out = tmp_path / "out"
    out.mkdir()
    (out / "A0").write_text("mine")
    with pytest.raises(UserError, match="is not empty, and the host removes what it finds there"):
        tune_host(preset(tmp_path, str(EMBEDDED)), out=out, folder=tmp_path)
    assert (out / "A0").read_text() == "mine"


@pytest.mark.slow
def test_it_stops_before_it_starts(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Obstacles) as stopped:
        tune_host("ds_coder_7b_instruct.json", out="out", folder=host.folder)
    assert any(line.startswith("no CUDA device") for line in stopped.value.lines)
    arguments = [
        "host",
        "tune",
        "--llm",
        "ds_coder_7b_instruct.json",
        "--prompt",
        "code_only",
        "--host",
        str(host.folder),
    ]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("error: ")] == [
        f"error: {line}" for line in stopped.value.lines
    ]
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_export_only(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    enable("dataset_compare", base="embedded")
    found = tune_host("nngpt_ext_embedded.json", out="out", folder=host.folder, settings=SET, export_only=True)
    arguments = found["arguments"]
    for name in ("llm_conf", "llm_tune_conf", "nn_gen_conf", "data_dir"):
        assert Path(arguments[name]).is_absolute()
        assert Path(arguments[name]).exists()
    assert arguments["use_agents"] is False
    assert json.loads(Path(arguments["llm_conf"]).read_text())["base_model_name"] == "bases/embedded"
    assert (tmp_path / "out" / "root" / "bases" / "embedded" / "config.json").is_file()
    assert len(rows(tmp_path / "out" / "data" / "train.jsonl")) == found["rows"]["train"] == arguments["max_prompts"]
    assert not (tmp_path / "out" / "nngpt").exists()
