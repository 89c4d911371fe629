"""What is measured of cells, counted again from their files."""

from __future__ import annotations

import shutil
from dataclasses import astuple

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import accuracy_score

from nngpt_ext.data.load import load_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.baselines import pair_prior
from nngpt_ext.evaluation.report import read_report
from nngpt_ext.evaluation.statistics import bootstrap_networks
from nngpt_ext.run_folder import read_record
from nngpt_ext.study import measurement
from nngpt_ext.study.grid import read_grid
from nngpt_ext.study.measurement import DATASETS, NEAR, compare_bases, learning_curve, measure
from nngpt_ext.tasks.pipeline import Loader
from tests.predict.conftest import older
from tests.study.conftest import CODE, COMMON, FOLDED_NEAR, FOLDED_STRICT, RANDOM, RECIPE, written

KEYS = ["nn", "epoch", "dataset_1", "dataset_2"]


@pytest.fixture(params=[CODE, RANDOM])
def cell(request, studied):
    """Figures of a cell, and its test pairs with the prior's answers."""
    folder = studied.folder / "cells" / request.param
    found = next(c.figures for c in studied.study.cells if c.name == request.param)
    test = pd.read_parquet(folder / "predictions.parquet").query("split == 'test'")
    test = test.merge(pd.read_parquet(folder / "baselines.parquet"), on=KEYS, validate="one_to_one")
    test["prior"] = np.where(test["pair_prior"] >= 0.5, test["dataset_1"], test["dataset_2"])
    return found, test


def check(part, rows) -> None:
    assert (part.n, part.networks) == (len(rows), rows["nn"].nunique())
    if part.n == 0:
        assert part.accuracy is part.prior is part.gain is part.ci95 is None
        return
    assert part.accuracy == pytest.approx(accuracy_score(rows["better_dataset"], rows["predicted"]))
    assert part.prior == pytest.approx(accuracy_score(rows["better_dataset"], rows["prior"]))
    assert part.gain == pytest.approx(part.accuracy - part.prior)
    if part.networks == 1:  # which has no spread, and not an interval of no width
        assert part.ci95 is part.gain_ci95 is None
        return
    assert part.ci95[0] <= part.accuracy <= part.ci95[1]
    assert part.gain_ci95[0] - 1e-12 <= part.gain <= part.gain_ci95[1] + 1e-12


def test_every_slice_is_what_it_says(cell):
    found, test = cell
    for part in found.slices[DATASETS]:
        check(part, test[(test["dataset_1"] == part.name) | (test["dataset_2"] == part.name)])
    for part in found.slices["Pairs whose answer is the dataset"]:
        check(part, test[test["better_dataset"] == part.name])
    for part in found.slices["Pairs of datasets"]:
        check(part, test[test["dataset_1"] + " / " + test["dataset_2"] == part.name])
    margins = found.slices["Margin between the two scores"]
    for part, low, high in zip(margins, (0, 0.01, 0.05, 0.2), (0.01, 0.05, 0.2, np.inf), strict=True):
        check(part, test[(test["margin"] >= low) & (test["margin"] < high)])
    for part in found.slices["Origin of the network"]:
        if part.name != "all others":
            check(part, test[test["nn"].str.split("-").str[0] == part.name])
    assert found.slices[NEAR][0].name == "with a near-duplicate in training"


def test_slices_that_divide_the_pairs_hold_all_of_them(cell):
    found, test = cell
    for title, parts in found.slices.items():
        assert sum(part.n for part in parts) == len(test) * (2 if title == DATASETS else 1)
        if title != DATASETS:
            assert sum(part.n * (part.accuracy or 0) for part in parts) == pytest.approx(
                len(test) * found.accuracy.value
            )
    assert found.skill.value == pytest.approx(found.accuracy.value - found.prior)
    assert astuple(found.coverage[-1]) == pytest.approx((1.0, found.accuracy.value))
    assert sum(b.n for b in found.reliability) == sum(b.n for b in found.reliability_calibrated) == len(test)


def test_the_prior_holds_back_by_its_own_confidence(cell):
    """Accuracy among the surest answers is fairly compared with that of a prior that may be unsure too."""
    found, test = cell
    assert astuple(found.coverage_prior[-1]) == pytest.approx((1.0, found.prior))
    confidence = np.maximum(test["pair_prior"], 1 - test["pair_prior"])
    for point in found.coverage_prior:
        sure = test[confidence >= confidence.sort_values(ascending=False).iloc[round(point.coverage * len(test)) - 1]]
        assert point.coverage == pytest.approx(len(sure) / len(test))
        assert point.accuracy == pytest.approx((sure["prior"] == sure["better_dataset"]).mean())


def test_every_baseline_is_beside(cell):
    found, test = cell
    assert {"code_gbm", "recipe_gbm"} <= found.others.keys()
    for name, baseline in found.others.items():
        answers = np.where(test[name] >= 0.5, test["dataset_1"], test["dataset_2"])
        assert baseline.accuracy == pytest.approx(accuracy_score(test["better_dataset"], answers))
        assert baseline.difference.value == pytest.approx(found.accuracy.value - baseline.accuracy)


def test_sources_that_were_cut(studied):
    """32 tokens hold no network's source; the run notes which were cut."""
    (cut, whole) = next(c.figures.slices["Source shown"] for c in studied.study.cells if c.name == CODE)
    assert (cut.networks, whole.networks) == (5, 0)


def test_origins_with_few_networks_stand_together(studied, monkeypatch):
    folder = studied.folder / "cells" / CODE
    test = pd.read_parquet(folder / "predictions.parquet").query("split == 'test'")
    networks = test["nn"].drop_duplicates().str.split("-").str[0].value_counts()
    monkeypatch.setattr(measurement, "OWN_ROW", int(networks.max()) + 1)
    (others,) = measure(folder, folder).slices["Origin of the network"]
    assert (others.name, others.n) == ("all others", len(test))
    monkeypatch.setattr(measurement, "OWN_ROW", 1)
    assert [part.networks for part in measure(folder, folder).slices["Origin of the network"]] == networks.tolist()


def test_all_folds_are_measured_over_families(folded):
    """From the pooled folder: its intervals, and those of its slices, are over families."""
    for name, cell in zip((FOLDED_NEAR, FOLDED_STRICT), folded.study.cells, strict=True):
        folder, found = folded.folder / "cells" / name, cell.figures
        report = read_report(folder)
        assert found.skill_beyond_best_prior == report.skill_beyond_best_prior
        assert found.families == report.families
        assert (found.n_train_networks, found.n_train_pairs) == (None, report.n_train_pairs)
        test = pd.read_parquet(folder / "predictions.parquet")
        families = test["nn"].map(read_record(folder)["families"]).to_numpy(dtype=object)
        right = (test["predicted"] == test["better_dataset"]).to_numpy()
        assert found.families.families == len(set(families)) <= found.n_test_networks == test["nn"].nunique() == 8
        for part in found.slices["Pairs of datasets"]:
            rows = (test["dataset_1"] + " / " + test["dataset_2"] == part.name).to_numpy()
            assert (part.n, part.accuracy) == (rows.sum(), right[rows].mean())
            alone = len(set(families[rows])) == 1
            assert part.ci95 == (None if alone else bootstrap_networks(right[rows], families[rows]))


def test_files_that_do_not_belong_together(studied, tmp_path):
    folder = tmp_path / "cell"
    older(shutil.copytree(studied.folder / "cells" / CODE, folder))
    shutil.copy(studied.folder / "cells" / RANDOM / "baselines.parquet", folder)
    frame = pd.read_parquet(folder / "baselines.parquet")
    frame.iloc[1:].to_parquet(folder / "baselines.parquet")
    with pytest.raises(UserError, match=r"baselines\.parquet' has other pairs"):
        measure(folder, folder)


def test_a_run_of_an_older_version_is_told(studied, tmp_path):
    folder = tmp_path / "cell"
    shutil.copytree(studied.folder / "cells" / RECIPE, folder)
    (folder / "run.json").write_text('{"near_duplicates": []}')
    with pytest.raises(UserError, match="it has no networks, cut"):
        measure(folder, folder)


BASES = ["embedded", "embedded-small"]


@pytest.fixture
def twins(studied, tmp_path):
    """A real cell, and the same questions answered otherwise, as by another base."""
    block = {"prompts": ["code_only"], "bases": BASES, "labels": ["normalized", "percentile"]}
    found = [c for c in read_grid(written(tmp_path, {"cells": [block]})).cells if c.label == "normalized"]
    real = pd.read_parquet(studied.folder / "cells" / CODE / "predictions.parquet")
    turned = np.random.default_rng(0).random(len(real)) < 0.3
    other = np.where(real["predicted"] == real["dataset_1"], real["dataset_2"], real["dataset_1"])
    frames = real, real.assign(predicted=np.where(turned, other, real["predicted"])).iloc[::-1]  # in another order
    for cell, frame in zip(found, frames, strict=True):
        (tmp_path / cell.name).mkdir()
        frame.to_parquet(tmp_path / cell.name / "predictions.parquet")
    return [(cell, tmp_path / cell.name) for cell in found]


def test_the_difference_is_of_the_same_pairs(twins):
    (found,) = compare_bases(twins)
    one, two = (pd.read_parquet(folder / "predictions.parquet").query("split == 'test'") for _, folder in twins)
    right = [(frame["predicted"] == frame["better_dataset"]).mean() for frame in (one, two)]
    assert (found.first, found.second) == tuple(cell.name for cell, _ in twins)
    assert (found.n, found.networks) == (len(one), one["nn"].nunique())
    assert found.difference.value == pytest.approx(right[0] - right[1])
    both = one.merge(two, on=["nn", "dataset_1", "dataset_2"])
    hits = [both[f"predicted_{side}"] == both[f"better_dataset_{side}"] for side in ("x", "y")]
    gains = (hits[0].astype(int) - hits[1].astype(int)).groupby(both["nn"]).sum().to_numpy()
    exact = stats.permutation_test((gains,), np.sum, permutation_type="samples", n_resamples=np.inf)
    assert found.difference.p == pytest.approx(exact.pvalue, abs=0.02)


def test_where_families_stay_together_the_difference_is_over_them(folded, tmp_path):
    one = read_grid(folded.file).cells[1]
    two = one.model_copy(update={"base": "embedded", "name": "other"})
    for cell in (one, two):
        shutil.copytree(folded.folder / "cells" / FOLDED_STRICT, tmp_path / cell.name)
    file = tmp_path / "other" / "predictions.parquet"
    test = pd.read_parquet(file)
    test.assign(predicted=test["dataset_1"]).to_parquet(file)
    (found,) = compare_bases([(cell, tmp_path / cell.name) for cell in (one, two)])
    gains = (test["predicted"] == test["better_dataset"]).astype(int) - (test["dataset_1"] == test["better_dataset"])
    families = test["nn"].map(read_record(tmp_path / one.name)["families"])
    assert families.nunique() < test["nn"].nunique()
    expected = bootstrap_networks(gains.to_numpy("float64"), families.to_numpy(dtype=object))
    assert found.difference.ci95 == pytest.approx(expected)


def test_a_cell_equals_itself(twins):
    (one, folder), (two, _) = twins
    (found,) = compare_bases([(one, folder), (two, folder)])
    assert (found.difference.value, found.difference.ci95, found.difference.p) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize("change", [{"prompt": "recipe"}, {"label": "percentile"}, {"seed": 1}, {"base": "embedded"}])
def test_other_questions_are_not_compared(twins, change):
    (one, folder), (two, other) = twins
    assert compare_bases([(one, folder), (two.model_copy(update=change), other)]) == []


def test_other_pairs_are_not_compared(twins):
    _, (_, other) = twins
    frame = pd.read_parquet(other / "predictions.parquet")
    frame.drop(index=frame.index[frame["split"] == "test"][0]).to_parquet(other / "predictions.parquet")
    assert compare_bases(twins) == []


def test_points_are_the_baselines_after_so_many_networks(studied):
    few, more = studied.study.learning_curve
    assert (few.networks, more.networks) == (3, 6)
    data = load_pairs(DataConfig(**{**COMMON["data"], "train_networks": 3}))
    test = data.part("test")
    answers = np.where(pair_prior(data.training, test) >= 0.5, test["dataset_1"], test["dataset_2"])
    assert few.accuracy["pair_prior"] == pytest.approx((answers == test["better_dataset"]).mean())
    low, high = few.ci95["pair_prior"]
    assert low <= few.accuracy["pair_prior"] <= high
    assert (few.train_pairs, few.n_test_pairs) == (len(data.training), len(test))


def test_the_last_point_is_that_of_the_cell_with_as_many(studied):
    found = next(cell.figures for cell in studied.study.cells if cell.name == CODE)
    assert studied.study.learning_curve[-1].accuracy == pytest.approx(
        {name: baseline.accuracy for name, baseline in found.baselines.items()}
    )
    own = pd.read_parquet(studied.folder / "cells" / CODE / "baselines.parquet")
    assert studied.study.learning_curve[-1].n_test_pairs == len(own)


def test_without_data_there_is_no_curve_and_no_fault(tmp_path, studied, caplog):
    config = read_grid(studied.file).cells[0].config.data.model_copy(update={"path": str(tmp_path / "none")})
    assert learning_curve(config, [3], Loader()) == []
    assert "no learning curve of the baselines: no records at" in caplog.text
