"""Collections of networks: a folder of Python files, or a Parquet table."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nngpt_ext.errors import UserError
from nngpt_ext.networks.source import check_source, read_source


class Network(NamedTuple):
    """A network to ask about."""

    nn: str
    code: str
    recipe: Mapping[str, Any] | None = None  # its own, where the table has a column `recipe`


class Refused(NamedTuple):
    """A network that cannot be asked about, and why."""

    nn: str
    reason: str


def read_codes(place: Path) -> Iterator[Network | Refused]:
    """Networks in text order of their names.

    Args:
        place: a folder, whose `*.py` files (in folders below too) are named by their path without the ending, or
            a Parquet file with the columns `nn` and `nn_code` and, if given, `recipe` (JSON: one recipe, or one
            for each dataset).

    Raises:
        UserError: for a place that holds no network, a table without these columns, or a name that stands twice.
    """
    if place.is_dir():
        files = sorted(place.rglob("*.py"))
        if not files:
            raise UserError(f"'{place}' holds no *.py file")
        for file in files:
            yield _checked(file.relative_to(place).with_suffix("").as_posix(), file)
        return
    yield from _table(place)


def _checked(nn: str, source: Path | object, recipe: object = None) -> Network | Refused:
    try:
        code = read_source(source) if isinstance(source, Path) else source
        return Network(nn, check_source(code, f"the source of '{nn}'"), _recipe(nn, recipe))
    except UserError as error:
        return Refused(nn, str(error))


def _table(file: Path) -> Iterator[Network | Refused]:
    import pandas as pd
    import pyarrow.parquet as pq

    try:
        known = set(pq.read_schema(file).names)
        missing = sorted({"nn", "nn_code"} - known)
        if missing:
            raise UserError(f"'{file}' has no column {', '.join(missing)}; it needs nn and nn_code")
        frame = pd.read_parquet(file, columns=[name for name in ("nn", "nn_code", "recipe") if name in known])
    except FileNotFoundError:
        raise UserError(f"there is no '{file}': give a folder of *.py files or a Parquet file") from None
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"cannot read '{file}': {str(error).splitlines()[0]}") from None
    frame["nn"] = frame["nn"].astype(str)
    twice = frame["nn"][frame["nn"].duplicated()]
    if len(twice):
        raise UserError(f"'{file}' has {len(twice)} names that stand twice, such as '{twice.iloc[0]}'")
    if frame.empty:
        raise UserError(f"'{file}' holds no network")
    for row in frame.sort_values("nn").to_dict("records"):
        yield _checked(row["nn"], row["nn_code"], row.get("recipe"))


def _recipe(nn: str, given: object) -> Mapping[str, Any] | None:
    if given is None or given != given:  # NaN
        return None
    if isinstance(given, Mapping):
        return given
    return parse_recipe(str(given), f"the recipe of '{nn}'")


def parse_recipe(text: str, name: str = "the recipe") -> Mapping[str, Any]:
    """A recipe, or one for each dataset, from JSON.

    Raises:
        UserError: when it is not a JSON object.
    """
    return parse_object(text, name, '{"lr": 0.01, "batch": 64}')


def parse_object(text: str, name: str, example: str) -> Mapping[str, Any]:
    """A JSON object; `name` and `example` are for the user who gave something else.

    Raises:
        UserError: when it is none.
    """
    try:
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{name} is not JSON ({error}); for example {example}") from None
    if not isinstance(found, dict):
        raise UserError(f"{name} must be a JSON object, for example {example}, not {text[:40]}")
    return found
