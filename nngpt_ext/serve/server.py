"""Runs an application on a port until a signal: answers in flight are finished, SIGHUP reads the adapters again."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import resource
import signal
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from nngpt_ext.channel import is_loopback, is_token
from nngpt_ext.errors import UserError, shown
from nngpt_ext.io import read_text
from nngpt_ext.serve.connection import KEPT, Connection
from nngpt_ext.serve.guard import Guard

log = logging.getLogger(__name__)

_CONNECTIONS = 1_000  # at most half of the files that the process may open
_LAST = 60  # seconds for the answers in flight when the server stops
_SHORTEST = 16  # characters of a token


def read_token(file: Path | None, host: str, names: Sequence[str] = ()) -> str | None:
    """The token of a server; None for one on loopback without a file and without a proxy, which calls it by `names`.

    Raises:
        UserError: if there is no token and the server is not on loopback or behind a proxy, for a token that is too
            short, and for a name that no host has.
    """
    for name in names:
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise UserError(f"--name is the name of a host, such as nn.example.com, not {shown(name)}")
    if file is None:
        beyond = [f"on {shown(host)}"] if not is_loopback(host) else [f"called {shown(name)}" for name in names]
        if beyond:
            raise UserError(
                f"a server {beyond[0]} can be reached from other machines, so it needs a token: openssl rand "
                "-hex 24 > token.txt, then --token-file token.txt"
            )
        return None
    token = read_text(file, "the token file").strip()
    if len(token) < _SHORTEST or not is_token(token):
        raise UserError(
            f"the token in '{file}' must be one word of at least {_SHORTEST} ASCII characters; write one: "
            f"openssl rand -hex 24 > {file}"
        )
    return token


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 is a free one.

    Raises:
        UserError: if the port is in use or may not be used, or the host is not an address of this machine.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        return socket.create_server((host, port), family=family, backlog=512)
    except (OSError, OverflowError, UnicodeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot listen on {host}:{port}: {why}; give another --host or --port") from None


def address(listening: socket.socket) -> str:
    """The URL of a server, for messages."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def configuration(app: Guard, connections: int = _CONNECTIONS) -> uvicorn.Config:
    """How uvicorn serves an application."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return uvicorn.Config(
        app, http=Connection, ws="none", log_config=None, access_log=False, lifespan="on", server_header=False,
        limit_concurrency=connections if files < 0 else min(connections, files // 2), proxy_headers=False,
        timeout_graceful_shutdown=_LAST, timeout_keep_alive=KEPT,
    )  # fmt: skip


def run(
    app: Guard,
    listening: socket.socket,
    reload: Callable[[], None] | None = None,
    hung_up: Callable[[], bool] = lambda: False,
) -> None:
    """Serve until SIGINT or SIGTERM, the second of which does not wait.

    `reload` is called at SIGHUP, and at the start if one had come by then.
    """
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # its warnings are of what clients do
    _Server(configuration(app), reload, hung_up).run([listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, reload: Callable[[], None] | None, hung_up: Callable[[], bool]) -> None:
        super().__init__(config)
        self._reload, self._hung_up = reload, hung_up

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        await super().startup(sockets)
        if self._reload is not None and self._hung_up():
            self._reload()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """In place of uvicorn's, which sends itself the signal again at the end, so that no server ends with 0."""
        loop = asyncio.get_running_loop()
        for one in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(one, self._end, one)
        if self._reload is not None:
            loop.add_signal_handler(signal.SIGHUP, self._reload)
        yield

    def _end(self, number: int) -> None:
        if self.should_exit:  # asked twice: threads that check or measure would otherwise be waited for
            os._exit(128 + number)
        self.handle_exit(number, None)
