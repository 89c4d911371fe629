"""Measure LEMUR's networks: `python -m research.structure.build`, from the repository root.

Every network of the pairs of epoch 5 is measured in the sandbox at the shapes of its datasets and of all its trials,
and the table is written where the package has it. Results are kept in `--work` as they come: an interrupted run
continues. Some networks import torchvision, which beside a CPU build of torch breaks transformers; install it aside:

    pip install --no-deps --target FOLDER torchvision einops
    python -m research.structure.build --libraries FOLDER
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.io import as_text, replacing
from nngpt_ext.networks.catalogue import SCHEMA, SHIPPED, measure_all
from nngpt_ext.networks.sandbox import Unmeasured
from nngpt_ext.networks.structure import NUMBERS, Shape, input_shape, source_key

EPOCH = 5
Job = tuple[str, str, list[Shape]]  # the source's key, the source, and shapes


def jobs(lemur: Path | None = None) -> list[Job]:
    """What is measured: each different network, at native shapes and at those of its trials at any epoch."""
    source = open_source("package", lemur)
    paired = set(build_pairs(read_trials(source, EPOCH).frame, EPOCH)["nn"])
    trials = read_trials(source, None).frame
    trials = trials[trials["nn"].isin(paired)][["nn", "dataset", "transform"]].drop_duplicates()
    sources = {nn: as_text(code, nn) for nn, code in source.sources(sorted(paired)).items()}
    keys = {nn: source_key(code) for nn, code in sources.items()}
    wanted: dict[str, tuple[str, set[Shape]]] = {}
    for nn, dataset, transform in trials.itertuples(index=False):
        _, shapes = wanted.setdefault(keys[nn], (sources[nn], set()))
        given = transform if isinstance(transform, str) else None
        shapes |= {input_shape(dataset, source.facts[dataset], one) for one in (None, given)}
    return [(key, code, sorted(shapes)) for key, (code, shapes) in sorted(wanted.items())]


def read_rows(file: Path) -> Iterator[dict[str, Any]]:
    """The results so far; without a line that a kill cut off."""
    if file.is_file():
        for line in file.read_text(encoding="utf-8").split("\n")[:-1]:
            yield json.loads(line)


def left(wanted: list[Job], file: Path) -> list[Job]:
    """What has not been measured yet."""
    done = {(row["source"], *row["shape"]) for row in read_rows(file)}
    missing = [(key, code, [one for one in shapes if (key, *astuple(one)) not in done]) for key, code, shapes in wanted]
    return [(key, code, shapes) for key, code, shapes in missing if shapes]


def write_table(wanted: list[Job], file: Path, out: Path) -> int:
    """Write the results that are wanted as Parquet; returns the number of rows."""
    known = {(row["source"], *row["shape"]): row["numbers"] or {} for row in read_rows(file)}
    keys = [(key, *astuple(shape)) for key, _, shapes in wanted for shape in shapes]
    rows = [[*key, *(known[key].get(name) for name in NUMBERS)] for key in keys if key in known]
    columns = [pa.array(values, kind.type) for values, kind in zip(zip(*rows, strict=True), SCHEMA, strict=True)]
    with replacing(out) as temporary:
        pq.write_table(
            pa.table(columns, schema=SCHEMA), temporary, compression="zstd", compression_level=19, row_group_size=4096
        )
    return len(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lemur", type=Path, help="folder ab/nn of nn-dataset 2.1.2; by default the installed one")
    parser.add_argument("--work", type=Path, default=Path("runs/structure"), help="folder for the results as they come")
    parser.add_argument("--out", type=Path, default=SHIPPED, help="the table")
    parser.add_argument("--libraries", type=Path, nargs="*", default=[], help="folders with more Python packages")
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    file, wanted = given.work / "structure.jsonl", jobs(given.lemur)
    todo = left(wanted, file)
    begun, n = time.monotonic(), 0
    whole = "".join(json.dumps(row) + "\n" for row in read_rows(file))  # without a line that was cut off
    file.write_text(whole, encoding="utf-8")
    with file.open("a", encoding="utf-8") as out:
        for key, found in measure_all(todo, workers=given.workers, libraries=map(str, given.libraries)):
            for shape, one in found.items():
                row: dict[str, Any] = {"source": key, "shape": astuple(shape), "numbers": None}
                row |= {"failure": one.reason} if isinstance(one, Unmeasured) else {"numbers": one.numbers()}
                out.write(json.dumps(row) + "\n")
            out.flush()
            n += len(found)
            print(
                f"{n:,} of {sum(len(s) for *_, s in todo):,} ({n / (time.monotonic() - begun):.1f} a second)", end="\r"
            )
    print(f"\n{write_table(wanted, file, given.out):,} rows in {given.out}")


if __name__ == "__main__":
    main()
