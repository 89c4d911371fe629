"""The table `nn_stat` of LEMUR's databases from 2.2 on: some numbers of networks' structures."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from nngpt_ext.data.sources.sqlite import SqliteSource
from nngpt_ext.errors import UserError, parsing
from nngpt_ext.io import parse_json
from nngpt_ext.networks.structure import parse_structure

log = logging.getLogger(__name__)

# Columns with the meaning of a number of `nngpt_ext.networks.structure.Structure`. `flops` is not among them: it
# ignores groups and includes normalisation.
_COLUMNS = {"total_params": "parameters", "trainable_params": "trainable", "total_layers": "modules"}
_NEEDED = {"id", "nn_name", "prm_id", *_COLUMNS, "meta_json", "error"}
# The shape at which a network was measured is not stored, so a row counts only where it can be told from the trials.
# `meta_json` is read as bytes: SQLite would refuse the whole table for one text that is not UTF-8.
_ROWS = f"""
SELECT n.nn_name, min(s.dataset), min(s.transform), CAST(n.meta_json AS BLOB),
    {", ".join(f"n.{one}" for one in _COLUMNS)}
FROM nn_stat n JOIN stat s ON s.nn = n.nn_name AND s.prm = n.prm_id
WHERE coalesce(n.error, '') = '' GROUP BY n.id
HAVING count(DISTINCT s.dataset || ' ' || coalesce(s.transform, '')) = 1
    AND typeof(min(s.transform)) IN ('text', 'null')"""


def stated_structures(database: Path) -> dict[tuple[str, str, str], dict[str, int | None]]:
    """Numbers of structures by network, dataset and transform.

    It is empty for a database without `nn_stat`, and with a warning for one whose `nn_stat` lacks a column. Damaged
    rows are left out, with a warning.
    """
    source = SqliteSource(database)
    columns = {row[1] for row in source.query("PRAGMA table_info(nn_stat)")}
    if lost := sorted(_NEEDED - columns):
        if columns:
            log.warning(
                "the structures in nn_stat of '%s' are not used: it has no column %s", database, ", ".join(lost)
            )
        return {}
    found, damaged = {}, []
    for nn, dataset, transform, meta, *stated in source.query(_ROWS):
        try:
            found[nn, dataset, transform] = _numbers(stated, meta, f"nn_stat of {nn}")
        except UserError as error:
            damaged.append(str(error))
    if damaged:
        log.warning(
            "damaged rows in nn_stat of '%s' are left out: %d, the first: %s", database, len(damaged), damaged[0]
        )
    return found


def _numbers(stated: Sequence[int | None], meta: bytes | None, name: str) -> dict[str, int | None]:
    """The numbers of a row; an error if they cannot be those of a structure."""
    content = parse_json(meta or b"{}", f"meta_json in {name}", last_wins=True)
    with parsing(f"linear_info in {name} cannot be read"):
        linear = content.get("linear_info") or {"count": 0, "input_dims": []}
        more = {"linear": linear["count"], "linear_inputs": max(linear["input_dims"], default=0)}
    numbers = dict(zip(_COLUMNS.values(), stated, strict=True)) | more
    parse_structure(numbers, name)
    return numbers
