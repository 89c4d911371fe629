"""`host tune`: what is written, and what stops it. The real main runs in test_main."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from nngpt_ext.cli import app
from nngpt_ext.config import TaskConfig
from nngpt_ext.data.facts import LEMUR_FACTS
from nngpt_ext.data.load import PairData
from nngpt_ext.errors import UserError
from nngpt_ext.host.arguments import main_arguments
from nngpt_ext.host.conversion import CHAT_TEMPLATE, export_pairs
from nngpt_ext.host.installation import CONF, Host, find_host
from nngpt_ext.host.integration import enable
from nngpt_ext.host.tuner import NOT_APPLIED, HostTuning, check_lengths, tune_host
from nngpt_ext.models.presets import EMBEDDED
from nngpt_ext.prompts.builtin import FOLDER, get_template
from nngpt_ext.prompts.render import Renderer
from nngpt_ext.settings import build_config, known_keys
from tests import models_made
from tests.host.test_conversion import data
from tests.host.test_installation import made

__all__ = ["data"]

SET = ["data.train_networks=6", "data.validation_networks=3"]


def preset(tmp_path: Path, base: str, **more: object) -> str:
    file = tmp_path / "preset.json"
    file.write_text(json.dumps({"base_model_name": base, **more}))
    return str(file)


@pytest.mark.parametrize("base", ["someone/model", "deepseek-coder-7b"])  # the latter is our name, no hub id
def test_code_of_a_model_is_not_run_unasked(tmp_path: Path, base: str) -> None:
    made(tmp_path, "TuneNNGen")
    with pytest.raises(
        UserError, match=rf"code that comes with '{base}' without asking; if you trust it, set trust_remote_code=True"
    ):
        tune_host(HostTuning(preset(tmp_path, base), out=tmp_path / "out", host=tmp_path))
    assert not (tmp_path / "out").exists()


def test_code_that_a_local_model_names_is_not_run_unasked(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    base = tmp_path / "base"
    base.mkdir()
    (base / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "org/repo--module.Class"}}))
    with pytest.raises(
        UserError, match=r"code that comes with '.*base' without asking; if you trust it, set trust_remote_code=True"
    ):
        tune_host(HostTuning(preset(tmp_path, str(base)), out=tmp_path / "out", host=tmp_path))


def test_a_prompt_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    takes_all(tmp_path)
    with pytest.raises(UserError, match=r"prompt 'recipe' shows recipe_1, recipe_2.*; or set export_only=True"):
        tune_host(HostTuning(preset(tmp_path, str(EMBEDDED)), "recipe", out=tmp_path / "out", host=tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_prompt_that_the_host_cannot_fill_is_exported_alone(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")  # whose main takes none of our arguments: it is not called
    out = tmp_path / "new" / "out"
    found = tune_host(
        HostTuning(preset(tmp_path, str(EMBEDDED)), "recipe", out=out, host=tmp_path, export_only=True, settings=SET)
    )
    assert sorted(p.name for p in out.rglob("*")) == ["data", "dev.jsonl", "train.jsonl"]
    assert found["command"] is found["arguments"] is None
    assert "does not fill" in found["not_filled"]
    assert len((out / "data" / "train.jsonl").read_text().splitlines()) == found["rows"]["train"] > 0


def test_a_prompt_with_early_accuracies_needs_their_epochs(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    asked = HostTuning(
        preset(tmp_path, str(EMBEDDED)), "evidence", out=tmp_path / "out", host=tmp_path, export_only=True
    )
    with pytest.raises(UserError, match=r"prompt 'evidence' shows early accuracies: set their epochs"):
        tune_host(asked)


def test_the_base_is_that_of_the_preset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    takes_all(tmp_path)
    file = preset(tmp_path, "deepseek-ai/deepseek-coder-7b-instruct-v1.5")
    asked = HostTuning(file, out=tmp_path / "out", host=tmp_path, export_only=True)
    with pytest.raises(UserError, match=r"model\.base comes from the LLM preset '.*\.json' .*; give another preset"):
        tune_host(replace(asked, settings=["model.base=embedded"]))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"a local folder may stand in '.*preset\.json' as base_model_name"):
        tune_host(replace(asked, trust_remote_code=True))


def test_rows_that_the_host_would_cut_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    takes_all(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    file = preset(tmp_path, str(EMBEDDED), default_context_length=300)
    with pytest.raises(UserError, match=r"the longest row has \d+ tokens .*below 300; lower data\.code_tokens"):
        tune_host(HostTuning(file, out=tmp_path / "new" / "out", host=tmp_path, export_only=True, settings=SET))
    assert sorted(tmp_path.rglob("*")) == sorted([*before, tmp_path / "preset.json"])


def test_what_fails_on_the_way_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(data: object, renderer: object, folder: Path) -> None:
        (folder / "train.jsonl").write_text("{")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nngpt_ext.host.conversion.export_pairs", full)
    takes_all(tmp_path)
    file = preset(tmp_path, str(EMBEDDED))
    with pytest.raises(UserError, match="no space left on the disk"):
        tune_host(HostTuning(file, out=tmp_path / "new" / "out", host=tmp_path, export_only=True, settings=SET))
    assert not list((tmp_path / "new").iterdir())


def test_a_host_without_a_role_that_is_needed_is_refused_before_data_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    takes_all(tmp_path)
    (tmp_path / "ab" / "gpt" / "util" / "prompt" / "Prompt.py").write_text("")
    monkeypatch.setattr("nngpt_ext.data.load.load_pairs", lambda *given, **named: pytest.fail("data were read"))
    with pytest.raises(UserError, match=r"none of util\.prompt\.Prompt defines Prompt, so host tune cannot be used; "):
        tune_host(HostTuning(preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", host=tmp_path, export_only=True))


def takes_all(folder: Path, main: str = "TuneNNGen") -> Host:
    """A host whose main and tune accept what this package passes."""
    given = ", ".join((*BASIC, *PATHS))
    tune, prompt = "def tune(num_cycles=1): ...", "class Prompt: ..."
    made(folder, main, **{"util__Tune": tune, "util__prompt__Prompt": prompt, main: f"def main({given}): ..."})
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
    call = main_arguments(takes_all(tmp_path), asked.resolved(tmp_path))
    assert set(call) == {*BASIC, "learning_rate"}
    assert call["per_device_train_batch_size"] * call["gradient_accumulation_steps"] == 16
    assert call["lora_dropout"] == 0.0  # the preset's


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        (
            ["tuning.seed=3", "tuning.networks_per_epoch=4"],
            "no counterpart for tuning.networks_per_epoch, tuning.seed, ",
        ),
        (
            ["data.pairs_per_network=2", "data.test_networks=3"],
            "no counterpart for data.pairs_per_network, data.test_networks, ",
        ),
        (
            ["model.revision=main", "store=null"],
            "no counterpart for model.revision, store, which therefore has no effect",
        ),
        (["data.seed=1", "data.trials=all", "tuning.epochs=2"], None),
    ],
)
def test_what_does_not_apply_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, settings: list[str], said: str | None
) -> None:
    takes_all(tmp_path)
    with pytest.raises(UserError, match="absent"):
        tune_host(HostTuning(preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", host=tmp_path, export_only=True,
                  settings=[*settings, "data.path=absent"]))  # fmt: skip
    assert (said in caplog.text) if said else not caplog.text


def test_what_does_not_apply_is_a_key() -> None:
    assert set(NOT_APPLIED) <= set(known_keys(TaskConfig))


@pytest.mark.parametrize(("layout", "warned"), [("TuneNNGen", True), ("act__tune__Tune", False)])
def test_a_main_that_drops_weight_decay(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: str, warned: bool
) -> None:
    takes_all(tmp_path, layout)
    settings = ["tuning.weight_decay=0.1", "data.path=absent"]
    with pytest.raises(UserError, match="absent"):
        tune_host(
            HostTuning(
                preset(tmp_path, str(EMBEDDED)),
                out=tmp_path / "out",
                host=tmp_path,
                export_only=True,
                settings=settings,
            )
        )
    assert ("tuning.weight_decay" in caplog.text) is warned


def test_what_the_hosts_measuring_does_not_heed_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, database: Path
) -> None:
    takes_all(tmp_path)
    with pytest.raises(UserError, match="absent"):
        tune_host(HostTuning(
            preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", host=tmp_path, export_only=True, measure=True,
            database=database, settings=["data.seed=1", "data.path=absent"]))  # fmt: skip
    assert "NNGPT measures on its own rows: data.path, data.seed applies to training only" in caplog.text


def test_the_prompt_of_the_configuration(tmp_path: Path) -> None:
    takes_all(tmp_path)
    (tmp_path / "mine.yaml").write_text("prompt: recipe")
    with pytest.raises(UserError, match="prompt 'recipe' shows"):
        tune_host(
            HostTuning(
                preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", host=tmp_path, config=tmp_path / "mine.yaml"
            )
        )


def test_a_main_that_has_changed(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    with pytest.raises(
        UserError, match=r"NNGPT's main in '.*TuneNNGen\.py' does not accept .*num_train_epochs, .*data_dir"
    ):
        tune_host(HostTuning(preset(tmp_path, str(EMBEDDED)), out=tmp_path / "out", host=tmp_path))
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_stays(tmp_path: Path) -> None:
    made(tmp_path, "TuneNNGen")
    out = tmp_path / "out"
    out.mkdir()
    (out / "A0").write_text("mine")
    with pytest.raises(UserError, match="is not empty, and NNGPT removes what it finds there"):
        tune_host(HostTuning(preset(tmp_path, str(EMBEDDED)), out=out, host=tmp_path))
    assert (out / "A0").read_text() == "mine"


def test_what_it_writes_starts_without_this_package(tmp_path: Path) -> None:
    main = f"""
def main({", ".join((*BASIC, *PATHS))}):
    import json, os, sys
    from ab.gpt.util.Tune import tune
    found = {{"cycles": tune()["num_cycles"], "in": os.getcwd(), "to": os.environ["AB_GPT_NNGPT_DIR"], "r": r,
             "ours": [name for name in sys.modules if name.startswith("nngpt_ext")]}}
    print(json.dumps(found))
"""
    takes_all(tmp_path)
    package = made(tmp_path, "TuneNNGen", TuneNNGen=main)
    for folder in (package.parent, package / "util"):
        (folder / "__init__.py").touch()
    (package / "util" / "Tune.py").write_text("def tune(num_cycles=100, data_dir=None): return locals()")
    out = tmp_path / "out"
    tune_host(HostTuning(preset(tmp_path, str(EMBEDDED)), out=out, host=tmp_path, export_only=True,
              settings=[*SET, "tuning.epochs=2", "model.lora.r=8", "data.code_tokens=64"]))  # fmt: skip
    done = subprocess.run([sys.executable, out / "start.py"], env={"PYTHONPATH": str(tmp_path)}, capture_output=True,
                          text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    expected = {"cycles": 2, "in": str(out / "root"), "to": str(out / "nngpt"), "r": 8, "ours": []}
    assert json.loads(done.stdout) == expected


@pytest.mark.slow
def test_it_stops_before_it_starts(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("a CUDA device is here")
    monkeypatch.chdir(tmp_path)
    arguments = ["host", "tune", "--llm", "ds_coder_7b_instruct.json", "--host", str(host.folder)]
    with pytest.raises(UserError, match=r"NNGPT's tuner cannot run here: no CUDA device.*; .*Tune cannot be imported"):
        CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("prompt", ["code_only", "a file"])
def test_export_only(host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prompt: str) -> None:
    monkeypatch.chdir(tmp_path)
    enable("dataset_compare", base="embedded")
    if prompt == "a file":
        shipped = json.loads((FOLDER / "metadata.json").read_text())
        (tmp_path / "mine.json").write_text(json.dumps({"mine": shipped["metadata"]}))
        prompt = "mine.json"
    found = tune_host(
        HostTuning("nngpt_ext_embedded.json", prompt, out=Path("out"), host=host.folder, settings=SET, export_only=True)
    )
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


def words(template: str | None = CHAT_TEMPLATE) -> Any:
    made = copy.deepcopy(models_made.tokenizer())
    made.chat_template = template
    return made


def lengths(folder: Path, tokenizer: Any) -> list[int]:
    """As the host's own loader counts: chat template, special tokens, an end token."""
    tokenizer.add_eos_token = True
    lines = [line for name in ("train.jsonl", "dev.jsonl") for line in (folder / name).read_text().splitlines()]
    texts = [tokenizer.apply_chat_template(json.loads(line)["messages"], tokenize=False) for line in lines]
    return [len(tokenizer(text)["input_ids"]) for text in texts]


@pytest.mark.parametrize("prompt", ["code_only", "metadata", "recipe"])
def test_the_longest_row_is_that_of_the_file(data: PairData, tmp_path: Path, prompt: str) -> None:
    renderer = Renderer(get_template(prompt), models_made.tokenizer(), code_tokens=100, facts=LEMUR_FACTS)
    export_pairs(data, renderer, tmp_path)
    longest = max(lengths(tmp_path, words()))
    assert check_lengths(data, renderer, words(), longest + 1) == longest
    with pytest.raises(
        UserError, match=rf"the longest row has {longest} tokens .* accepts rows below {longest}; lower"
    ):
        check_lengths(data, renderer, words(), longest)


@pytest.mark.parametrize(("tokens", "limit"), [(400, 350), (10**6, 600), (300, 150)])
def test_what_it_says_to_type_fits(data: PairData, tokens: int, limit: int) -> None:
    template = get_template("code_only")
    renderer = Renderer(template, models_made.tokenizer(), code_tokens=tokens, facts=LEMUR_FACTS)
    with pytest.raises(
        UserError, match=rf"lower data\.code_tokens \({tokens} now\): settings=\['data\.code_tokens="
    ) as said:
        check_lengths(data, renderer, words(), limit)
    fitting = int(re.search(r"data\.code_tokens=(\d+)'", str(said.value))[1])
    longest = check_lengths(
        data, Renderer(template, models_made.tokenizer(), code_tokens=fitting, facts=LEMUR_FACTS), words(), limit
    )
    assert limit - 70 < longest < limit  # and nothing is thrown away for it


@pytest.mark.parametrize("prompt", ["code_only", "metadata_only"])
def test_where_no_code_is_left_to_cut(data: PairData, prompt: str) -> None:
    renderer = Renderer(get_template(prompt), models_made.tokenizer(), code_tokens=50, facts=LEMUR_FACTS)
    with pytest.raises(UserError, match=r"even data\.code_tokens=0 \(50 now\) leaves it too long"):
        check_lengths(data, renderer, words(), 20)


def test_a_chat_template_that_refuses_what_the_host_gives_it(data: PairData) -> None:
    renderer = Renderer(get_template("code_only"), models_made.tokenizer(), code_tokens=50, facts=LEMUR_FACTS)
    refuses = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(UserError, match=r"System role not supported\); name another in the LLM preset"):
        check_lengths(data, renderer, words(refuses), 4096)
