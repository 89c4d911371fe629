"""The shards of a collection on the disk: what is done, whose it is, and how it becomes one file."""

from __future__ import annotations

import json
from pathlib import Path

from nngpt_ext.errors import UserError
from nngpt_ext.io import inside, remove, replacing, write_text

_PLAN = "plan.json"
_MARK = b"nngpt_ext.collection"


class Parts:
    """`<out>.parts/`: a Parquet file for each finished shard, and the plan they belong to.

    Files whose names begin with a dot are left over from a process that was killed while it wrote.

    Args:
        out: the file that the shards become.
        plan: a hash of all that decides its rows.

    Raises:
        UserError: when the folder is a link to elsewhere.
    """

    def __init__(self, out: Path, plan: str) -> None:
        self.out, self.plan = out, plan
        self.folder = inside(out.parent, f"{out.name}.parts")

    def file(self, number: int) -> Path:
        """Where a shard's answers lie."""
        return part_file(self.folder, number)

    def joined(self) -> bool:
        """Whether `out` is there, whole.

        Raises:
            UserError: when it is of another plan, or no such file at all.
        """
        if not self.out.exists():
            return False
        import pyarrow.parquet as pq

        try:
            mark = (pq.read_schema(self.out).metadata or {}).get(_MARK, b"").decode()
        except (OSError, ValueError):
            mark = ""
        if mark != self.plan:
            raise UserError(f"'{self.out}' is there and holds something else; give another --out")
        return True

    def claim(self, shard: int) -> int:
        """Make the folder this plan's own; returns how many networks a shard has: as many as it began with.

        A folder of another plan in which no shard is finished is taken over: nothing is lost.

        Raises:
            UserError: when there are finished shards of another plan in it.
        """
        plan, begun = self._begun()
        if plan == self.plan:
            return begun
        if self._kept():
            raise UserError(
                f"'{self.folder}' holds parts of another collection, adapter, recipe or set of datasets; "
                "remove it or give another --out"
            )
        self.folder.mkdir(exist_ok=True)
        write_text(self.folder / _PLAN, json.dumps({"plan": self.plan, "shard": shard}))
        return shard

    def join(self, number: int) -> int:
        """Make `out` of so many shards; returns its rows."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        table = pa.concat_tables([pq.read_table(self.file(i)) for i in range(number)])
        metadata = {**(table.schema.metadata or {}), _MARK: self.plan.encode()}
        with replacing(self.out) as temporary:
            pq.write_table(table.replace_schema_metadata(metadata), temporary)
        return int(table.num_rows)

    def remove(self, *, only_empty: bool = False) -> None:
        """Remove the folder, if it is this plan's; with `only_empty`, if no shard in it is finished."""
        if self._begun()[0] == self.plan and not (only_empty and self._kept()):
            remove(self.folder)

    def _begun(self) -> tuple[str | None, int]:
        try:
            there = json.loads((self.folder / _PLAN).read_text(encoding="utf-8"))
            return str(there["plan"]), int(there["shard"])
        except (OSError, ValueError, KeyError, TypeError):
            return None, 0

    def _kept(self) -> bool:
        """Whether there is anything that took work, or that we did not write."""
        return self.folder.is_dir() and any(
            not file.name.startswith(".") and file.name != _PLAN for file in self.folder.iterdir()
        )


def part_file(folder: Path, number: int) -> Path:
    """Where a shard's answers lie in the folder of the parts."""
    return folder / f"{number:06d}.parquet"
