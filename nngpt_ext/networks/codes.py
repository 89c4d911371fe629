"""Collections of source code: a folder of Python files, or a table."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from nngpt_ext.errors import UserError, parsing, shown
from nngpt_ext.io import parse_mapping
from nngpt_ext.networks.source import is_name, read_source
from nngpt_ext.networks.structure import Structure

# Folders of programs, not of networks; those whose name begins with a dot are skipped too, and virtual environments.
_SKIPPED = {"__pycache__", "site-packages", "node_modules"}
_ENVIRONMENT = "pyvenv.cfg"
# The optional columns of a table, JSON objects, each with an example.
_EXAMPLES = {"recipe": '{"lr": 0.01, "batch": 64}', "evidence": '{"mnist": {"1": 0.91}, "svhn": {"1": 0.55}}'}
_ADVICE = "give a folder of *.py files or a Parquet file with the columns nn and nn_code"


@dataclass(frozen=True)
class Network:
    """A network of a collection, maybe with its own recipe and evidence, from the table's columns of these names."""

    nn: str
    code: str
    recipe: Mapping[str, Any] | None = None
    structure: Mapping[str, Structure] | None = None  # on each dataset, where questions show it; None as it is read
    evidence: Mapping[str, Any] | None = None

    def given(self, recipe: Any, evidence: Any) -> tuple[Any, Any]:
        """Its own recipe and evidence, or these, which are for networks without their own."""
        return recipe if self.recipe is None else self.recipe, evidence if self.evidence is None else self.evidence

    def planned(self) -> dict[str, Any]:
        """Its attributes; without a structure or evidence as in versions that had none."""
        later = ("structure", "evidence")
        return {name: value for name, value in asdict(self).items() if name not in later or value is not None}


@dataclass(frozen=True)
class Refused:
    """A network that cannot be scored, and why."""

    nn: str
    reason: str


def read_codes(place: Path, skipped: Counter[str] | None = None) -> Iterator[Network | Refused]:
    """Read networks, ordered by name.

    Args:
        place: a folder, whose `*.py` files (also in subfolders) are named by their path without the suffix, or a
            Parquet file with the columns `nn` and `nn_code` and optionally `recipe` (JSON: one recipe, or one for each
            dataset) and `evidence` (JSON: early accuracies by dataset and epoch). In a folder, hidden files and
            folders, virtual environments, `__pycache__` and `site-packages` are skipped, and links that lead out of it,
            and pipes; if such a folder itself is given, it is read.
        skipped: the number of skipped `*.py` files is added to it, by place: folders relative to `place`, and links.

    Raises:
        UserError: for a place without networks, a table without these columns, and a duplicate name.
    """
    skipped = Counter() if skipped is None else skipped
    with parsing(f"cannot read {shown(place)}", _ADVICE):
        rows = list(_rows(place, skipped))
    if not rows:
        left = f" ({said_of_skipped(skipped)})" if skipped else ""
        raise UserError(f"'{place}' contains no network{left}: {_ADVICE}")
    named: list[tuple[str, Any, dict[str, Any]]] = []
    for i, (given, source, more) in enumerate(rows, 1):
        try:
            named.append((_name(given), source, more))
        except UserError as error:
            yield Refused(f"row {i}", f"row {i}: {error}")
    twice = [name for name, n in Counter(name for name, *_ in named).items() if n > 1]
    if twice:
        raise UserError(f"'{place}' has {len(twice)} duplicate names, such as {shown(twice[0])}")
    for nn, source, more in sorted(named, key=lambda row: row[0]):
        try:
            code = read_source(source, f"the source of {shown(nn)}")
            yield Network(nn, code, **{name: _mapping(nn, name, given) for name, given in more.items()})
        except UserError as error:
            yield Refused(nn, str(error))


def said_of_skipped(skipped: Mapping[str, int]) -> str:
    """What `read_codes` skipped, as a phrase: the number of files, and where they are."""
    places = ", ".join(f"{name} {n:,}" for name, n in sorted(skipped.items(), key=lambda one: -one[1])[:5])
    more = f", and {len(skipped) - 5} other places" if len(skipped) > 5 else ""
    n = sum(skipped.values())
    return f"{n:,} {'file was' if n == 1 else 'files were'} skipped: {places}{more}"


def _files(place: Path, skipped: Counter[str]) -> Iterator[Path]:
    top = place.resolve()
    for root, folders, names in os.walk(place, onerror=lambda _: skipped.update(["folders that cannot be read"])):
        folder = Path(root)
        for name in sorted(folders):
            below = folder / name
            if below.is_symlink():  # which os.walk does not follow
                skipped["links"] += 1
            elif name.startswith(".") or name in _SKIPPED or (below / _ENVIRONMENT).is_file():
                found = sum(1 for _ in below.rglob("*.py"))
                if found:
                    skipped[shown(f"{below.relative_to(place).as_posix()}/")] += found
                folders.remove(name)
        for file in (folder / name for name in names if name.endswith(".py")):
            if file.name.startswith("."):
                skipped["hidden files"] += 1
            elif file.is_symlink() and not file.resolve().is_relative_to(top):
                skipped["links"] += 1
            elif file.exists() and not file.is_file():  # a pipe, which may never end
                skipped["special files"] += 1
            else:
                yield file


def _rows(place: Path, skipped: Counter[str]) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """The name, the source, and what is of `_EXAMPLES` of each network, as they stand there."""
    if place.is_dir():
        for file in _files(place, skipped):
            yield file.relative_to(place).with_suffix("").as_posix(), file, {}
        return
    if not place.is_file():
        raise UserError(f"there is no '{place}': {_ADVICE}")
    with place.open("rb") as stream:
        if stream.read(4) != b"PAR1":
            raise UserError(f"'{place}' is not a Parquet file: {_ADVICE}")
    with pq.ParquetFile(place) as table:  # not pandas, which turns whole numbers and None into floats
        schema = table.schema_arrow
        indexes = (schema.pandas_metadata or {}).get("index_columns", [])
        # pandas stores an index of consecutive numbers as its limits.
        limits = {
            one["name"]: range(one["start"], one["stop"], one["step"]) for one in indexes if isinstance(one, dict)
        }
        if twice := [name for name, n in Counter(schema.names).items() if n > 1]:
            raise UserError(f"'{place}' has several columns {shown(twice[0])}")
        missing = {"nn", "nn_code"} - {*schema.names, *limits}
        if missing:
            raise UserError(f"'{place}' has no column {', '.join(sorted(missing))}; it needs nn and nn_code")
        found = table.read([name for name in ("nn", "nn_code", *_EXAMPLES) if name in schema.names]).to_pylist()
    for i, row in enumerate(found):
        yield row["nn"] if "nn" in row else limits["nn"][i], row["nn_code"], {name: row.get(name) for name in _EXAMPLES}


def _name(given: Any) -> str:
    """A network's name from a table."""
    name = given
    if isinstance(given, bytes):
        name = given.decode("utf-8", "surrogateescape")
    elif isinstance(given, (int, float)) and not isinstance(given, bool) and given == given // 1:
        name = str(int(given))  # a column of whole numbers in which one is missing has floats
    if not is_name(name):
        raise UserError(f"a name must be printable text on one line, or a whole number, not {shown(given)}")
    return name


def _mapping(nn: str, name: str, given: Any) -> Mapping[str, Any] | None:
    if given is None or (isinstance(given, float) and given != given):  # NaN
        return None
    if isinstance(given, Mapping):
        return given
    text = given if isinstance(given, (str, bytes)) else str(given)
    return parse_mapping(text, f"the {name} of {shown(nn)}", _EXAMPLES[name])
