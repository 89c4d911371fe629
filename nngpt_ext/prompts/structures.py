"""The structures that a prompt shows: those of pairs of records, and those that a user gives or has measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nngpt_ext.data.facts import DatasetFacts, unknown_dataset
from nngpt_ext.data.lineage import source_keys
from nngpt_ext.data.sources.sqlite import SqliteSource
from nngpt_ext.errors import UserError, nearest, parsing, shown, typed
from nngpt_ext.io import read_text
from nngpt_ext.networks.catalogue import Catalogue, Unmeasurable, known_structure, structures
from nngpt_ext.networks.nn_stat import stated_structures
from nngpt_ext.networks.structure import Shape, Structure, input_shape, parse_structure, source_key
from nngpt_ext.prompts.fields import GIVEN
from nngpt_ext.prompts.inputs import Recipe
from nngpt_ext.prompts.recipe import recipe_text
from nngpt_ext.prompts.template import Template

if TYPE_CHECKING:
    import pandas as pd

    from nngpt_ext.data.load import PairData

_WRITE = "write it with nngpt-ext structure CODE --shape 3x32x32 --classes 10 --json > FILE"
MEASURE = "measure"  # instead of a structure: run the network's code in the sandbox
# `MEASURE`; one structure for all datasets, or one for each; or what `nngpt-ext structure --json` prints.
GivenStructure = Structure | str | Mapping[str, Any] | Sequence[Any]


def with_structures(data: PairData, template: Template, run_code: str = "sandbox") -> PairData:
    """The same pairs with the columns `structure_1` and `structure_2` if the prompt shows structures.

    A structure is that at the resolution of the side's recipe if the prompt shows anything of a recipe, else at the
    dataset's own size. Where none could be measured it has the numbers that LEMUR's database states, if any; prompts
    show the others as `unknown`.

    Args:
        data: pairs of any source of records.
        template: the prompt.
        run_code: what is done where neither the package nor the cache has a structure (`networks.run_code`).

    Raises:
        UserError: if something has to be measured and this machine has no sandbox.
    """
    if not template.takes(GIVEN["structure"]):
        return data
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
    stated = {
        (nn, input_shape(dataset, data.facts[dataset], transform or None)): parse_structure(numbers, f"nn_stat of {nn}")
        for (nn, dataset, transform), numbers in _stated(data).items()
        if dataset in data.facts
    }

    def columns(table: pd.DataFrame, sides: list[list[Shape]]) -> Mapping[str, Any]:
        return {
            f"structure_{i}": [
                one
                if isinstance(one := found.get((keys[nn], shape)), Structure)
                else stated.get((nn, shape), Structure())
                for nn, shape in zip(table["nn"], side, strict=True)
            ]
            for i, side in enumerate(sides, 1)
        }

    pairs, training = (table.assign(**columns(table, sides)) for table, sides in zip(tables, shapes, strict=True))
    return replace(data, pairs=pairs, training=training)


def _stated(data: PairData) -> dict[tuple[str, str, str], dict[str, int | None]]:
    return stated_structures(Path(data.place)) if data.source == SqliteSource.kind and data.place else {}


def _shapes(table: pd.DataFrame, side: int, data: PairData, template: Template) -> list[Shape]:
    transforms = [recipe.get("transform") if template.at_resolution else None for recipe in table[f"recipe_{side}"]]
    return [
        input_shape(dataset, data.facts[dataset], transform or None)
        for dataset, transform in zip(table[f"dataset_{side}"], transforms, strict=True)
    ]


class StructureReader:
    """Finds the structure on each dataset of a question, in what was given for it or by measuring.

    With a prompt that shows no structure, nothing is read and no code runs.
    """

    def __init__(self, template: Template, facts: Mapping[str, DatasetFacts]) -> None:
        self._template, self._facts = template, facts
        self._catalogue = Catalogue()

    def __call__(
        self,
        given: GivenStructure | None,
        source: str | None,
        recipes: Mapping[str, Recipe | None],
        name: str = "the network",
    ) -> dict[str, Structure]:
        """The structure on each dataset that has one.

        Args:
            given: `MEASURE`, which runs the network's code unless the package or the cache knows it; a structure or
                its numbers, for datasets of one shape; one for each dataset; or what `nngpt-ext structure --json`
                prints, one or a list, of which those of this source and of each dataset's shape are taken.
            source: the network's; None for a question without one.
            recipes: of each dataset; where it is missing although the prompt shows one, no structure is looked for.
            name: what an error calls the network.

        Raises:
            UserError: for something else, a dataset whose facts are needed and unknown, and if this machine has no
                sandbox; an `Unmeasurable` if this network has no structure on a dataset.
        """
        if given is None or not self._template.takes(GIVEN["structure"]):
            return {}
        datasets = [known for known, one in recipes.items() if not self._template.at_resolution or _is_valid(one)]
        if isinstance(given, Mapping) and {"shape", "structure"} <= given.keys():
            given = [given]
        if isinstance(given, Mapping) and any(isinstance(one, (Structure, Mapping)) for one in given.values()):
            return {dataset: _of_dataset(given, dataset) for dataset in datasets}
        shapes = {dataset: self._shape(dataset, recipes[dataset]) for dataset in datasets}
        if isinstance(given, (Structure, Mapping)):
            one = _parsed(given, "the structure")
            if len(set(shapes.values())) > 1:
                seen = ", ".join(f"{dataset} at {shape}" for dataset, shape in shapes.items())
                raise UserError(f"one structure is given for {seen}; give one for each: {_EACH}")
            return dict.fromkeys(datasets, one)
        if isinstance(given, str) and given == MEASURE and source is not None:
            found = self._catalogue.of(source, shapes.values())
            return {
                dataset: known_structure(found[shape], f"{name} has no structure on '{dataset}' ({shape})")
                for dataset, shape in shapes.items()
            }
        if isinstance(given, str) and given == MEASURE:
            raise UserError(f"a question without a source has nothing to measure; give the structure: {_EACH}")
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise UserError(f"a structure is '{MEASURE}', or numbers for each dataset ({_EACH}), not {shown(given)}")
        return _matched(given, source, shapes, name)

    def _shape(self, dataset: str, recipe: Recipe | None) -> Shape:
        if dataset not in self._facts:
            raise unknown_dataset(dataset, self._facts)
        shown_recipe = recipe if self._template.at_resolution and recipe is not None else {}
        return input_shape(dataset, self._facts[dataset], shown_recipe.get("transform") or None)


_EACH = "{'mnist': {'parameters': 61706, 'layers': 5, 'last_map': 10}, …}"


def read_structures(text: str) -> GivenStructure:
    """The value of `--structure`: `measure`, or the content of a file with JSON.

    A file may have several values, one after the other, as repeated commands append them.
    """
    if text == MEASURE:
        return text
    name = f"the structure file {shown(text)}"
    if nearest(text, [MEASURE]) and not Path(text).exists():
        raise UserError(f"there is no file {shown(text)}{nearest(text, [MEASURE])}")
    content, found, decoder = read_text(text, "the structure file").strip(), [], json.JSONDecoder()
    with parsing(f"{name} is not JSON", _WRITE):
        while content:
            value, end = decoder.raw_decode(content)
            found += value if isinstance(value, list) else [value]
            content = content[end:].strip()
    if not found:
        raise UserError(f"{name} is empty; {_WRITE}")
    return found[0] if len(found) == 1 else found


def _is_valid(recipe: Recipe | None) -> bool:
    """Whether a recipe says at which resolution a network is seen; an invalid one is reported with the question."""
    try:
        return recipe is not None and bool(recipe_text(recipe))
    except UserError:
        return False


def _of_dataset(given: Mapping[str, Any], dataset: str) -> Structure:
    if dataset not in given:
        raise UserError(f"no structure for '{dataset}'; structures were given for {', '.join(map(str, given))}")
    return _parsed(given[dataset], f"the structure for '{dataset}'")


def _parsed(given: object, what: str) -> Structure:
    return given if isinstance(given, Structure) else parse_structure(given, what)


def _matched(given: Iterable[Any], source: str | None, shapes: Mapping[str, Shape], name: str) -> dict[str, Structure]:
    """The structure on each dataset, from measured ones of any source and shape."""
    printed = list(map(_printed, given))
    key = None if source is None else source_key(source)
    if key is None and len({own for own, _, _ in printed} - {None}) > 1:
        raise UserError("structures of several networks are given for a question without a source; give those of one")
    found = {shape: one for own, shape, one in printed if key is None or own in (None, key)}
    missing: dict[Shape, list[str]] = {}
    for dataset, shape in shapes.items():
        if shape not in found:
            missing.setdefault(shape, []).append(dataset)
    if missing:
        where = ", ".join(f"{shape} ({', '.join(datasets)})" for shape, datasets in missing.items())
        command = " ".join(f"--shape {s.channels}x{s.height}x{s.width} --classes {s.classes}" for s in missing)
        measure = typed("--structure measure", "structure='measure'")
        raise Unmeasurable(
            f"{name} has no structure at {where} among those given; measure it: nngpt-ext structure CODE {command} "
            f"--json, or give {measure}"
        )
    return {dataset: found[shape] for dataset, shape in shapes.items()}


def _printed(one: Any) -> tuple[str | None, Shape, Structure]:
    """Source key, shape and structure of an object that `nngpt-ext structure --json` prints."""
    example = '{"source": …, "shape": {"channels": 3, …}, "structure": {"parameters": 61706, …}}'
    if not isinstance(one, Mapping) or not {"shape", "structure"} <= one.keys():
        raise UserError(f"a list of structures has objects like {example}, not {shown(one)}")
    with parsing(f"a structure's shape cannot be read: {shown(one['shape'])}", f"it is like {example}"):
        shape = Shape(**one["shape"])
    own = one.get("source")
    return own if isinstance(own, str) else None, shape, _parsed(one["structure"], f"the structure at {shape}")
