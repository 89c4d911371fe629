"""Where a network comes from: its family at two levels, and its kind.

A network is known by the hash of its compacted source, so new names and comments change nothing. `lineage.parquet` has
the networks of LEMUR 2.1.2 that are in a pair at epoch 5 (research/lineage.py makes it). Others join the families of
the networks they are similar to, and take the kind of the most similar training network.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any, cast

from nngpt_ext.compact import compact_code
from nngpt_ext.declaration import Declarations, Named
from nngpt_ext.io import text_digest

if TYPE_CHECKING:
    import numpy as np

# pandas and numpy are imported in the functions: the command line reads the declarations for its help.

TABLE = "lineage.parquet"
ALIKE = 0.5  # estimated Jaccard similarity from which networks are of one strict family, and of one kind
GIANT = 0.10  # share of the networks above which a family is giant
GENERATED = ("alt", "ast", "ga", "rag")  # LEMUR's origins of generated networks; the others are names of architectures
NAMED = "named"

KINDS = Declarations(
    "kind of network",
    [
        Named("giant", "the families of near-duplicates with more than 10 % of LEMUR's networks; origins ga and ast"),
        Named("rag", "origin rag"),
        Named("alt", "origin alt"),
        Named("FractalNet", "origin FractalNet"),
        Named(NAMED, "all other origins, which are names of architectures"),
    ],
)
_KIND_OF_ORIGIN = {"ga": "giant", "ast": "giant", "rag": "rag", "alt": "alt", "FractalNet": "FractalNet"}


@dataclass(frozen=True)
class Level:
    """How widely networks are joined into families."""

    name: str
    description: str
    threshold: float  # estimated Jaccard similarity of compacted sources from which two networks are of one family
    by_architecture: bool = False  # whether networks of the same named origin, or of the same architecture, are, too


LEVELS = Declarations(
    "family level",
    [
        Level("near", "near-duplicates: similarity of the sources (Jaccard) at least 0.85", 0.85),
        Level(
            "strict", "similarity at least 0.5, the same named origin, or the same architecture", ALIKE,
            by_architecture=True,
        ),
    ],
)  # fmt: skip


def origin(name: str) -> str:
    """Where a network comes from: its name before the first `-`."""
    return name.split("-", 1)[0]


def kind_of_origin(name: str) -> str:
    """The kind of a network of LEMUR that is in no giant family."""
    return _KIND_OF_ORIGIN.get(origin(name), NAMED)


@cache
def known_lineage() -> dict[str, list[Any]]:
    """The sources that the package knows, column by column.

    Columns: `text`, the sha256 of the source; `key`, that of the compacted source; the number of the family at each
    level; `origin`; `kind`.
    """
    import pyarrow.parquet as pq

    # Not by read_table, which imports pandas: 0.25 s of CPU, of the 4 s of `compare`.
    with as_file(files("nngpt_ext.data") / TABLE) as file, pq.ParquetFile(file) as table:
        return cast(dict[str, list[Any]], table.read().to_pydict())


def source_keys(sources: Mapping[str, str]) -> dict[str, str]:
    """The sha256 of each network's compacted source; what is known as it is need not be compacted."""
    whole = _keys_by_text()
    return {name: whole.get(text_digest(text)) or text_digest(compact_code(text)) for name, text in sources.items()}


@cache
def _keys_by_text() -> dict[str, str]:
    known = known_lineage()
    return dict(zip(known["text"], known["key"], strict=True))


def known_key(source: str) -> str | None:
    """The sha256 of a network's compacted source, if the package knows the source as it is."""
    return _keys_by_text().get(text_digest(source))


def is_known(key: str) -> bool:
    """Whether the package knows the network with this key."""
    return key in _known_kinds()


def known_kind(key: str) -> str | None:
    """The kind of the network with this key; None if the package does not know it."""
    return _known_kinds().get(key)


@cache
def _known_kinds() -> dict[str, str]:
    known = known_lineage()
    return dict(zip(known["key"], known["kind"], strict=True))


def families(sources: Mapping[str, str], level: str) -> dict[str, str]:
    """The family of each network at a level of `LEVELS`: the smallest key of its members.

    Known networks are joined as the table says; one that is not known may unite their families.
    """
    import numpy as np
    import pandas as pd

    from nngpt_ext.data.families import components, near, signatures

    joined, names, keys = LEVELS[level], sorted(sources), source_keys(sources)
    known = known_lineage()
    number = dict(zip(known["key"], known[level], strict=True))
    edges = [equal([number.get(keys[name], keys[name]) for name in names])]
    if joined.by_architecture:
        # LEMUR renames networks: a known one has the origin of its source, whatever its name says.
        origins = dict(zip(known["key"], known["origin"], strict=True))
        own = {name: origins.get(keys[name]) or origin(name) for name in names}
        edges.append(equal([name if own[name] in GENERATED else own[name] for name in names]))
    strange = np.array([i for i, name in enumerate(names) if keys[name] not in number], dtype="int64")
    if len(strange):
        values = signatures(sources, names, compact=True)
        rows, columns = near(values[strange], values, joined.threshold)
        edges.append(np.stack([strange[rows], columns]))
    members = pd.Series([keys[name] for name in names], dtype="object")
    smallest = members.groupby(components(len(names), np.concatenate(edges, axis=1))).transform("min")
    return dict(zip(names, smallest, strict=True))


def kinds(sources: Mapping[str, str], training: Collection[str]) -> dict[str, str]:
    """The kind of each network that has one.

    What is not known and has no name of LEMUR's gets the kind of the most similar network in `training`, if the
    estimated Jaccard similarity is at least 0.5.
    """
    origins, found, keys = set(known_lineage()["origin"]), _known_kinds(), source_keys(sources)
    result = {
        name: found[key] if key in found else kind_of_origin(name)
        for name, key in keys.items()
        if key in found or origin(name) in origins
    }
    strange, models = sorted(sources.keys() - result.keys()), sorted(result.keys() & set(training))
    if strange and models:
        from nngpt_ext.data.families import signatures

        values = signatures(sources, models, compact=True)
        for name, own in zip(strange, signatures(sources, strange, compact=True), strict=True):
            similarity = (values == own).mean(axis=1)
            if similarity.max() >= ALIKE:
                result[name] = result[models[int(similarity.argmax())]]
    return result


def giants(family: Mapping[str, str]) -> dict[str, int]:
    """The families of more than 10 % of the networks, and their sizes."""
    return {name: n for name, n in Counter(family.values()).items() if n > GIANT * len(family)}


def equal(labels: Sequence[Hashable]) -> np.ndarray:
    """Edges between rows with equal labels, shape (2, rows)."""
    import numpy as np

    first: dict[Hashable, int] = {}
    return np.array([(first.setdefault(label, i), i) for i, label in enumerate(labels)], dtype="int64").reshape(-1, 2).T
