"""A server on a free port of loopback, in this process, with a real run."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn

from nngpt_ext import Client, RunResult
from nngpt_ext.serve.app import make_app
from nngpt_ext.serve.deployment import Deployment
from nngpt_ext.serve.server import address, configuration, listen
from nngpt_ext.serve.service import Service
from tests.predict.conftest import asking, one_thread, run

__all__ = ["asking", "one_thread", "run"]


class Running:
    """A server that runs, its URL and its service."""

    def __init__(self, url: str, service: Service) -> None:
        self.url, self.service = url, service


@contextmanager
def served(
    deployment: Deployment,
    token: str | None = None,
    connections: int = 1_000,
    names: Sequence[str] = (),
    **options: Any,
) -> Iterator[Running]:
    service = Service(deployment, **options)
    with listen("127.0.0.1", 0) as listening:
        server = uvicorn.Server(configuration(make_app(service, token, names=names), connections))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started:
                assert thread.is_alive()
                time.sleep(0.01)
            yield Running(address(listening), service)
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture(scope="session")
def deployment(run: RunResult, tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    store = tmp_path_factory.mktemp("served") / "store.db"
    made = Deployment([f"demo={run.output_dir}"], store=f"sqlite:///{store}")
    made.load()
    return made


@pytest.fixture(scope="session")
def server(deployment: Deployment) -> Iterator[Running]:
    """One for all tests that leave it as it is."""
    with served(deployment) as found:
        yield found


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.url) as found:
        yield found
