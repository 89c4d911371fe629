"""A study's file: cells from lists, and everything that is wrong with it in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from nngpt_ext.config import TaskConfig
from nngpt_ext.errors import UserError
from nngpt_ext.models import presets
from nngpt_ext.prompts.builtin import get_template
from nngpt_ext.settings import read_project
from nngpt_ext.study.grid import read_grid
from tests.study.conftest import CODE, CUT, RANDOM, RECIPE, grid, written

EXAMPLES = Path(__file__).parents[2] / "examples"
BLOCK = {"prompts": ["code_only"], "bases": ["embedded"]}


def fault(folder: Path, content) -> str:
    with pytest.raises(UserError) as told:
        read_grid(written(folder, content))
    assert "\n" not in str(told.value)
    return str(told.value)


def test_cells_are_runs_in_the_order_of_the_file(tmp_path):
    found = read_grid(written(tmp_path, grid()))
    assert [cell.name for cell in found.cells] == [
        CODE, CUT, RECIPE, RANDOM, "code_only.deepseek-coder-7b.by_network.normalized.seed0",
    ]  # fmt: skip
    code, cut, recipe, random, _ = found.cells
    assert code.config.prompt == "code_only"
    assert code.config.data.train_networks == 6  # of common
    assert cut.config.tuning.row_tokens == 64  # of the block's settings
    assert (recipe.run, random.run) == (RECIPE, RECIPE)
    assert recipe.config == random.config  # the run that is asked is the same


def test_every_combination_of_the_lists(tmp_path):
    block = {
        "prompts": ["code_only", "recipe"], "bases": ["embedded"], "splits": ["by_network", "random_pairs"],
        "labels": ["normalized", "percentile"], "seeds": [0, 3], "train_networks": [None, 4],
    }  # fmt: skip
    cells = read_grid(written(tmp_path, grid(cells=[block, BLOCK]))).cells
    assert len(cells) == 2**5  # what the second block has is there already
    assert len({cell.name for cell in cells}) == len(cells)
    last = cells[-1]
    assert last.name == "recipe.embedded.random_pairs.percentile.seed3.4networks"
    data = last.config.data
    assert (last.config.prompt, data.split, data.label, data.seed) == ("recipe", "random_pairs", "percentile", 3)
    assert (data.train_networks, last.config.tuning.seed) == (4, 3)


def test_all_unknown_names_are_told_at_once(tmp_path):
    cells = [
        {"prompts": ["code_onyl", "recipe", "story"], "bases": ["embeded", "./none"], "splits": ["by_networks"]},
        {"prompts": ["none.json"], "bases": ["deepseek-coder-70b"], "labels": ["percent"]},
    ]
    line = fault(tmp_path, grid(cells=cells))
    assert "unknown prompt 'code_onyl' (did you mean 'code_only'?); known: code_only, " in line
    assert "unknown base model 'embeded' (did you mean 'embedded'?); known: " in line
    assert all(
        what in line
        for what in ("unknown prompt 'story'", "there is no './none'", "unknown base model 'deepseek-coder-70b'")
    )
    assert "unknown split 'by_networks' (did you mean 'by_network'?); known: by_" in line
    assert "unknown label 'percent' (did you mean 'percentile'?); known: normalized, percentile" in line
    assert "cannot read the prompt file 'none.json'" in line


def test_names_in_a_block_with_another_fault_are_told_too(tmp_path):
    cells = [
        {"prompts": ["code_onyl"], "bases": "embeded", "split": ["x"]},
        {"prompts": ["stroy"], "bases": ["embeded"]},
    ]
    line = fault(tmp_path, grid(cells=cells))
    assert "unknown key 'split' (did you mean 'splits'?)" in line
    assert all(f"unknown prompt '{name}'" in line for name in ("code_onyl", "stroy"))
    assert "unknown base model 'embeded'" in line


def test_a_preset_is_known_as_soon_as_it_exists(tmp_path, monkeypatch):
    small = grid(cells=[{**BLOCK, "bases": ["another-preset"]}])
    assert "unknown base model 'another-preset'" in fault(tmp_path, small)
    monkeypatch.setitem(presets.PRESETS, "another-preset", presets.preset("embedded"))
    assert read_grid(written(tmp_path, small)).cells[0].base == "another-preset"


def test_folders_and_hub_ids_are_bases(tmp_path):
    folder = tmp_path / "my model"
    folder.mkdir()
    (one, two) = read_grid(written(tmp_path, grid(cells=[{**BLOCK, "bases": [str(folder), "owner/name"]}]))).cells
    assert one.name.startswith("code_only.my-model-")
    assert two.name.startswith("code_only.name-")
    assert all("/" not in cell.name and " " not in cell.name for cell in (one, two))


def test_each_family_level_is_a_cell(tmp_path):
    block = {**BLOCK, "splits": ["by_family", "by_network"], "family_levels": ["strict", "near"]}
    strict, near, network = read_grid(written(tmp_path, grid(cells=[block]))).cells
    assert strict.name == "code_only.embedded.by_family.strict.normalized.seed0"
    assert near.name == "code_only.embedded.by_family.near.normalized.seed0"
    assert (strict.setting, network.setting) == ("by_family strict, normalized", "by_network, normalized")
    assert [cell.config.data.family_level for cell in (strict, near)] == ["strict", "near"]
    assert (network.name, network.family_level, network.config.data.family_level) == (CODE, None, "near")
    (alone,) = read_grid(written(tmp_path, grid(cells=[{**BLOCK, "splits": ["by_family"]}]))).cells
    assert alone == near


def test_one_fold_may_be_tested_on_random_trials(tmp_path):
    block = {**BLOCK, "splits": ["by_family"], "tested_on": ["best", "random"], "settings": {"data": {"fold": 1}}}
    best, random = read_grid(written(tmp_path, grid(cells=[block]))).cells
    assert (best.run, random.run) == (best.name, best.name)


def test_a_tag_is_no_test_on_random_trials(tmp_path):
    (cell,) = read_grid(written(tmp_path, grid(cells=[{**BLOCK, "tag": "random_trials"}]))).cells
    assert cell.run == cell.name == f"{CODE}.random_trials"


MISTAKES = {
    "unknown key": (grid(cels=[]), "unknown key 'cels' (did you mean 'cells'?)"),
    "unknown key of a block": (
        grid(cells=[BLOCK, {**BLOCK, "prompt": "recipe"}]),
        "cells, block 2: unknown key 'prompt' (did you mean 'prompts'?)",
    ),
    "no cells": (grid(cells=[]), "a study has cells or price"),
    "no prompts": (grid(cells=[{**BLOCK, "prompts": []}]), "block 1: prompts: list should have at least 1 item"),
    "no list": (grid(cells=[{**BLOCK, "prompts": "recipe"}]), "block 1: prompts: must be a list"),
    "key of a run": (
        grid(common={"tuning": {"epoks": 3}}),
        "unknown key 'tuning.epoks' (did you mean 'tuning.epochs'?)",
    ),
    "value of a run": (
        grid(cells=[{**BLOCK, "settings": {"data": {"epoch": 0}}}]),
        "data.epoch: must be greater than or equal to 1",
    ),
    "origin": (grid(cells=[{**BLOCK, "settings": {"data": {"hold_out": "ga"}}}]), "hold_out goes with split by_origin"),
    "set twice": (
        grid(common={"data": {"split": "by_cluster"}}),
        "common: data.split is set by the lists of the cells",
    ),
    "set twice in a block": (
        grid(cells=[{**BLOCK, "settings": {"prompt": "recipe"}}]),
        "settings: prompt is set by the lists of the cells",
    ),
    "two of a name": (
        grid(cells=[BLOCK, {**BLOCK, "settings": {"tuning": {"epochs": 2}}}]),
        f"two blocks make the cell {CODE} with different settings",
    ),
    "level set twice": (
        grid(cells=[{**BLOCK, "splits": ["by_family"], "settings": {"data": {"family_level": "strict"}}}]),
        "settings: data.family_level is set by the lists of the cells",
    ),
    "level": (
        grid(cells=[{**BLOCK, "splits": ["by_family"], "family_levels": ["strickt"]}]),
        "block 1: family_levels.0: unknown family level 'strickt' (did you mean 'strict'?)",
    ),
    "level without families": (
        grid(cells=[{**BLOCK, "splits": ["by_network", "by_cluster"], "family_levels": ["near", "strict"]}]),
        "family_levels goes with split by_family, not by_network, by_cluster",
    ),
    "random trials of all folds": (
        grid(cells=[{**BLOCK, "splits": ["by_family"], "tested_on": ["random"]}]),
        "tested_on: random needs the adapter of one run, and by_family has one for each fold; choose a fold (settings: "
        "{data: {fold: 0}}), or leave random out",
    ),
    "curve": (grid(learning_curve=[0]), "learning_curve.0: must be greater than 0"),
    "tested on": (grid(cells=[{**BLOCK, "tested_on": ["worst"]}]), "block 1: tested_on.0: must be 'best' or"),
    "no YAML": ("a: [", "is not YAML"),
    "no keys": ("- a", "has no keys"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(tmp_path, case):
    content, reason = MISTAKES[case]
    assert reason in fault(tmp_path, content)


def test_no_file(tmp_path):
    with pytest.raises(UserError, match="cannot read the configuration"):
        read_grid(tmp_path / "none.yaml")


@pytest.fixture
def small_preset(monkeypatch):
    """The example names a base that a later version of the package ships."""
    if "embedded-small" not in presets.PRESETS:
        monkeypatch.setitem(presets.PRESETS, "embedded-small", presets.preset("embedded"))


@pytest.mark.parametrize("name", ["study", "study_quick", "study_deepseek"])
def test_the_examples_are_studies(name, small_preset):
    assert read_grid(EXAMPLES / f"{name}.yaml").cells


def test_a_price_needs_no_cells():
    grid = read_grid(EXAMPLES / "price.yaml")
    assert (grid.cells, grid.price, grid.data.epoch) == ([], ["near", "strict"], 5)


def test_the_study_has_its_cells(small_preset):
    every = [cell for cell in read_grid(EXAMPLES / "study.yaml").cells if cell.not_here is None]
    cells = [cell for cell in every if cell.split != "by_family"]
    assert (len(every), len(cells)) == (26, 15)
    usual = ("by_network", "normalized", "embedded", "best")
    assert {c.prompt for c in cells if (c.split, c.label, c.base, c.tested_on) == usual} == {
        "code_only",
        "metadata",
        "metadata_only",
        "normalized_accuracy",
        "recipe",
    }
    few = [c.base for c in cells if c.train_networks == 400]
    assert few == ["embedded-small", "embedded", "smollm2-135m"]
    for axis, value in (("split", "by_cluster"), ("label", "percentile"), ("base", "embedded-small")):
        assert {c.prompt for c in cells if getattr(c, axis) == value} == {"code_only", "recipe"}
    assert [c.prompt for c in cells if c.tested_on == "random"] == ["recipe"]


def test_the_study_tests_families_as_their_example_does():
    """The cell of its prompt is the run of examples/families.yaml; prompts without lines answer pairs."""
    cells = [cell for cell in read_grid(EXAMPLES / "study.yaml").cells if cell.split == "by_family"]
    assert {(cell.prompt, cell.base, cell.family_level) for cell in cells} == {
        (prompt, "embedded-2", level)
        for prompt in ("code_only", "structure", "recipe", "recipe_structure", "recipe_structure_evidence")
        for level in ("near", "strict")
    } | {("recipe_structure", "smollm2-135m", "near")}
    example = TaskConfig.model_validate(read_project(EXAMPLES / "families.yaml", "dataset_compare"))
    found = next(cell for cell in cells if cell.prompt == "recipe_structure" and cell.family_level == "near")
    assert found.config == example.model_copy(update={"store": None})
    example = TaskConfig.model_validate(read_project(EXAMPLES / "evidence.yaml", "dataset_compare"))
    found = next(cell for cell in cells if cell.tag == "epoch1" and cell.family_level == "near")
    assert found.config == example.model_copy(update={"store": None})
    for cell in cells:
        lines = get_template(cell.prompt).lines is not None
        assert (cell.config.tuning.head, cell.config.tuning.offset) == (
            ("lines", "kind_prior") if lines else ("answer", "none")
        )
        assert cell.config.data.all_folds


def test_what_runs_on_a_card_fits_into_the_study(small_preset, tmp_path):
    """The finished cells of the one file are shown by the other: the same names, the same settings."""
    one, two = (
        {cell.name: cell.config.resolved(tmp_path) for cell in read_grid(EXAMPLES / f"{name}.yaml").cells}
        for name in ("study", "study_deepseek")
    )
    names = [name for name in one if "deepseek" in name]
    assert len(names) == 2
    for name in names:
        assert two[name].model_copy(update={"store": None}) == one[name]


def test_the_deepseek_study_has_the_papers_epochs():
    cells = read_grid(EXAMPLES / "study_deepseek.yaml").cells
    assert {cell.base for cell in cells} == {"deepseek-coder-1.3b", "deepseek-coder-7b"}
    assert {cell.config.tuning.epochs for cell in cells} == {15}
