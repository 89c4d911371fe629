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

from nngpt_ext.data.families import clusters, components, signatures
from nngpt_ext.data.lineage import GENERATED, LEVELS, equal, giants, kind_of_origin, origin, text_key
from nngpt_ext.data.load import read_records
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.selection import DataConfig
from nngpt_ext.networks.compact import compact_code

EPOCH = 5


def lineage_table(sources: Mapping[str, str], architectures: Mapping[str, frozenset[Hashable]]) -> pa.Table:
    """The table of `nngpt_ext.data.lineage.known_lineage`, in the order of the keys.

    Args:
        sources: source text by network.
        architectures: what is the same for two networks of the same architecture, as far as it is known.
    """
    names, compacted = sorted(sources), {name: compact_code(text) for name, text in sources.items()}
    values = signatures(sources, names, compact=True)
    frame = pd.DataFrame(
        {
            "key": [text_key(compacted[name]) for name in names],
            "text": [text_key(sources[name]) for name in names],
            "origin": [origin(name) for name in names],
        }
    )
    shared = [(i, mark) for i, name in enumerate(names) for mark in architectures.get(name, ())]
    rows = np.array([i for i, _ in shared], dtype="int64")
    for level in LEVELS.values():
        numbers = clusters(values, level.threshold)
        edges = [equal(numbers.tolist()), equal(frame["key"].tolist())]
        if level.by_architecture:
            edges.append(equal([name if own in GENERATED else own for name, own in zip(names, frame["origin"])]))
            edges.append(rows[equal([mark for _, mark in shared])])
        frame[level.name] = components(len(names), np.concatenate(edges, axis=1))
    giant = giants(dict(zip(names, frame["near"].astype(str), strict=True)))
    frame["kind"] = [
        "giant" if str(number) in giant else kind_of_origin(name)
        for name, number in zip(names, frame["near"], strict=True)
    ]
    frame = frame.sort_values(["key", "text"], ignore_index=True).drop_duplicates("text")
    for level in LEVELS:  # numbered in the order of the keys
        frame[level] = pd.factorize(frame[level])[0].astype("int16")
    return pa.Table.from_pandas(frame.astype({"origin": "category", "kind": "category"}), preserve_index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the Parquet file to write")
    given = parser.parse_args()
    records = read_records(DataConfig(source="package", epoch=EPOCH))
    names = sorted(build_pairs(records.trials.frame, EPOCH)["nn"].unique())
    table = lineage_table(records.sources(names), {})
    pq.write_table(table, given.out, compression="zstd")
    print(f"{given.out}: {table.num_rows} networks, {given.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
