"""Structures of networks: those that ship with the package, those measured before, and measuring the others."""

from __future__ import annotations

import json
import os
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple
from functools import cache
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nngpt_ext.data.cache import cache_folder, from_cache, to_cache
from nngpt_ext.errors import UserError
from nngpt_ext.networks.sandbox import Sandbox, Unmeasured, turn_of
from nngpt_ext.networks.structure import NUMBERS, Shape, Structure, parse_structure, source_key

VERSION = "1"  # increased when a number's meaning changes
SHIPPED = Path(__file__).with_name("lemur_structure.parquet")
SHAPE = ("channels", "height", "width", "classes")
SCHEMA = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        *(pa.field(name, pa.int32(), nullable=False) for name in SHAPE),
        *(pa.field(name, pa.int64()) for name in NUMBERS),
    ]
)
Found = Structure | Unmeasured
Key = tuple[str, Shape]  # of a source, and the shape at which it is measured
Job = tuple[str, str, list[Shape]]  # a name, a source and the shapes at which it is measured
Measured = Iterable[tuple[str, dict[Shape, Found]]]  # the results of jobs, by their names


def shipped(keys: Iterable[str]) -> dict[Key, Found]:
    """Structures of LEMUR's networks at native shapes and at those of their trials, by source key and shape."""
    own = sorted(_shipped_keys().intersection(keys))
    if not own:
        return {}
    table = pq.read_table(SHIPPED, filters=[("source", "in", own)])
    n = 1 + len(SHAPE)
    unbuilt = Unmeasured("it could not be built when the package's table was made")
    return {
        (row[0], Shape(*row[1:n])): Structure(*row[n:]) if row[-1] is not None else unbuilt
        for row in zip(*(table[name].to_pylist() for name in SCHEMA.names), strict=True)
    }


@cache
def _shipped_keys() -> frozenset[str]:
    return frozenset(pq.read_table(SHIPPED, columns=["source"])["source"].unique().to_pylist())


def structures(
    wanted: Iterable[tuple[str, Shape]],
    run_code: str = "sandbox",
    workers: int = 2,
    measure: Callable[[list[Job]], Measured] | None = None,
) -> dict[Key, Found]:
    """Structures of networks, measured where neither the package nor the cache has them.

    Args:
        wanted: sources and shapes.
        run_code: a name in `nngpt_ext.networks.sandbox.RUN_CODE`; with `never`, unknown ones are left out.
        workers: sandboxes that measure at the same time.
        measure: measures what is unknown; by default `measure_all`.

    Raises:
        UserError: if something has to be measured and this machine has no sandbox.
    """
    sources: dict[str, str] = {}
    shapes: dict[str, list[Shape]] = {}
    keys: dict[str, str] = {}
    for source, shape in wanted:
        key = keys.get(source) or keys.setdefault(source, source_key(source))
        sources[key] = source
        shapes.setdefault(key, []).append(shape)
    package = shipped(shapes)
    found: dict[Key, Found] = {}
    missing: list[Job] = []
    for key, asked in shapes.items():
        known = {shape: one for shape in asked if (one := package.get((key, shape))) is not None}
        if len(known) < len(asked):
            known = {**_cached(key), **known}
        found.update({(key, shape): known[shape] for shape in asked if shape in known})
        left = [shape for shape in dict.fromkeys(asked) if shape not in known]
        if left:
            missing.append((key, sources[key], left))
    if missing and run_code != "never":
        for key, measured in measure(missing) if measure else measure_all(missing, run_code, workers):
            found.update({(key, shape): one for shape, one in measured.items()})
            good = {shape: one for shape, one in measured.items() if isinstance(one, Structure)}
            if good:
                _keep(key, good)
    return found


def measure_all(
    jobs: Iterable[Job], run_code: str = "sandbox", workers: int = 2, libraries: Iterable[str] = ()
) -> Iterator[tuple[str, dict[Shape, Found]]]:
    """Measure networks in several sandboxes; yields the results of one network after another, in the order of `jobs`.

    `libraries` are folders with more Python packages that networks may import.
    """
    jobs = list(jobs)
    local, opened = threading.local(), []
    lock = threading.Lock()

    def measured(job: Job) -> tuple[str, dict[Shape, Found]]:
        name, source, shapes = job
        if not hasattr(local, "sandbox"):
            local.sandbox = Sandbox(run_code, libraries=tuple(libraries))
            with lock:
                opened.append(local.sandbox)
        return name, dict(zip(shapes, local.sandbox.measure(source, shapes), strict=True))

    pool = ThreadPoolExecutor(max(1, min(workers, len(jobs), os.cpu_count() or 1)))
    try:
        yield from pool.map(measured, jobs)
    finally:
        pool.shutdown(cancel_futures=True)
        for sandbox in opened:
            sandbox.close()


def _file(key: str) -> Path:
    return cache_folder() / "structure" / f"{key}.json"


def _cached(key: str) -> dict[Shape, Found]:
    return from_cache(_file(key), _read) or {}


def _read(file: Path) -> dict[Shape, Found]:
    content = json.loads(file.read_bytes())
    if content["version"] != VERSION:
        return {}
    return {Shape(*shape): parse_structure(numbers) for shape, numbers in content["structures"]}


def _keep(key: str, measured: Mapping[Shape, Found]) -> None:
    known = {**_cached(key), **measured}
    rows = [[list(astuple(shape)), one.numbers()] for shape, one in sorted(known.items()) if isinstance(one, Structure)]
    text = json.dumps({"version": VERSION, "structures": rows})
    to_cache(_file(key), lambda file: file.write_text(text, encoding="utf-8"))


class Catalogue:
    """Structures of one network after another, with one sandbox that stays open between them.

    The sandbox starts with the first network that neither the package nor the cache knows, because loading torch takes
    seconds, and ends with this object or with the process. Threads may share a catalogue; its sandbox measures for one
    of them at a time.
    """

    def __init__(self) -> None:
        self._sandbox: Sandbox | None = None
        self._turn = threading.Lock()
        self._last: tuple[str, dict[Shape, Found]] = ("", {})  # the last source, and what is known of it

    def of(self, source: str, shapes: Iterable[Shape]) -> dict[Shape, Found]:
        """What is known of a network at each shape, measured where it is unknown."""
        asked, last = list(dict.fromkeys(shapes)), self._last  # read once: another thread may replace it
        known = last[1] if last[0] == source else {}
        new = [(source, shape) for shape in asked if shape not in known]
        if new:
            found = structures(new, measure=self._measure)
            known = {**known, **{shape: one for (_, shape), one in found.items()}}
            self._last = source, known
        return {shape: known[shape] for shape in asked}

    def _measure(self, jobs: list[Job]) -> Measured:
        with turn_of(self._turn):
            if self._sandbox is None:
                self._sandbox = Sandbox()
                weakref.finalize(self, self._sandbox.close)  # at the end of the process too
            try:
                for name, source, shapes in jobs:
                    yield name, dict(zip(shapes, self._sandbox.measure(source, shapes), strict=True))
            except BaseException:  # such as Ctrl-C: the next network must not get an answer about this one
                self._sandbox.close()
                raise


def structure_of(source: str, shape: Shape, name: str = "the network") -> Structure:
    """The structure of one network, measured in the sandbox unless it is known.

    Raises:
        UserError: if it has none, with the reason.
    """
    return structures_of(source, [shape], name)[0]


def structures_of(source: str, shapes: Sequence[Shape], name: str = "the network") -> list[Structure]:
    """`structure_of` at several shapes."""
    found = Catalogue().of(source, shapes)
    return [known_structure(found[shape], f"{name} has no structure at {shape}") for shape in shapes]


class Unmeasurable(UserError):
    """A network has no structure at a shape; the mistake is in no other network."""


def known_structure(found: Found, trouble: str) -> Structure:
    """A structure that was measured; if there is none, an `Unmeasurable` whose line begins with `trouble`."""
    if isinstance(found, Unmeasured):
        raise Unmeasurable(f"{trouble}: {found.reason}")
    return found
