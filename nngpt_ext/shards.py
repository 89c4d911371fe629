"""A table that is computed in shards: finished ones are kept in a folder beside it until all are done."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from nngpt_ext.errors import UserError, elsewhere
from nngpt_ext.io import inside, remove_at_once, remove_leftovers, replacing, write_text

_PLAN = "plan.json"
_MARK = b"nngpt_ext.collection"


def part_file(folder: Path, number: int) -> Path:
    """The file of a shard's answers."""
    return folder / f"{number:06d}.parquet"


class Parts:
    """`<out>.parts/`: a Parquet file for each finished shard, and the plan (a hash of all that decides the rows).

    Files whose names begin with a dot were left by a process that was killed while it wrote them.
    """

    def __init__(self, out: Path, plan: str) -> None:
        self.out, self.plan = out, plan
        self.folder = inside(out.parent, f"{out.name}.parts")

    def joined(self) -> bool:
        """Whether `out` is complete; an error if it is another file."""
        if not self.out.exists():
            return False
        try:
            mark = (pq.read_schema(self.out).metadata or {}).get(_MARK, b"").decode()
        except (OSError, ValueError):
            mark = ""
        if mark != self.plan:
            raise UserError(f"'{self.out}' exists and is not the result of this command; {elsewhere()}")
        return True

    def claim(self, shard: int) -> int:
        """Claim the folder for this plan and return the number of networks in a shard, with which it was started.

        A folder of another plan is taken over unless it has finished shards, which is an error.
        """
        plan, started = self._started()
        if plan == self.plan:
            return started
        if self._has_results():
            raise UserError(
                f"'{self.folder}' belongs to another collection, adapter, recipe or set of datasets; "
                f"remove it or {elsewhere()}"
            )
        self.folder.mkdir(exist_ok=True)
        write_text(self.folder / _PLAN, json.dumps({"plan": self.plan, "shard": shard}))
        return shard

    def join(self, number: int) -> None:
        """Join all shards into `out`."""
        table = pa.concat_tables([pq.read_table(part_file(self.folder, i)) for i in range(number)])
        with replacing(self.out) as temporary:
            metadata = {**(table.schema.metadata or {}), _MARK: self.plan.encode()}
            pq.write_table(table.replace_schema_metadata(metadata), temporary)

    def remove(self, *, only_empty: bool = False) -> None:
        """Remove the folder if it is this plan's; with `only_empty`, only if it has no finished shard."""
        remove_leftovers(self.folder)
        if self._started()[0] == self.plan and not (only_empty and self._has_results()):
            remove_at_once(self.folder)

    def _started(self) -> tuple[str | None, int]:
        try:
            there = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
            return str(there["plan"]), int(there["shard"])
        except (OSError, ValueError, KeyError, TypeError, RecursionError):
            return None, 0

    def _has_results(self) -> bool:
        """Whether it contains finished shards, or someone else's files."""
        return self.folder.is_dir() and any(
            not file.name.startswith(".") and file.name != _PLAN for file in self.folder.iterdir()
        )
