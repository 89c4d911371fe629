"""The wheel in empty environments, and the oldest libraries that pyproject.toml allows (scripts/installation.py)."""

from __future__ import annotations

import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from tests.docs.blocks import ROOT

SCRIPT = ROOT / "scripts" / "installation.py"


def test_every_dependency_has_a_lower_bound() -> None:
    shown = subprocess.check_output([sys.executable, SCRIPT, "oldest"], text=True).splitlines()
    pins = {str(pin.marker): {} for pin in map(Requirement, shown)}
    for pin in map(Requirement, shown):
        (only,) = pin.specifier
        assert only.operator == "=="
        pins[str(pin.marker)][pin.name] = only.version
    assert pins["None"]["torch"] == "2.13.0"
    assert pins["None"]["trl"] == "1.0"
    assert pins['python_version >= "3.11"']["transformers"] == "5.22"
    assert len({name for some in pins.values() for name in some}) == 29


@pytest.mark.slow
def test_the_wheel_in_empty_environments() -> None:
    """Needs a package registry, and some minutes."""
    done = subprocess.run([sys.executable, SCRIPT, "wheel"], capture_output=True, text=True)
    if "No matching distribution found for torch" in done.stdout:
        pytest.skip("there is no package registry")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert done.stdout.endswith("everything worked\n")
