"""What was tried and what came of it, case by case, so that an interrupted full session continues where it stopped.

`NNGPT_EXT_FAULTS` is the size, `small` or `full`. `python -m tests.faults.ledger FILE` writes the figures of a full
session to FILE, or nothing if something is missing or a fault was found.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import platform
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAME = os.environ.get("NNGPT_EXT_FAULTS", "small")
# How many kills, damaged folders, inputs, and answers of threads.
KILLS, DAMAGED, INPUTS, ANSWERS = {"small": (20, 120, 500, 192), "full": (100, 600, 2000, 1000)}[NAME]
LEAST = [
    ("kills", "kills", KILLS),
    ("damaged", "cases", DAMAGED),
    ("inputs", "inputs", INPUTS),
    ("races", "answers", ANSWERS),
]
_kept = tempfile.TemporaryDirectory(prefix="nngpt_ext_faults_")  # goes with the process


@functools.cache
def _place() -> Path:
    """Where the ledgers are: in a full session, a folder for this state of the package and of these tests."""
    total = hashlib.sha256()
    for file in sorted([*ROOT.glob("nngpt_ext/**/*.*"), *ROOT.glob("tests/faults/*.py")]):
        if file.is_file() and file.suffix != ".pyc":
            total.update(str(file.relative_to(ROOT)).encode() + file.read_bytes())
    return ROOT / "runs" / "faults" / total.hexdigest()[:12] if NAME == "full" else Path(_kept.name)


class Ledger:
    """The cases of one part: what came out of each, counted, and its faults."""

    def __init__(self, part: str) -> None:
        self.file = _place() / f"{part}.jsonl"
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.touch()
        lines = [line for line in self.file.read_text(encoding="utf-8").splitlines() if line.endswith("}")]
        self.cases = {case["case"]: case for case in map(json.loads, lines)}

    def has(self, case: str) -> bool:
        """Whether the case was tried before, without a fault."""
        return case in self.cases and not self.cases[case]["faults"]

    def note(self, case: str, counts: Mapping[str, int], faults: Sequence[str]) -> None:
        """Add a case; raise if it has faults."""
        self.cases[case] = {"case": case, "counts": dict(counts), "faults": list(faults)}
        with self.file.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(self.cases[case]) + "\n")
        assert not faults, f"{case}\n" + "\n".join(faults)

    def figures(self) -> Counter[str]:
        """Sums over all cases."""
        parts = [Counter(case["counts"]) + Counter(cases=1, faults=len(case["faults"])) for case in self.cases.values()]
        return sum(parts, Counter[str]())

    def show(self, record: Callable[[str, object], None]) -> None:
        """Print the figures at the end of the session."""
        record("figures", f"{self.file.stem}: {', '.join(f'{n:,} {name}' for name, n in self.figures().items())}")


def write_figures(target: Path) -> None:
    """Write the figures of a full session, whole or not at all."""
    found = {part: Ledger(part).figures() for part, *_ in LEAST}
    for part, counted, least in LEAST:
        if NAME != "full" or found[part][counted] < least or found[part]["faults"]:
            raise SystemExit(f"{part}: {found[part]}, not yet {least:,} {counted} without a fault; use `make faults`")
    about = {"state": _place().name, "python": platform.python_version(), "cores": os.cpu_count()}
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(json.dumps({"command": "make faults", **about, **found}, indent=2) + "\n", encoding="utf-8")
    temporary.replace(target)


if __name__ == "__main__":
    write_figures(Path(sys.argv[1]))
