"""What is measured of a cell, counted again from its files."""

from __future__ import annotations

import shutil

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score

from nngpt_ext.errors import UserError
from nngpt_ext.evaluation.statistics import sign_flip_p
from nngpt_ext.study import measure as measuring
from nngpt_ext.study.measure import measure
from tests.study.conftest import CODE, RANDOM, RECIPE

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
        assert part.accuracy is part.prior is part.gain is part.ci95 is part.gain_p is None
        return
    assert part.accuracy == pytest.approx(accuracy_score(rows["better_dataset"], rows["predicted"]))
    assert part.prior == pytest.approx(accuracy_score(rows["better_dataset"], rows["prior"]))
    assert part.gain == pytest.approx(part.accuracy - part.prior)
    if part.networks == 1:  # which has no spread, and not an interval of no width
        assert part.ci95 is part.gain_ci95 is part.gain_p is None
        return
    assert part.ci95[0] <= part.accuracy <= part.ci95[1]
    assert part.gain_ci95[0] - 1e-12 <= part.gain <= part.gain_ci95[1] + 1e-12


def test_every_part_is_what_it_says(cell):
    found, test = cell
    for part in found.involving:
        check(part, test[(test["dataset_1"] == part.name) | (test["dataset_2"] == part.name)])
    for part in found.as_answer:
        check(part, test[test["better_dataset"] == part.name])
    for part in found.pairs:
        check(part, test[(test["dataset_1"] == part.dataset_1) & (test["dataset_2"] == part.dataset_2)])
    ties, close, far, easy = found.margin
    for part, low, high in ((ties, 0, 0.01), (close, 0.01, 0.05), (far, 0.05, 0.2), (easy, 0.2, np.inf)):
        check(part, test[(test["margin"] >= low) & (test["margin"] < high)])
    for part in found.origin:
        if part.name != "all others":
            check(part, test[test["nn"].str.split("-").str[0] == part.name])


def test_parts_that_divide_the_pairs_hold_all_of_them(cell):
    found, test = cell
    for parts in (found.as_answer, found.pairs, found.margin, found.origin, found.near_duplicate, found.cut):
        assert sum(part.n for part in parts) == len(test) == found.n_test_pairs
        hits = sum(part.n * (part.accuracy or 0) for part in parts)
        assert hits == pytest.approx(len(test) * found.accuracy.value)
    assert sum(part.n for part in found.involving) == 2 * len(test)
    assert found.skill.value == pytest.approx(found.accuracy.value - found.prior.value)
    assert found.coverage[-1] == pytest.approx((1.0, found.accuracy.value))
    assert sum(b.n for b in found.reliability) == sum(b.n for b in found.reliability_calibrated) == len(test)


def test_the_tested_parts_have_their_p(cell):
    found, test = cell
    for part in found.involving:
        rows = test[(test["dataset_1"] == part.name) | (test["dataset_2"] == part.name)]
        if part.networks > 1:
            right = (rows["predicted"] == rows["better_dataset"]).astype(int)
            prior = (rows["prior"] == rows["better_dataset"]).astype(int)
            assert part.gain_p == sign_flip_p((right - prior).to_numpy(), rows["nn"].to_numpy())
    assert all(part.gain_p is None for part in found.as_answer)


def test_a_part_of_one_network_has_no_interval():
    parts = measuring._Parts(np.array(["a", "a", "b"], dtype=object), np.array([1, 0, 1]), np.array([0, 0, 1]))
    alone = parts.of("a", np.array([True, True, False]), test_gain=True)
    assert (alone.accuracy, alone.gain) == (0.5, 0.5)
    assert alone.ci95 is alone.gain_ci95 is alone.gain_p is None
    assert parts.of("both", np.array([True, True, True])).ci95 is not None


def test_the_prior_holds_back_by_its_own_confidence(cell):
    """Accuracy among the surest answers is fairly compared with that of a prior that may be unsure too."""
    found, test = cell
    assert found.coverage_prior[-1] == pytest.approx((1.0, found.prior.value))
    confidence = np.maximum(test["pair_prior"], 1 - test["pair_prior"])
    for point in found.coverage_prior:
        sure = test[confidence >= confidence.sort_values(ascending=False).iloc[round(point.coverage * len(test)) - 1]]
        assert point.coverage == pytest.approx(len(sure) / len(test))
        assert point.accuracy == pytest.approx((sure["prior"] == sure["better_dataset"]).mean())


def test_other_baselines_are_beside(cell):
    found, test = cell
    assert set(found.against) == {"code_gbm", "recipe_gbm"}
    for name, gain in found.against.items():
        answers = np.where(test[name] >= 0.5, test["dataset_1"], test["dataset_2"])
        other = accuracy_score(test["better_dataset"], answers)
        assert found.baselines[name] == pytest.approx(other)
        assert gain.value == pytest.approx(found.accuracy.value - other)


def test_sources_that_were_cut(studied):
    """32 tokens hold no network's source; what a run notes is who was cut."""
    (cut, whole) = next(c.figures.cut for c in studied.study.cells if c.name == CODE)
    assert (cut.networks, whole.networks) == (5, 0)


def test_origins_with_few_pairs_stand_together(studied, monkeypatch):
    folder = studied.folder / "cells" / CODE
    test = pd.read_parquet(folder / "predictions.parquet").query("split == 'test'")
    networks = test["nn"].drop_duplicates().str.split("-").str[0].value_counts()
    monkeypatch.setattr(measuring, "FEW", int(networks.max()) + 1)
    (others,) = measure(folder, folder).origin
    assert (others.name, others.n) == ("all others", len(test))
    monkeypatch.setattr(measuring, "FEW", 1)
    assert [part.networks for part in measure(folder, folder).origin] == networks.tolist()


def test_files_that_do_not_belong_together(studied, tmp_path):
    folder = tmp_path / "cell"
    shutil.copytree(studied.folder / "cells" / CODE, folder)
    shutil.copy(studied.folder / "cells" / RANDOM / "baselines.parquet", folder)
    frame = pd.read_parquet(folder / "baselines.parquet")
    frame.iloc[1:].to_parquet(folder / "baselines.parquet")
    with pytest.raises(UserError, match=r"baselines\.parquet' is of other pairs"):
        measure(folder, folder)


def test_a_run_of_an_older_version_is_told(studied, tmp_path):
    folder = tmp_path / "cell"
    shutil.copytree(studied.folder / "cells" / RECIPE, folder)
    (folder / "run.json").write_text('{"near_duplicates": []}')
    with pytest.raises(UserError, match="it has no networks, cut"):
        measure(folder, folder)
