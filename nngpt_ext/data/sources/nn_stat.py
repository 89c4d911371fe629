"""The table `nn_stat` of LEMUR's databases from 2.2 on: some numbers of networks' structures."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

# Columns with the meaning of a number of `nngpt_ext.networks.structure.Structure`. `flops` is not among them: it
# ignores groups and includes normalisation.
_COLUMNS = {"total_params": "parameters", "trainable_params": "trainable", "total_layers": "modules"}
# The shape at which a network was measured is not stored, so a row counts only where it can be told from the trials.
_ROWS = f"""
SELECT n.nn_name, min(s.dataset), min(s.transform), {", ".join(f"n.{name}" for name in _COLUMNS)}, n.meta_json
FROM nn_stat n JOIN stat s ON s.nn = n.nn_name AND s.prm = n.prm_id
WHERE n.error IS NULL GROUP BY n.id HAVING count(DISTINCT s.dataset || ' ' || coalesce(s.transform, '')) = 1"""


def stated_structures(database: Path) -> dict[tuple[str, str, str], dict[str, int]]:
    """Numbers of structures by network, dataset and transform; empty for a database without `nn_stat`."""
    with closing(sqlite3.connect(f"{database.resolve().as_uri()}?mode=ro", uri=True, timeout=5.0)) as connection:
        if not connection.execute("PRAGMA table_info(nn_stat)").fetchall():
            return {}
        found = {}
        for nn, dataset, transform, *numbers, meta in connection.execute(_ROWS):
            linear = json.loads(meta or "{}").get("linear_info") or {"count": 0, "input_dims": []}
            more = {"linear": linear["count"], "linear_inputs": max(linear["input_dims"], default=0)}
            found[nn, dataset, transform] = dict(zip(_COLUMNS.values(), numbers, strict=True)) | more
        return found
