"""What was tried and what came of it, kept case by case, so that an interrupted session goes on where it stopped.

`NNGPT_EXT_FAULTS` chooses the size: `small` (the default) or `full`. `python -m tests.faults.ledger FILE` writes the
figures of a full session to FILE, or nothing if a part is missing or a fault was found.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).parents[2]
PARTS = ("kills", "damaged", "inputs", "races")


class Size(NamedTuple):
    """How much of each part is tried."""

    kills: int
    damaged: int
    inputs: int
    answers: int


SIZES = {"small": Size(20, 120, 500, 192), "full": Size(100, 600, 2000, 1000)}
_kept = tempfile.TemporaryDirectory(prefix="nngpt_ext_faults_")  # goes with the process
NAME = os.environ.get("NNGPT_EXT_FAULTS", "small")
SIZE = SIZES[NAME]


@functools.cache
def state() -> str:
    """A hash of the package and of these tests: figures are of one state."""
    total = hashlib.sha256()
    for folder in (ROOT / "nngpt_ext", ROOT / "tests" / "faults"):
        for file in sorted(folder.rglob("*")):
            if file.is_file() and "__pycache__" not in file.parts:
                total.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return total.hexdigest()[:12]


@functools.cache
def place() -> Path:
    """Where the ledgers are: kept between full sessions of one state, temporary otherwise."""
    if NAME == "full":
        return ROOT / "runs" / "faults" / state()
    return Path(_kept.name)


class Ledger:
    """The cases of one part. A case is a name, counts of what came out, and a list of faults."""

    def __init__(self, part: str) -> None:
        self.file = place() / f"{part}.jsonl"

    def cases(self) -> dict[str, dict[str, Any]]:
        """All cases by name; of a case that was tried twice, the last. A line that is cut off does not count."""
        found: dict[str, dict[str, Any]] = {}
        if self.file.is_file():
            for line in self.file.read_text(encoding="utf-8").splitlines():
                try:
                    case = json.loads(line)
                except ValueError:
                    continue
                found[case["case"]] = case
        return found

    def has(self, case: str) -> bool:
        """Whether the case was tried, without a fault."""
        return not self.cases().get(case, {"faults": ["not tried"]})["faults"]

    def note(self, case: str, counts: dict[str, int], faults: Iterable[str] = ()) -> None:
        """Add a case; raise if it has faults."""
        faults = list(faults)
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps({"case": case, "counts": counts, "faults": faults}) + "\n")
        assert not faults, f"{case}: {len(faults)} faults\n" + "\n".join(faults)

    def figures(self) -> dict[str, int]:
        """Sums over all cases."""
        cases = self.cases().values()
        total: Counter[str] = Counter({"cases": len(cases)})
        for case in cases:
            total.update(case["counts"])
        total["faults"] = sum(len(case["faults"]) for case in cases)
        return dict(total)

    def told(self) -> str:
        """The figures as a line."""
        return f"{self.file.stem}: " + ", ".join(f"{n:,} {name}" for name, n in self.figures().items())


def write_figures(target: Path) -> None:
    """Write the figures of a full session, whole or not at all."""
    found = {part: Ledger(part).figures() for part in PARTS}
    wanted = SIZES["full"]
    for part, counted, least in (
        ("kills", "kills", wanted.kills), ("damaged", "cases", wanted.damaged), ("inputs", "inputs", wanted.inputs),
        ("races", "answers", wanted.answers),
    ):  # fmt: skip
        if found[part].get(counted, 0) < least or found[part]["faults"]:
            raise SystemExit(f"{part}: {found[part]}, of {least:,} {counted} without a fault; run `make faults` again")
    commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=ROOT, capture_output=True, text=True).stdout.strip()
    content = {
        "command": "make faults", "commit": commit, "state": state(), "python": platform.python_version(),
        "cores": os.cpu_count(), **found,
    }  # fmt: skip
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    temporary.replace(target)


if __name__ == "__main__":
    if NAME != "full":
        raise SystemExit("the figures are those of NNGPT_EXT_FAULTS=full; use `make faults`")
    write_figures(Path(sys.argv[1]))
