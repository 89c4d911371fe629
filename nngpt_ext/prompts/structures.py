"""Pairs with the structures that a prompt shows of their networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pandas as pd

from nngpt_ext.data.lineage import source_keys
from nngpt_ext.data.load import PairData
from nngpt_ext.networks.structure import Shape, Structure, input_shape
from nngpt_ext.prompts.fields import GIVEN
from nngpt_ext.prompts.template import Template


def with_structures(data: PairData, template: Template, run_code: str = "sandbox") -> PairData:
    """The same pairs with the columns `structure_1` and `structure_2` if the prompt shows structures.

    A structure is that at the resolution of the side's recipe if the prompt shows anything of a recipe, else at the
    dataset's own size. Where none could be measured it is one without any number, which prompts show as `unknown`.

    Args:
        data: pairs of any source of records.
        template: the prompt.
        run_code: what is done where neither the package nor the cache has a structure (`networks.run_code`).

    Raises:
        UserError: if something has to be measured and this machine has no sandbox.
    """
    if not template.takes(GIVEN["structure"]):
        return data
    from nngpt_ext.networks.catalogue import structures

    tables = (data.pairs, data.training)
    shapes = [[_shapes(table, i, data, template) for i in (1, 2)] for table in tables]
    wanted = {
        (nn, shape)
        for table, sides in zip(tables, shapes, strict=True)
        for side in sides
        for nn, shape in zip(table["nn"], side, strict=True)
    }
    found = structures(((data.sources[nn], shape) for nn, shape in sorted(wanted)), run_code)
    keys = source_keys({nn: data.sources[nn] for nn in {nn for nn, _ in wanted}})

    def columns(table: pd.DataFrame, sides: list[list[Shape]]) -> Mapping[str, Any]:
        return {
            f"structure_{i}": [
                one if isinstance(one := found.get((keys[nn], shape)), Structure) else Structure()
                for nn, shape in zip(table["nn"], side, strict=True)
            ]
            for i, side in enumerate(sides, 1)
        }

    pairs, training = (table.assign(**columns(table, sides)) for table, sides in zip(tables, shapes, strict=True))
    return replace(data, pairs=pairs, training=training)


def _shapes(table: pd.DataFrame, side: int, data: PairData, template: Template) -> list[Shape]:
    transforms = [recipe.get("transform") if template.at_resolution else None for recipe in table[f"recipe_{side}"]]
    return [
        input_shape(dataset, data.facts[dataset], transform or None)
        for dataset, transform in zip(table[f"dataset_{side}"], transforms, strict=True)
    ]
