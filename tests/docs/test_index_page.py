"""What a package index shows: the metadata of the built wheel, and what is in it and in the source distribution."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from nngpt_ext.version import __version__
from tests.docs.blocks import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
TARGET = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(built / f"nngpt_ext-{__version__}-py3-none-any.whl")


def test_the_page_has_no_link_that_leads_nowhere(wheel: zipfile.ZipFile) -> None:
    metadata = message_from_bytes(wheel.read(f"nngpt_ext-{__version__}.dist-info/METADATA"))
    assert metadata["Description-Content-Type"].startswith("text/markdown")
    page = str(metadata.get_payload())
    assert page.strip().startswith("# nngpt_ext")
    assert [link for link in TARGET.findall(page) if not link.startswith(("https://", "#"))] == []
    assert "![" not in page
    assert "(Drawn by" not in page
    assert "Changelog (`CHANGELOG.md`)" in page
    assert len(page) > 0.9 * len(README)


def test_with_an_address_links_lead_to_the_tag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    from index_page import index_page

    page = index_page(README, "https://forge.example/owner/name/", "1.2.3")
    place = "https://forge.example/owner/name"
    assert f"[Changelog]({place}/blob/v1.2.3/CHANGELOG.md)" in page
    assert f"in order]({place}/raw/v1.2.3/docs/picture.svg)" in page
    assert f"({place}/blob/v1.2.3/docs/splits.md#splits)" in page
    assert "[below](#results)" in page
    links = TARGET.findall(page)
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    for link in links:  # what they lead to is in the repository
        if link.startswith(place):
            assert (ROOT / link.split("/v1.2.3/")[1].partition("#")[0]).exists(), link


def test_what_the_wheel_has(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    tops = {name.split("/")[0] for name in names}
    assert tops == {"nngpt_ext", f"nngpt_ext-{__version__}.dist-info"}
    assert {f"nngpt_ext-{__version__}.dist-info/licenses/LICENSE", "nngpt_ext/py.typed"} <= names
    assert {f"nngpt_ext/models/{base}/model.safetensors" for base in ("embedded", "embedded_small")} <= names
    # Every example that needs no other file.
    examples = {
        file.name: file.read_bytes() for file in (*(ROOT / "examples").glob("*.yaml"), ROOT / "examples/alexnet.py")
    }
    assert {name.split("/")[-1]: wheel.read(name) for name in names if "/examples/" in name} == examples


def test_what_the_source_distribution_has(built: Path) -> None:
    with tarfile.open(built / f"nngpt_ext-{__version__}.tar.gz") as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = (
        "LICENSE", "README.md", "CHANGELOG.md", "Makefile", "constraints.txt", "mkdocs.yml", "scripts/index_page.py",
        "docs/index.md", "tests/test_cli.py", "examples/plugin/pyproject.toml", "benchmarks/results",
    )  # fmt: skip
    assert [name for name in wanted if not any(found == name or found.startswith(f"{name}/") for found in names)] == []
    assert not any(re.search(r"\.venv|__pycache__|\.db$|^runs/", name) for name in names)
