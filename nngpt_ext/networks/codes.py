"""Collections of source code: a folder of Python files, or a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from nngpt_ext.errors import UserError
from nngpt_ext.io import parse_mapping
from nngpt_ext.networks.source import check_source, read_source


@dataclass(frozen=True)
class Network:
    """A network of a collection; `recipe` is its own, from the table's column `recipe`."""

    nn: str
    code: str
    recipe: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Refused:
    """A network that cannot be scored, and why."""

    nn: str
    reason: str


def read_codes(place: Path) -> Iterator[Network | Refused]:
    """Read networks, ordered by name.

    Args:
        place: a folder, whose `*.py` files (also in subfolders) are named by their path without the suffix, or a
            Parquet file with the columns `nn` and `nn_code` and optionally `recipe` (JSON: one recipe, or one for each
            dataset).

    Raises:
        UserError: for a place without networks, a table without these columns, and a duplicate name.
    """
    rows: list[tuple[str, Any, Any]]
    if place.is_dir():
        rows = [
            (file.relative_to(place).with_suffix("").as_posix(), file, None) for file in sorted(place.rglob("*.py"))
        ]
    else:
        rows = _table(place)
    if not rows:
        raise UserError(f"'{place}' contains no network: give a folder of *.py files or a Parquet file")
    for nn, source, recipe in rows:
        try:
            code = check_source(read_source(source) if isinstance(source, Path) else source, f"the source of '{nn}'")
            yield Network(nn, code, _recipe(nn, recipe))
        except UserError as error:
            yield Refused(nn, str(error))


def _table(file: Path) -> list[tuple[str, Any, Any]]:
    if not file.is_file():
        raise UserError(f"there is no '{file}': give a folder of *.py files or a Parquet file")
    try:
        known = pq.read_schema(file).names
        frame = pd.read_parquet(file, columns=[name for name in ("nn", "nn_code", "recipe") if name in known])
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read '{file}': {str(error).splitlines()[0]}") from None
    missing = sorted({"nn", "nn_code"} - set(frame.columns))
    if missing:
        raise UserError(f"'{file}' has no column {', '.join(missing)}; it needs nn and nn_code")
    names = frame["nn"].astype(str)
    twice = names[names.duplicated()]
    if len(twice):
        raise UserError(f"'{file}' has {len(twice)} duplicate names, such as '{twice.iloc[0]}'")
    recipes = frame.get("recipe", [None] * len(frame))
    return sorted(zip(names, frame["nn_code"], recipes, strict=True), key=lambda row: row[0])


def _recipe(nn: str, given: Any) -> Mapping[str, Any] | None:
    if given is None or given != given:  # NaN
        return None
    return given if isinstance(given, Mapping) else parse_mapping(str(given), f"the recipe of '{nn}'")
