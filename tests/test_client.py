"""The thin client: its own distribution beside no heavy library, the LangGraph node on a URL, and what goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from dataclasses import asdict
from pathlib import Path

import pytest

from nngpt_ext import Client, RunResult, UserError
from nngpt_ext.host.node import dataset_compare_node
from nngpt_ext.serve.deployment import Deployment
from tests import models_made
from tests.serve.conftest import Running, deployment, one_thread, run, served, server

__all__ = ["deployment", "one_thread", "run", "server"]

ROOT = Path(__file__).parents[1]
CODE = models_made.sources()["AlexNet"]
# As in an environment that has only what the distribution asks for.
SCRIPT = """
import json, sys
from importlib.machinery import PathFinder
find = PathFinder.find_spec
HEAVY = {"torch", "transformers", "numpy", "pandas", "scipy", "sqlalchemy", "pyarrow", "yaml", "typer"}
PathFinder.find_spec = classmethod(
    lambda cls, name, *more: None if name.split(".")[0] in HEAVY else find(name, *more)
)
import nngpt_ext
from nngpt_ext import Client
from nngpt_ext.host.agents import add_to_graph, make_state
from nngpt_ext.host.node import dataset_compare_node
from nngpt_ext import *
from nngpt_ext import extras
try:
    from nngpt_ext import Predictor
except ImportError as error:
    absent = str(error).replace(extras.pip("uninstall nngpt-ext-client"), "UNINSTALL")
given = sorted(name for name in dir(nngpt_ext) if globals()[name] is getattr(nngpt_ext, name))
assert nngpt_ext.__file__.startswith(sys.argv[1]), nngpt_ext.__file__
code = open(sys.argv[3]).read()
with Client(sys.argv[2]) as client:
    found = client.rank(code)
    assert "<table>" in found._repr_html_()
state = dataset_compare_node({"nn_code": code, "dataset_compare_run": sys.argv[2]})
here = dataset_compare_node({"nn_code": code, "dataset_compare_run": "runs/demo"})["dataset_compare_error"]
print(json.dumps([found.datasets, client.__class__.__module__, state, here, given, absent]))
"""


def test_its_own_distribution(server: Running, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path]
    subprocess.run(build, cwd=ROOT / "client", check=True, capture_output=True)
    (wheel,) = tmp_path.glob("nngpt_ext_client-*.whl")
    place = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(place)
    (tmp_path / "net.py").write_text(CODE)
    words = [sys.executable, "-c", SCRIPT, place, server.url, tmp_path / "net.py"]
    environment = {"PYTHONPATH": str(place), "PATH": ""}
    done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    datasets, module, state, here, given, absent = json.loads(done.stdout)
    assert given == ["Client", "Comparison", "Ranking", "UserError", "__version__"]
    assert absent == (
        "only nngpt-ext-client is installed here, which has no Predictor: ask a server with Client, or type UNINSTALL "
        "and install nngpt-ext, the whole package"
    )
    assert here == ("ValueError: only nngpt-ext-client is installed here: 'runs/demo' must be a server's URL, http://…")
    with Client(server.url) as client:
        assert tuple(datasets) == client.rank(CODE).datasets
    assert (module, state["dataset_ranking"], state["dataset_compare_error"]) == ("nngpt_ext.client", datasets, None)


def test_the_node_on_a_url_is_the_node_on_the_run(server: Running, run: RunResult) -> None:
    places = (server.url, str(run.output_dir))
    there, here = (dataset_compare_node({"nn_code": CODE, "dataset_compare_run": place}) for place in places)
    assert there["dataset_ranking"] == here["dataset_ranking"]
    assert there["probability"] == pytest.approx(here["probability"], abs=1e-9)
    assert there["dataset_compare_note"] == here["dataset_compare_note"]


def test_the_node_follows_a_new_token(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    token = "a-token-that-is-long-enough"
    with served(deployment, token) as server:
        asked = {"nn_code": CODE, "dataset_compare_run": server.url}
        monkeypatch.setenv("NNGPT_EXT_TOKEN", "an-old-token-that-was-replaced")
        assert "token" in dataset_compare_node(asked)["dataset_compare_error"]
        monkeypatch.setenv("NNGPT_EXT_TOKEN", token)
        assert dataset_compare_node(asked)["dataset_compare_error"] is None
        monkeypatch.setenv("NNGPT_EXT_ADAPTER", "other")
        said = "UserError: unknown adapter 'other'; known: demo"
        assert dataset_compare_node(asked)["dataset_compare_error"] == said


def test_an_adapter_that_is_named_with_the_question_answers(server: Running) -> None:
    pair = (CODE, "mnist", "svhn")
    with Client(server.url, adapter="other") as client:
        assert client.compare_explained(*pair, adapter="demo") == Client(server.url).compare_explained(*pair)
        assert client.rank_explained(CODE, adapter="demo") == Client(server.url).rank_explained(CODE)
        for given in ({}, {"adapter": None}, {"adapter": "other"}):
            with pytest.raises(UserError, match=r"^unknown adapter 'other'; known: demo$"):
                client.compare_explained(*pair, **given)
    with pytest.raises(UserError, match=r"^unknown adapter 'x'; known: demo$"):
        Client(server.url).rank_explained(CODE, adapter="x")


def test_structures_and_tuples_are_written_as_json(server: Running) -> None:
    from nngpt_ext.networks.structure import Structure

    with Client(server.url) as client:
        given = {"mnist": Structure(parameters=10, layers=2), "svhn": Structure(parameters=10, layers=2)}
        found = client.rank(CODE, ("mnist", "svhn"), structure=given)  # code_only does not show it
        assert asdict(found) == asdict(client.rank(CODE, ["svhn", "mnist"]))


def test_mistakes(server: Running) -> None:
    with pytest.raises(UserError, match=r"is like http://127.0.0.1:8377, not 'localhost'"):
        Client("localhost")
    for url in ("http://[::1", "http://localhost:abc"):
        with pytest.raises(UserError, match=r"is like http://127.0.0.1:8377, not 'http://"):
            Client(url)
    with pytest.raises(UserError, match=r"is like http://127.0.0.1:8377, not None"):
        Client(None)  # type: ignore[arg-type]
    for token in ("one two-secret", "tökén-secret", "se\ncret"):
        with pytest.raises(UserError, match=r"^the token must be one word of ASCII characters$"):
            Client(server.url, token=token)
    with pytest.raises(UserError, match=r"no answer from http://127.0.0.1:1 .*; start one in a shell: nngpt-ext serve"):
        Client("http://127.0.0.1:1").adapters()
    with pytest.raises(UserError, match="unknown adapter 'x'; known: demo"):
        Client(server.url, adapter="x").compare(CODE, "mnist", "svhn")
    assert Client(server.url.replace("http", "HTTP"), token="a-token-with-an-end\n").adapters()
    with pytest.raises(UserError, match="cannot be written as JSON"):
        Client(server.url).compare(CODE, "mnist", "svhn", recipe={"lr": object()})
