"""The question that an adapter carries with its answer: what it checks, and what it does not."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nngpt_ext import Predictor, RunResult, UserError
from nngpt_ext.models.base import load_base
from nngpt_ext.predict.adapter import AdapterFiles, known_answer, load_scorer
from nngpt_ext.prompts.builtin import NAMES, get_template
from tests import models_made

CODE = models_made.sources()["AlexNet"]


@pytest.fixture
def adapter(run: RunResult, tmp_path: Path) -> Path:
    """A copy of the run's adapter, to be changed."""
    assert run.adapter is not None
    return Path(shutil.copytree(run.adapter, tmp_path / "adapter"))


def changed(folder: Path, **values: Any) -> None:
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


def test_facts_that_the_user_gives_do_not_change_it(run: RunResult) -> None:
    facts = {"celeba-gender": (1, 1, 1, 1), "cifar-10": (2, 2, 2, 2)}
    assert Predictor.from_run(run.output_dir, facts=facts).compare(CODE, "celeba-gender", "cifar-10").winner


@pytest.mark.parametrize("place", [{"device": "cuda"}, {"dtype": "bfloat16"}])
def test_another_device_or_type_may_round_otherwise(adapter: Path, place: dict[str, str]) -> None:
    known = AdapterFiles(adapter).note.known_answer
    assert known is not None
    changed(adapter, log_odds=[known.log_odds[0] + 0.3, known.log_odds[1] - 0.3])
    with pytest.raises(UserError, match="control question"):
        Predictor(adapter).compare(CODE, "mnist", "svhn")
    changed(adapter, **place)
    assert Predictor(adapter).compare(CODE, "mnist", "svhn").winner
    changed(adapter, log_odds=[known.log_odds[0] + 3.0, known.log_odds[1]])
    with pytest.raises(UserError, match="control question"):
        Predictor(adapter).compare(CODE, "mnist", "svhn")


def test_nothing_is_answered_or_stored_before_it_came_out(adapter: Path, tmp_path: Path) -> None:
    changed(adapter, log_odds=[1e36, 1e36])
    predictor = Predictor(adapter, store=f"sqlite:///{tmp_path / 'p.db'}")
    for _ in range(2):  # the second question finds no model that the first one left
        with pytest.raises(UserError, match=r"they were 1e\+36, 1e\+36"):
            predictor.compare(CODE, "mnist", "svhn")
    assert predictor._scorer is None
    assert predictor._store is not None
    assert predictor._store.query().empty
