"""What each attempt of the tests' hostile set came to, as root and as an ordinary user. Run it as root, on Linux.

python -m benchmarks.hostile --out benchmarks/results/hostile.json
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.figures import publish
from tests.networks import hostile
from tests.networks.test_hostile import ROOT, check, readable_by_all

ORDINARY = 65534  # nobody


def attempts(user: int) -> dict[str, Any]:
    """All attempts as one user; `AssertionError` if one did not fail as it should."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name, socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        folder = Path(name)
        (folder / "victim").write_text("precious")
        for one in (folder, folder / "victim"):
            os.chown(one, user, user)
        names = [*hostile.QUICK, *hostile.SLOW, *hostile.HARMLESS]
        command = [sys.executable, "-m", "tests.networks.hostile", name, str(listener.getsockname()[1]), *names]
        if user:
            become = f"setpriv --reuid {user} --regid {user} --clear-groups {shlex.join(command)}"
            script = f"{readable_by_all()}\ncd {shlex.quote(str(ROOT))}\nexec {become}"
            command = ["unshare", "--mount", "sh", "-c", script]
        more = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1", "HOME": name, "NNGPT_EXT_SECRET": "token"}
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ | more, check=True)
        found = json.loads(done.stdout.replace(name, "FOLDER").replace(f"{ROOT}/", ""))
        check(found, [*hostile.QUICK, *hostile.SLOW], folder, listener)
    return {"applied": found.pop("applied"), "attempts": found}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    publish({"root": attempts(0), "ordinary user": attempts(ORDINARY)}, parser.parse_args().out)


if __name__ == "__main__":
    main()
