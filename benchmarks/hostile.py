"""What each attempt of the tests' hostile set came to, as root and as an ordinary user. Run it as root, on Linux.

python -m benchmarks.hostile --out benchmarks/results/hostile.json
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import publish
from tests.networks import hostile
from tests.networks.test_hostile import check


def attempts(user: int) -> dict[str, Any]:
    """All attempts as one user; `AssertionError` if one did not fail as it should."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        folder = Path(name)
        (folder / "victim").write_text("precious")
        for one in (folder, folder / "victim"):
            os.chown(one, user, user)
        names = [*hostile.QUICK, *hostile.SLOW, *hostile.HARMLESS]
        done = hostile.run_as(user, names, folder, listener.getsockname()[1])
        if done.returncode:
            raise RuntimeError(done.stderr)
        found = json.loads(done.stdout.replace(name, "FOLDER").replace(f"{hostile.ROOT}/", ""))
        check(found, [*hostile.QUICK, *hostile.SLOW], folder, listener)
    return {"applied": found.pop("applied"), "attempts": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    os.environ["NNGPT_EXT_SECRET"] = "token"  # which no attempt may read
    publish({"root": attempts(0), "ordinary user": attempts(hostile.ORDINARY)}, parser.parse_args().out)


if __name__ == "__main__":
    main()
