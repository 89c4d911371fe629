"""Cells side by side: the same question put to two base models, on the very same test pairs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nngpt_ext.evaluation.groups import difference
from nngpt_ext.study.grid import Cell
from nngpt_ext.study.schema import Comparison
from nngpt_ext.tasks.baselines import KEYS
from nngpt_ext.tasks.folder import PREDICTIONS
from nngpt_ext.tasks.reporting import read_table


def compare_bases(cells: Sequence[tuple[Cell, Path]]) -> list[Comparison]:
    """The accuracy of one base minus that of another, for each two cells that differ in their base alone.

    A difference of two intervals says little where both stand on the same pairs: what one gains over the other is
    measured pair by pair, with the interval and the p of `nngpt_ext.evaluation.statistics`.

    Args:
        cells: finished cells, each with the folder of its predictions. Two whose test pairs, or whose answers to
            them, are not the same are not compared.

    Raises:
        UserError: when predictions are missing or damaged.
    """
    found = []
    for (one, folder), (two, other) in itertools.combinations(cells, 2):
        if one.base == two.base or _but_base(one) != _but_base(two):
            continue
        mine, theirs = _answers(folder), _answers(other)
        pairs = mine.merge(theirs, on=[*KEYS, "better_dataset"], validate="one_to_one")
        if not len(pairs) == len(mine) == len(theirs):
            continue
        networks = pairs["nn"].to_numpy(dtype=object)
        found.append(
            Comparison(
                first=one.name,
                second=two.name,
                n=len(pairs),
                networks=len(set(networks)),
                difference=difference(pairs["right_x"].to_numpy(), pairs["right_y"].to_numpy(), networks),
            )
        )
    return found


def _but_base(cell: Cell) -> tuple[object, ...]:
    return (cell.prompt, cell.split, cell.label, cell.seed, cell.train_networks, cell.tested_on, cell.tag)


def _answers(folder: Path) -> pd.DataFrame:
    """The test pairs of a cell, what is right, and whether it was said."""
    predictions = read_table(folder / PREDICTIONS)
    test = predictions[predictions["split"] == "test"]
    return test[[*KEYS, "better_dataset"]].assign(right=test["predicted"] == test["better_dataset"])
