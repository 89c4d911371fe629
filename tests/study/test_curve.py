"""The baselines' learning curve."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.data.load import load_pairs
from nngpt_ext.study.curve import FILE, learning_curve
from nngpt_ext.study.folder import StudyFolder
from nngpt_ext.study.grid import read_grid
from nngpt_ext.tasks.loading import Loader
from tests.study.conftest import CODE, COMMON


def test_points_are_the_baselines_after_so_many_networks(studied):
    few, more = studied.study.learning_curve
    assert (few.networks, more.networks) == (3, 6)
    limits = {part: COMMON["data"][f"{part}_networks"] for part in ("validation", "test")}
    data = load_pairs(networks={**limits, "train": 3})
    test = data.part("test")
    answers = np.where(pair_prior(data.training, test) >= 0.5, test["dataset_1"], test["dataset_2"])
    assert few.accuracy["pair_prior"] == pytest.approx((answers == test["better_dataset"]).mean())
    low, high = few.ci95["pair_prior"]
    assert low <= few.accuracy["pair_prior"] <= high
    assert (few.train_pairs, few.n_test_pairs) == (len(data.training), len(test))


def test_the_last_point_is_that_of_the_cell_with_as_many(studied):
    found = next(cell.figures for cell in studied.study.cells if cell.name == CODE)
    assert studied.study.learning_curve[-1].accuracy == pytest.approx(found.baselines)
    own = pd.read_parquet(studied.folder / "cells" / CODE / "baselines.parquet")
    assert studied.study.learning_curve[-1].n_test_pairs == len(own)


def test_no_data_no_curve_and_no_fault(studied, tmp_path, caplog):
    grid = read_grid(studied.file)
    place = StudyFolder(tmp_path)
    data = grid.cells[0].config.data.model_copy(update={"path": str(tmp_path / "none")})
    first = grid.cells[0].model_copy(update={"config": grid.cells[0].config.model_copy(update={"data": data})})
    without = grid._replace(cells=[first, *grid.cells[1:]])
    assert learning_curve(without, place, Loader(), compute=True) == []
    assert "no learning curve of the baselines: no LEMUR at" in caplog.text
    assert not (tmp_path / FILE).exists()


def test_a_damaged_file_is_computed_again(studied, tmp_path):
    (tmp_path / FILE).write_text("{")
    grid, place = read_grid(studied.file), StudyFolder(tmp_path)
    assert learning_curve(grid, place, Loader(), compute=False) == []
    assert learning_curve(grid, place, Loader(), compute=True) == studied.study.learning_curve
    assert learning_curve(grid, place, Loader(), compute=False) == studied.study.learning_curve
