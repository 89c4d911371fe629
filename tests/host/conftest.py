"""The real host, where it is installed: 1.0.6 beside LEMUR, and its later head where NNGPT_HEAD names a checkout."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nngpt_ext.errors import UserError
from nngpt_ext.host.installation import Host, find_host
from nngpt_ext.host.process import bare_root, run_in
from tests.data.conftest import database, tree
from tests.models_made import one_thread

__all__ = ["database", "one_thread", "tree"]

HEAD = "NNGPT_HEAD"


def installed() -> Host:
    for package in ("overrides", "radon"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed, which the host imports: make test installs it")
    try:
        return find_host()
    except UserError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session", params=["installed", "head"])
def host(request: pytest.FixtureRequest) -> Host:
    """Each host there is."""
    found = installed()
    if request.param == "installed":
        return found
    folder = os.environ.get(HEAD)
    if not folder:
        pytest.skip(f"the host's later head is not here: {HEAD} names no checkout")
    return find_host(folder)


@pytest.fixture
def in_host(host: Host, database: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run something in a root of the host, beside a small real LEMUR database."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        with bare_root(host, database) as root:
            return run_in(root, host, arguments)

    return run


@pytest.fixture
def imported(host: Host, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    """The host's agents can be imported here, and are forgotten afterwards: `ab.gpt` is one of several hosts'."""
    monkeypatch.syspath_prepend(str(host.folder.parents[1]))
    before = {name for name in sys.modules if name == "ab" or name.startswith("ab.")}
    for name in before:
        monkeypatch.delitem(sys.modules, name)
    yield host
    for name in [name for name in sys.modules if name == "ab" or name.startswith("ab.")]:
        del sys.modules[name]
