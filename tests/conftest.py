"""What all tests share: a cache folder of their own, and the real trials and pairs of epoch 5."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import settings

from nngpt_ext.data.cache import read_trials
from nngpt_ext.data.pairs import build_pairs
from nngpt_ext.data.sources.discovery import open_source
from nngpt_ext.data.sources.package import PackageSource
from nngpt_ext.data.trials import Trials

# The same examples in each run, nothing kept between runs, no failure because the machine is busy.
settings.register_profile("steady", max_examples=30, deadline=None, derandomize=True, database=None)
settings.load_profile("steady")


def pytest_configure(config: pytest.Config) -> None:
    """Tests pin what a CPU computes, also on a machine with a GPU; `pytest -m gpu` runs those that need one."""
    if config.getoption("markexpr") != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for this session, which the workers of pytest-xdist share: the user's stays as it is."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNGPT_EXT_CACHE", str(folder / "cache"))
        yield folder / "cache"


@pytest.fixture(scope="session")
def lemur_source(cache: Path) -> PackageSource:
    """The records that the installed nn-dataset ships."""
    source = open_source("package")
    assert isinstance(source, PackageSource)
    return source


@pytest.fixture(scope="session")
def lemur_trials(lemur_source: PackageSource) -> Trials:
    """All real trials of epoch 5. Do not change them."""
    return read_trials(lemur_source, 5)


@pytest.fixture(scope="session")
def lemur_pairs(lemur_trials: Trials) -> pd.DataFrame:
    """All real pairs of epoch 5, of best trials. Do not change them: use `copy`."""
    return build_pairs(lemur_trials.frame, 5)


@pytest.fixture(scope="session")
def lemur_sources(lemur_source: PackageSource, lemur_pairs: pd.DataFrame) -> dict[str, str]:
    """Sources of the networks in these pairs."""
    return lemur_source.sources(sorted(lemur_pairs["nn"].unique()))


@pytest.fixture
def missing(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Called with a library's name: the code under test does not find it, and still finds all others."""
    real = importlib.util.find_spec

    def hide(library: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == library else real(name))

    return hide


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """How many blocks of the documentation were run, and the figures of tests/faults, where any were."""
    for report in terminalreporter.stats.get("passed", []):
        for name, value in report.user_properties:
            if report.when == "call" and name == "figures":
                terminalreporter.write_line(value)
    done = [report.nodeid for report in terminalreporter.stats.get("passed", []) if report.when == "call"]
    run = sum(node.startswith("tests/docs/test_blocks.py::test_block[") for node in done)
    if run:
        from tests.docs.blocks import counted

        terminalreporter.write_line(counted(run))
