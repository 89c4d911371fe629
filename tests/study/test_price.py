"""What training for some epochs tells, measured on a few real networks, and how it is shown."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError
from nngpt_ext.settings import build_config
from nngpt_ext.study import pictures
from nngpt_ext.study.outcome import Study
from nngpt_ext.study.price import AFTER, BEFORE, ONE_EPOCH, STEPS, answers_by_step, price_sentence
from nngpt_ext.study.sections import sections
from nngpt_ext.study.sweep import GRID, run_study
from nngpt_ext.tasks.pipeline import Loader
from tests.study.made import cell, of_families, study

DATA: dict[str, Any] = {"split": "by_family", "folds": 2, "train_networks": 12, "test_networks": 8}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("price")
    data = {name: value for name, value in DATA.items() if name != "split"}  # which a study sets
    (folder / "study.yaml").write_text(yaml.safe_dump({"common": {"data": data}, "price": ["near"]}))
    return folder


@pytest.fixture(scope="module")
def priced(place: Path) -> Study:
    """A study without cells. Do not change its folder."""
    return run_study(place / "study.yaml", place / "out")


def test_all_points_are_of_the_same_pairs(priced: Study) -> None:
    assert [(p.knows, p.baseline) for p in priced.price] == [
        *((knows, name) for name, knows in BEFORE.items()),
        *((step, name) for step in STEPS for name in AFTER),
    ]
    assert len({(p.accuracy.n, p.families, p.beyond.prior) for p in priced.price}) == 1
    assert sorted({p.spent for p in priced.price}) == [0.0, 0.1, 0.2, 0.4]
    [prior] = [p for p in priced.price if p.baseline == p.beyond.prior]
    assert prior.beyond.value == 0
    for point in priced.price:
        assert point.beyond.value == pytest.approx(point.accuracy.value - prior.accuracy.value)


def test_pairs_without_evidence_of_every_step_are_left_out() -> None:
    config = DataConfig.model_validate({**DATA, "folds": 3})
    found = answers_by_step(config, Loader(), (ONE_EPOCH, "epoch 1 on one"), ["early_rule"])
    one, other = (answers.test[["nn", "dataset_1", "dataset_2"]] for answers in found.values())
    assert len(one) > 20
    assert one.equals(other)
    sides = found["epoch 1 on one"].test[["evidence_1", "evidence_2"]].to_numpy()
    trained = [(a != {}) + (b != {}) for a, b in sides]
    assert set(trained) == {1}


def test_the_page_is_drawn_again_without_data(priced: Study, place: Path) -> None:
    assert run_study(place / "study.yaml", place / "out", draw_only=True).price == priced.price
    page = (place / "out" / "index.html").read_text()
    assert [section.key for section in sections(priced)] == ["price", "made"]
    assert price_sentence(priced.price) in page
    assert "Of 0 cells" not in page
    assert "| epoch 2 on both | 40% | bt_all |" in (place / "out" / "study.md").read_text()


def test_the_picture_has_every_step_and_the_adapters_of_the_level(priced: Study) -> None:
    joined = study(
        cell("evidence", of_families(), split="by_family", family_level="near", spent=0.2),
        cell("all", of_families(), split="by_family", family_level="strict", spent=0.2),
        cell("best", of_families(), split="by_family", family_level="near"),
        price=priced.price,
    )
    found = pictures.price(joined, "near")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", found.svg)
    assert {"nothing", "trained", "epoch 1", "on both", "10%", "100%", "evidence, embedded"} <= set(words)
    assert not {"all, embedded", "best, embedded"} & set(words)
    assert "epoch 1 on both, early_rule: " in found.alt


def test_a_study_has_something_to_show(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("title: Nothing")
    with pytest.raises(UserError, match="a study has cells or price"):
        run_study(tmp_path / "study.yaml", tmp_path / "out")


def test_other_data_are_not_taken_for_these(place: Path, priced: Study, tmp_path: Path) -> None:
    config = yaml.safe_load((place / "study.yaml").read_text())
    config["common"]["data"]["test_networks"] = 1
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(config))
    with pytest.raises(UserError, match="test_networks"):
        run_study(tmp_path / "study.yaml", place / "out", resume=True)


def test_a_key_that_an_older_version_did_not_have_was_its_default(priced: Study, place: Path, tmp_path: Path) -> None:
    older = shutil.copytree(place / "out", tmp_path / "out")
    content = yaml.safe_load((older / GRID).read_text())
    del content["data"]["compact_code"]
    (older / GRID).write_text(yaml.safe_dump(content))
    assert run_study(place / "study.yaml", older, resume=True).price == priced.price


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"label": "percentile"}, "data.label cannot be 'percentile' here: .* with the normalized label"),
        ({"trials": "all"}, "data.trials cannot be 'all' here"),
        ({"split": "by_family", "fold": 1}, "data.fold cannot be 1 here"),
        ({"evidence": {"epochs": [1]}}, "data.evidence cannot be .* here"),
        ({"epoch": 2}, "epochs up to 2 tell of a later one: data.epoch must be above 2, not 2"),
    ],
)
def test_what_is_fixed_cannot_be_set(data: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        answers_by_step(build_config(DataConfig, data), Loader())
