"""The data part of a configuration: declared choices, options that belong to one split, and its limits."""

from __future__ import annotations

from typing import Any

import pytest

from nngpt_ext.data.labels import LABELS
from nngpt_ext.data.lineage import LEVELS
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.data.sources.discovery import KINDS
from nngpt_ext.data.splits import PARTS, SPLITS
from nngpt_ext.data.trials import USES
from nngpt_ext.errors import UserError
from nngpt_ext.settings import build_config
from tests.data.small import one_line

CHOICES = {"source": KINDS, "label": LABELS, "trials": USES, "split": SPLITS, "family_level": LEVELS}


@pytest.mark.parametrize("key", CHOICES)
def test_choices_are_the_declared_names(key: str) -> None:
    for name in CHOICES[key]:
        needed = {"hold_out": "ga"} if key == "split" and "hold_out" in SPLITS[name].options else {}
        if key == "family_level":
            needed = {"split": "by_family"}
        assert getattr(build_config(DataConfig, {key: name, **needed}), key) == name
    extra: Any = DataConfig.model_fields[key].json_schema_extra
    assert extra["choices"] == list(CHOICES[key])
    with pytest.raises(UserError) as caught:
        build_config(DataConfig, {key: "other"})
    message = one_line(caught.value)
    assert "'other'" in message
    assert all(name in message for name in CHOICES[key])


@pytest.mark.parametrize("split", [name for name in SPLITS if "hold_out" not in SPLITS[name].options])
def test_an_option_belongs_to_the_splits_that_declare_it(split: str) -> None:
    assert build_config(DataConfig, {"split": "by_origin", "hold_out": "ga"}).hold_out == "ga"
    with pytest.raises(UserError, match=f"hold_out goes with split by_origin, not {split}"):
        build_config(DataConfig, {"split": split, "hold_out": "ga"})


@pytest.mark.parametrize(("key", "value"), [("fold", 0), ("folds", 4), ("family_level", "strict"), ("family_cap", 9)])
def test_options_of_families_belong_to_by_family(key: str, value: object) -> None:
    config = build_config(DataConfig, {"split": "by_family", key: value})
    assert getattr(config.options, key) == value
    with pytest.raises(UserError) as error:
        build_config(DataConfig, {key: value})
    takers = "by_family, by_dataset" if key == "fold" else "by_family"
    assert one_line(error.value) == f"configuration: {key} goes with split {takers}, not by_network"


def test_a_configuration_for_each_fold() -> None:
    config = DataConfig(split="by_family", folds=3)
    assert config.all_folds
    assert not DataConfig(split="by_family", fold=2).all_folds
    assert not DataConfig().all_folds
    with pytest.raises(UserError) as error:
        build_config(DataConfig, {"split": "by_family", "fold": 5})
    assert one_line(error.value) == "configuration: fold 5 does not exist; with 5 folds they are 0 to 4"


def test_limits_by_part() -> None:
    config = DataConfig(train_networks=3, test_networks=1)
    assert {part: config.networks(part) for part in PARTS} == {"train": 3, "validation": None, "test": 1}


@pytest.mark.parametrize(
    ("key", "value"), [("epoch", 0), ("epoch", 10**7), ("seed", -1), ("seed", 2**32), ("train_networks", 0)]
)
def test_numbers_out_of_range(key: str, value: int) -> None:
    with pytest.raises(UserError, match=key):
        build_config(DataConfig, {key: value})


def test_early_accuracies_need_training_on_every_dataset() -> None:
    with pytest.raises(UserError) as error:
        build_config(DataConfig, {"split": "by_dataset", "evidence": {"epochs": [1]}})
    assert one_line(error.value).startswith("configuration: evidence.epochs do not go with split by_dataset: ")
