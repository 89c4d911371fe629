"""`host tune`: what is written, and what stops it. The real main runs in test_main."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nngpt_ext.cli import app
from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError
from nngpt_ext.host.conf import enable
from nngpt_ext.host.layout import Host, find_host
from nngpt_ext.host.root import CONF
from nngpt_ext.host.tune import NOT_APPLIED, Obstacles, _arguments, tune_host
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.prompts.builtin import FOLDER
from nngpt_ext.settings import build_config, known_keys
from nngpt_ext.tasks.pipeline import resolve
from tests.host.test_layout import made

SET = ["data.train_networks=6", "data.validation_networks=3"]


def preset(tmp_path: Path, base: str, **more: object) -> str:
    file = tmp_path / "preset.json"
    file.write_text(json.dumps({"base_model_name": base, **more}))
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
    with pytest.raises(UserError, match=r"prompt 'recipe' shows recipe_1, recipe_2.*; or add --export-only"):
        tune_host(preset(tmp_path, str(EMBEDDED)), "recipe", out=tmp_path / "out", folder=tmp_path)
    assert not (tmp_path / "out").exists()


def test_a_prompt_that_the_host_cannot_fill_is_exported_alone(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")  # whose main takes none of our arguments: it is not called
    out = tmp_path / "new" / "out"
    found = tune_host(
        preset(tmp_path, str(EMBEDDED)), "recipe", out=out, folder=tmp_path, export_only=True, settings=SET
    )
    assert sorted(p.name for p in out.rglob("*")) == ["data", "dev.jsonl", "train.jsonl"]
    assert found["command"] is found["arguments"] is None
    assert "does not fill" in found["not_filled"]
    assert len((out / "data" / "train.jsonl").read_text().splitlines()) == found["rows"]["train"] > 0


def test_rows_that_the_host_would_cut_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    takes_all(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    file = preset(tmp_path, str(EMBEDDED), default_context_length=300)
    with pytest.raises(UserError, match=r"the longest row has \d+ tokens .*below 300; lower data\.code_tokens"):
        tune_host(file, out=tmp_path / "new" / "out", folder=tmp_path, export_only=True, settings=SET)
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "preset.json"])


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(data: object, renderer: object, folder: Path) -> None:
        (folder / "train.jsonl").write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nngpt_ext.host.export.export_pairs", full)
    takes_all(tmp_path)
    file = preset(tmp_path, str(EMBEDDED))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match="no space left on the disk"):
        tune_host(file, out=tmp_path / "new" / "out", folder=tmp_path, export_only=True, settings=SET)
    assert sorted(tmp_path.rglob("*")) == before


def takes_all(folder: Path) -> Host:
    """A host whose main and tune take what ours hands over."""
    given = ", ".join((*BASIC, *PATHS))
    made(folder, "TuneNNGen", util__Tune="def tune(num_cycles=1): ...", TuneNNGen=f"def main({given}): ...")
    return find_host(folder)


BASIC = (
    "num_train_epochs", "classification_mode", "use_agents", "only_best_accuracy", "max_new_tokens", "r", "lora_alpha",
    "lora_dropout", "load_in_4bit", "warmup_ratio", "max_grad_norm", "per_device_train_batch_size",
    "gradient_accumulation_steps", "weight_decay",
)  # fmt: skip


PATHS = (
    "llm_conf", "llm_tune_conf", "nn_gen_conf", "nn_gen_conf_id", "data_dir", "max_prompts", "learning_rate",
    "skip_epoches",
)  # fmt: skip


def test_what_the_host_takes_is_handed_over(tmp_path: Path) -> None:
    asked = build_config(TaskConfig, {"model": {"base": "embedded"}, "tuning": {"examples_per_step": 16}})
    call = _arguments(takes_all(tmp_path), resolve(asked, tmp_path))
    assert set(call) == set(BASIC)
    assert call["per_device_train_batch_size"] * call["gradient_accumulation_steps"] == 16
    assert call["lora_dropout"] == 0.0  # the preset's


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["tuning.seed=3", "tuning.networks_per_epoch=4"],
            "nothing for tuning.networks_per_epoch, tuning.seed: ",
        ),
        (
            ["data.pairs_per_network=2", "data.test_networks=3"],
            "nothing for data.pairs_per_network, data.test_networks: ",
        ),
        (["model.revision=main", "store=null"], "nothing for model.revision, store: it does not apply"),
        (["data.seed=1", "data.trials=all", "tuning.epochs=2"], None),
    ],
)
def test_what_does_not_apply_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: list[str], said: str | None
) -> None:
    takes_all(tmp_path)
    with pytest.raises(UserError, match="absent"):
        tune_host(preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", folder=tmp_path, export_only=True,
                  settings=[*settings, "data.path=absent"])  # fmt: skip
    assert (said in caplog.text) if said else not caplog.text


def test_what_does_not_apply_is_a_key() -> None:
    assert set(NOT_APPLIED) <= set(known_keys(TaskConfig))


@pytest.mark.parametrize(("otherwise", "told"), [("pass", True), ("given['weight_decay'] = weight_decay", False)])
def test_a_main_that_drops_weight_decay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, otherwise: str, told: bool
) -> None:
    given = ", ".join((*BASIC, *PATHS))
    text = f"def main({given}):\n if 'evaluation_strategy' is not None: ...\n else: {otherwise}"
    made(tmp_path, "TuneNNGen", util__Tune="def tune(num_cycles=1): ...", TuneNNGen=text)
    with pytest.raises(UserError, match="absent"):
        tune_host(preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", folder=tmp_path, export_only=True,
                  settings=["tuning.weight_decay=0.1", "data.path=absent"])  # fmt: skip
    assert ("tuning.weight_decay" in caplog.text) is told


def test_what_the_hosts_measuring_does_not_heed_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, database: Path
) -> None:
    takes_all(tmp_path)
    with pytest.raises(UserError, match="absent"):
        tune_host(
            preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", folder=tmp_path, export_only=True, measure=True,
            database=database, settings=["data.seed=1", "data.path=absent"],
        )  # fmt: skip
    assert "the host measures on rows of its own: data.path, data.seed applies to training only" in caplog.text


def test_the_prompt_of_the_configuration(tmp_path: Path) -> None:
    takes_all(tmp_path)
    (tmp_path / "mine.yaml").write_text("prompt: recipe")
    with pytest.raises(UserError, match="prompt 'recipe' shows"):
        tune_host(preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", folder=tmp_path, config=tmp_path / "mine.yaml")


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


@pytest.mark.parametrize("prompt", ["code_only", "a file"])
def test_export_only(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    monkeypatch.chdir(tmp_path)
    enable("dataset_compare", base="embedded")
    if prompt == "a file":
        shipped = json.loads((FOLDER / "metadata.json").read_text())
        (tmp_path / "mine.json").write_text(json.dumps({"mine": shipped["metadata"]}))
        prompt = "mine.json"
    found = tune_host("nngpt_ext_embedded.json", prompt, out="out", folder=host.folder, settings=SET, export_only=True)
    arguments = found["arguments"]
    for name in ("llm_conf", "llm_tune_conf", "nn_gen_conf", "data_dir"):
        assert Path(arguments[name]).is_absolute()
        assert Path(arguments[name]).exists()
    assert json.loads((tmp_path / "out" / "call.json").read_text())["arguments"] == arguments
    assert arguments["nn_gen_conf_id"] in json.loads(Path(arguments["nn_gen_conf"]).read_text())
    assert arguments["use_agents"] is False
    written = json.loads(Path(arguments["llm_conf"]).read_text())
    assert written["base_model_name"] == "bases/embedded"
    assert (tmp_path / "out" / "root" / CONF / "chat_template" / written["chat_template_path"]).is_file()
    assert (tmp_path / "out" / "root" / "bases" / "embedded" / "config.json").is_file()
    lines = (tmp_path / "out" / "data" / "train.jsonl").read_text().splitlines()
    assert len(lines) == found["rows"]["train"] == arguments["max_prompts"]
    assert not (tmp_path / "out" / "nngpt").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]
