"""An adapter's files: which changes make it another adapter, and what its control question checks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngpt_ext import PredictionStore, Predictor, RunResult, UserError
from nngpt_ext.io import digest
from nngpt_ext.models.base import load_base
from nngpt_ext.predict.adapter import AdapterFiles, load_scorer
from nngpt_ext.prompts.builtin import NAMES, get_template
from nngpt_ext.scoring.note import known_answer
from tests import models_made
from tests.predict.conftest import older
from tests.tasks.conftest import truncate

CODE = models_made.sources()["AlexNet"]


@pytest.fixture
def adapter(run: RunResult, tmp_path: Path) -> Path:
    """A copy of the run's adapter, to be changed."""
    assert run.adapter is not None
    return older(shutil.copytree(run.adapter, tmp_path / "adapter"))


def changed(file: Path, **values: Any) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


@pytest.mark.parametrize(
    ("file", "values"),
    [
        ("adapter_config.json", {"lora_alpha": 256}),
        ("adapter_config.json", {"r": 16}),
        ("adapter_config.json", {"target_modules": ["q_proj"]}),
        ("adapter_config.json", {"use_rslora": True}),
        ("adapter_config.json", {"alpha_pattern": {"q_proj": 1}}),
        ("nngpt_ext.json", {"base_sha256": "0" * 64}),
        ("nngpt_ext.json", {"base_identity": {"configuration": "0" * 64}}),
        ("nngpt_ext.json", {"load_in_4bit": False}),
    ],
)
def test_whatever_decides_an_answer_makes_another_adapter(adapter: Path, file: str, values: Mapping[str, Any]) -> None:
    before, fingerprint = AdapterFiles(adapter), Predictor(adapter).fingerprint
    changed(adapter / file, **values)
    assert AdapterFiles(adapter).hash != before.hash
    assert AdapterFiles(adapter).weights_sha256 == before.weights_sha256
    assert Predictor(adapter).fingerprint != fingerprint


def test_where_the_base_lay_and_who_wrote_the_file_make_no_other_adapter(adapter: Path) -> None:
    before = AdapterFiles(adapter).hash
    settings = json.loads((adapter / "adapter_config.json").read_text())
    changed(
        adapter / "adapter_config.json", base_model_name_or_path="/elsewhere", peft_version="0.1", a_later_one=None,
        target_modules=settings["target_modules"][::-1],
    )  # fmt: skip
    assert AdapterFiles(adapter).hash == before


def test_an_adapter_of_an_older_version_keeps_its_hash(adapter: Path) -> None:
    """With it, its answers in a store: the hash is the one that such a version computed."""
    note = json.loads((adapter / "nngpt_ext.json").read_text())
    assert set(note.pop("base_identity")) == {"configuration", "tokenizer", "chat_template"}
    (adapter / "nngpt_ext.json").write_text(json.dumps(note))
    files = AdapterFiles(adapter)
    settings = json.loads((adapter / "adapter_config.json").read_text())
    idle = ("base_model_name_or_path", "revision", "peft_version", "inference_mode", "lora_dropout")
    shown = {k: sorted(v, key=str) if isinstance(v, list) else v for k, v in settings.items() if v is not None}
    applied = {k: v for k, v in shown.items() if k not in idle}
    assert files.hash == digest([files.weights_sha256, applied, note["base_sha256"], note["load_in_4bit"]])


def test_an_adapter_of_an_older_version_answers_with_one_line(
    run: RunResult, adapter: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed(adapter / "nngpt_ext.json", base_identity={})
    found = Predictor.from_pretrained(adapter).compare(CODE, "mnist", "svhn")
    assert found.log_odds == Predictor.from_run(run.output_dir).compare(CODE, "mnist", "svhn").log_odds
    assert len([message for message in caplog.messages if "older version" in message]) == 1


def test_a_damaged_identity_is_one_line(adapter: Path) -> None:
    changed(adapter / "nngpt_ext.json", base_identity=["x"])
    with pytest.raises(UserError, match=r"nngpt_ext\.json' is damaged .*base_identity"):
        AdapterFiles(adapter)


def test_two_adapters_with_the_same_weights_do_not_share_answers(run: RunResult, adapter: Path, tmp_path: Path) -> None:
    store, code = f"sqlite:///{tmp_path / 'p.db'}", CODE
    changed(adapter / "adapter_config.json", lora_alpha=256)
    changed(adapter / "task.json", known_answer=None)  # which is not this one's any more
    one = Predictor.from_run(run.output_dir, store=store).compare(code, "mnist", "svhn")
    other = Predictor.from_pretrained(adapter, store=store).compare(code, "mnist", "svhn")
    assert one.log_odds != other.log_odds
    assert one.model != other.model
    with PredictionStore.open(store) as opened:
        assert len(opened.query()) == 2


def test_a_runs_adapter_must_be_the_one_it_left(run: RunResult, tmp_path: Path) -> None:
    folder = older(shutil.copytree(run.output_dir, tmp_path / "run"))
    weights = folder / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\1\2\3\4")
    with pytest.raises(UserError, match=r"adapter_model\.safetensors' is not what the run wrote"):
        Predictor.from_run(folder)
    changed(folder / "run.json", adapter_sha256=AdapterFiles(folder / "adapter").weights_sha256)
    assert Predictor.from_run(folder).datasets


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_text("{"), lambda file: file.write_text("[]"), lambda file: file.write_text("{}"),
    ],
)  # fmt: skip
def test_a_damaged_record_is_one_line(run: RunResult, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    folder = Path(shutil.copytree(run.output_dir, tmp_path / "run"))
    damage(folder / "run.json")
    with pytest.raises(UserError, match=r"run\.json'") as error:
        Predictor.from_run(folder)
    assert "\n" not in str(error.value)


FILES = (
    "adapter_config.json", "adapter_model.safetensors", "calibration.json", "task.json", "tokenizer.json",
    "tokenizer_config.json",
)  # fmt: skip


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [Path.unlink, truncate, lambda file: file.write_bytes(file.read_bytes() + b" ")])
def test_a_file_that_is_not_the_one_that_was_written(
    run: RunResult, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    folder = Path(shutil.copytree(run.output_dir, tmp_path / "run"))
    alone = Path(shutil.copytree(folder / "adapter", tmp_path / "alone"))
    assert set(FILES) <= set(AdapterFiles(alone).base.files)
    for adapter, advice in ((folder / "adapter", "resume=True)"), (alone, "train the adapter again")):
        damage(adapter / name)
        for make in (Predictor, Predictor.from_pretrained, lambda place: Predictor.from_run(place.parent)):
            if adapter == alone and make not in (Predictor, Predictor.from_pretrained):
                continue
            with pytest.raises(UserError, match=f"{name}|no adapter in") as error:
                make(adapter)
            assert "\n" not in str(error.value)
            assert str(error.value).endswith(advice) or "no adapter in" in str(error.value)


@pytest.mark.parametrize("values", [{"base_model": "other"}, {"files": {}}, {"load_in_4bit": False}])
def test_the_note_of_a_runs_adapter_must_be_its_own(run: RunResult, tmp_path: Path, values: dict[str, Any]) -> None:
    folder = Path(shutil.copytree(run.output_dir, tmp_path / "run"))
    changed(folder / "adapter" / "nngpt_ext.json", **values)
    with pytest.raises(UserError, match=r"nngpt_ext\.json' was changed or damaged"):
        Predictor.from_run(folder)


def test_a_calibration_that_the_run_did_not_make_is_refused(run: RunResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.output_dir, tmp_path / "run"))
    (folder / "adapter" / "calibration.json").rename(tmp_path / "kept")
    note = json.loads((folder / "adapter" / "nngpt_ext.json").read_text())
    del note["files"]["calibration.json"]
    changed(folder / "adapter" / "nngpt_ext.json", **note)
    assert Predictor.from_pretrained(folder / "adapter").threshold is None
    (tmp_path / "kept").rename(folder / "adapter" / "calibration.json")
    with pytest.raises(UserError, match=r"calibration\.json' was changed"):
        Predictor.from_pretrained(folder / "adapter")


def test_the_store_takes_no_damaged_run(run: RunResult, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run.output_dir, tmp_path / "run"))
    with PredictionStore.open(f"sqlite:///{tmp_path / 'p.db'}") as store:
        assert store.add_run(folder) == len(run.predictions)
        run.predictions.iloc[1:].to_parquet(folder / "predictions.parquet", index=False)
        with pytest.raises(UserError, match=r"predictions\.parquet' was changed"):
            store.add_run(folder)


# The control question


def changed_answer(folder: Path, **values: Any) -> None:
    note = json.loads((folder / "task.json").read_text())
    (folder / "task.json").write_text(json.dumps(note | {"known_answer": note["known_answer"] | values}))


def test_a_run_keeps_it_and_the_adapter_gives_it_again(run: RunResult) -> None:
    files = AdapterFiles(run.output_dir / "adapter")
    known = files.note.known_answer
    assert known is not None
    assert list(known.datasets) == files.note.datasets[:2]
    assert (known.device, known.dtype) == ("cpu", "float32")
    asked = load_scorer(files, "embedded", files.note.known_facts())
    again = known.ask(asked.model, asked.base, files.note)
    np.testing.assert_allclose(again, known.log_odds, rtol=0, atol=1e-5)
    # It is the adapter's answer, not the base model's.
    with asked.model.disable_adapter():
        assert not known.is_answered_by(known.ask(asked.model, asked.base, files.note), asked.base)


@pytest.mark.parametrize("prompt", NAMES)
def test_every_prompt_can_be_asked_it(run: RunResult, prompt: str) -> None:
    files = AdapterFiles(run.output_dir / "adapter")
    template = get_template(prompt)
    note = files.note.model_copy(
        update={"prompt": prompt, "system": template.system, "text": template.prompt, "columns": template.columns}
    )
    base = load_base("embedded")
    known = known_answer(base.model, base, note)
    assert known.is_answered_by(known.ask(base.model, base, note), base)
    assert known.log_odds[0] != known.log_odds[1]


def test_an_older_adapter_without_it_is_asked_unchecked(adapter: Path) -> None:
    note = json.loads((adapter / "task.json").read_text())
    del note["known_answer"]
    (adapter / "task.json").write_text(json.dumps(note))
    assert np.isfinite(Predictor(adapter).compare(CODE, "mnist", "svhn").log_odds)


@pytest.mark.parametrize("place", [{"device": "cuda"}, {"dtype": "bfloat16"}])
def test_another_device_or_type_may_round_otherwise(adapter: Path, place: dict[str, str]) -> None:
    known = AdapterFiles(adapter).note.known_answer
    assert known is not None
    changed_answer(adapter, log_odds=[known.log_odds[0] + 0.3, known.log_odds[1] - 0.3])
    with pytest.raises(UserError, match="control question"):
        Predictor(adapter).compare(CODE, "mnist", "svhn")
    changed_answer(adapter, **place)
    assert Predictor(adapter).compare(CODE, "mnist", "svhn").winner
    changed_answer(adapter, log_odds=[known.log_odds[0] + 3.0, known.log_odds[1]])
    with pytest.raises(UserError, match="control question"):
        Predictor(adapter).compare(CODE, "mnist", "svhn")


def test_nothing_is_answered_or_stored_before_it_came_out(adapter: Path, tmp_path: Path) -> None:
    changed_answer(adapter, log_odds=[1e36, 1e36])
    predictor = Predictor(adapter, store=f"sqlite:///{tmp_path / 'p.db'}")
    for _ in range(2):  # the second question finds no model that the first one left
        with pytest.raises(UserError, match=r"they were 1e\+36, 1e\+36"):
            predictor.compare(CODE, "mnist", "svhn")
    assert predictor._scorer is None
    assert predictor._store is not None
    assert predictor._store.query().empty


def test_a_base_that_moved(run: RunResult, tmp_path: Path) -> None:
    assert run.adapter is not None
    folder = older(shutil.copytree(run.adapter, tmp_path / "adapter"))
    note = json.loads((folder / "nngpt_ext.json").read_text())
    (folder / "nngpt_ext.json").write_text(json.dumps(note | {"base_model": "own.gguf"}))
    predictor = Predictor.from_pretrained(folder)
    with pytest.raises(UserError, match=r"'own.gguf', which is not there; if it moved, give its place: base="):
        predictor.load()
    Predictor.from_pretrained(folder, base="embedded").load()
