"""The parts of a report: what JSON cannot hold is null, and the table of datasets comes back from its nesting."""

from __future__ import annotations

import json
import math

import pandas as pd
import pytest
from pydantic import BaseModel, ValidationError

from nngpt_ext.evaluation.figures import (
    Epoch,
    Group,
    NearDuplicates,
    PerDataset,
    Skill,
    per_dataset_nested,
    per_dataset_table,
)

EMPTY = {"accuracy": None, "ci95": None, "n": 0, "prior": None}
NESTED = {
    "mnist": {"involving": {"accuracy": 0.75, "ci95": (0.5, 0.875), "n": 40, "prior": 0.5}, "as_answer": EMPTY},
    "svhn": {"involving": EMPTY, "as_answer": {"accuracy": 1.0, "ci95": (1.0, 1.0), "n": 3, "prior": 0.25}},
}


class Holder(BaseModel):
    per_dataset: PerDataset


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_null(value: float) -> None:
    found = Epoch(epoch=1, train_loss=value, test_accuracy=0.5)
    assert json.loads(found.model_dump_json())["train_loss"] is None
    assert found.test_accuracy == 0.5


@pytest.mark.parametrize(("ci95", "clear"), [((0.01, 0.2), True), ((-0.2, -0.01), True), ((0.0, 0.2), False)])
def test_a_skill_is_clear_of_zero_only_if_its_interval_excludes_it(ci95: tuple[float, float], clear: bool) -> None:
    assert Skill(value=0.1, ci95=ci95, p=0.5).clear_of_zero is clear


def test_near_duplicates_are_called_with_and_without() -> None:
    groups = {"with": Group(accuracy=0.8, prior=0.7, n=9), "without": Group(accuracy=None, prior=None, n=0)}
    found = NearDuplicates(threshold=0.85, share_of_test_networks=0.9, **groups)
    assert {"with", "without"} <= set(found.model_dump())
    assert NearDuplicates.model_validate(found.model_dump()).with_.n == 9


def test_the_table_of_datasets_comes_back() -> None:
    table = per_dataset_table(NESTED)
    assert table.loc["mnist", "involving_low"] == 0.5
    assert table["as_answer_n"].tolist() == [0, 3]
    assert per_dataset_nested(table) == NESTED
    assert per_dataset_table(table) is table
    dumped = json.loads(Holder(per_dataset=table).model_dump_json())
    pd.testing.assert_frame_equal(Holder.model_validate(dumped).per_dataset, table)


def test_a_part_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Group(accuracy=0.5, prior=0.5, n=1).n = 2  # type: ignore[misc]
