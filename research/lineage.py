"""Make nngpt_ext/data/lineage.parquet: families and kinds of the networks of LEMUR 2.1.2 in a pair at epoch 5.

    python -m research.lineage --structure TABLE nngpt_ext/data/lineage.parquet

It reads the installed nn-dataset. Run it again only for another release of the table: splits depend on its families.
"""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from nngpt_ext.compact import compact_code
from nngpt_ext.data.families import clusters, components, signatures
from nngpt_ext.data.lineage import GENERATED, LEVELS, equal, giants, kind_of_origin, origin
from nngpt_ext.data.load import read_records
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.io import text_digest

EPOCH = 5


def lineage_table(sources: Mapping[str, str], architectures: Mapping[str, frozenset[Hashable]]) -> pa.Table:
    """The table of `nngpt_ext.data.lineage.known_lineage`, in the order of the keys.

    Args:
        sources: source text by network.
        architectures: what networks of the same architecture share, by the key of the compacted source.
    """
    names, compacted = sorted(sources), {name: compact_code(text) for name, text in sources.items()}
    values = signatures(sources, names, compact=True)
    frame = pd.DataFrame(
        {
            "key": [text_digest(compacted[name]) for name in names],
            "text": [text_digest(sources[name]) for name in names],
            "origin": [origin(name) for name in names],
        }
    )
    shared = [(i, mark) for i, key in enumerate(frame["key"]) for mark in architectures.get(key, ())]
    rows = np.array([i for i, _ in shared], dtype="int64")
    for level in LEVELS.values():
        numbers = clusters(values, level.threshold)
        edges = [equal(numbers.tolist()), equal(frame["key"].tolist())]
        if level.by_architecture:
            edges.append(
                equal([name if own in GENERATED else own for name, own in zip(names, frame["origin"], strict=True)])
            )
            edges.append(rows[equal([mark for _, mark in shared])])
        frame[level.name] = components(len(names), np.concatenate(edges, axis=1))
    giant = giants(dict(zip(names, frame["near"].astype(str), strict=True)))
    frame["kind"] = [
        "giant" if str(number) in giant else kind_of_origin(name)
        for name, number in zip(names, frame["near"], strict=True)
    ]
    frame = frame.sort_values(["key", "text"], ignore_index=True).drop_duplicates("text")
    for name in LEVELS:  # numbered in the order of the keys
        frame[name] = pd.factorize(frame[name])[0].astype("int16")
    return pa.Table.from_pandas(frame.astype({"origin": "category", "kind": "category"}), preserve_index=False)


def architectures(structure: pd.DataFrame) -> dict[str, frozenset[Hashable]]:
    """What networks of the same architecture share, by the key of the compacted source.

    Two networks have the same architecture, whatever their texts, if at any shape with the same number of channels they
    have equal parameters outside the classifier and as many convolutions, linear layers and normalisations.

    Args:
        structure: one row for each source and shape, with the columns of the structure table.
    """
    built = structure[structure["parameters"].fillna(0) > 0]
    body = built["parameters"] - built["classifier_parameters"].fillna(0)
    marks = zip(built["channels"], body, built["convolutions"], built["linear"], built["normalisations"], strict=True)
    found: dict[str, set[Hashable]] = {}
    for source, mark in zip(built["source"], marks, strict=True):
        found.setdefault(source, set()).add(mark)
    return {key: frozenset(own) for key, own in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--structure", type=Path, required=True, help="the structure table")
    parser.add_argument("out", type=Path, help="the Parquet file to write")
    given = parser.parse_args()
    records = read_records(DataConfig(source="package", epoch=EPOCH))
    names = sorted(build_pairs(records.trials.frame, EPOCH)["nn"].unique())
    table = lineage_table(records.sources(names), architectures(pd.read_parquet(given.structure)))
    pq.write_table(table, given.out, compression="zstd")
    print(f"{given.out}: {table.num_rows} networks, {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
