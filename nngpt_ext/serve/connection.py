"""A connection of the server: who sends no whole request in time is closed, and too many connections are told so.

uvicorn limits neither the time that a request's head takes nor that of a body nobody reads, so that idle connections
would fill its places and keep all others out.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

from nngpt_ext.serve.guard import problem

HEAD = 10.0  # seconds for a request's line and headers
KEPT = 8  # seconds for the next request: below HEAD, and more than a client waits (channel.KEPT), which so ends first
UNREAD = 60.0  # seconds in which a client reads nothing of an answer
BODY = 40.0  # seconds for its body, beyond what the guard waits, which says what is wrong
_FULL = "too many connections; ask again in 1 s"


class Connection(H11Protocol):
    """uvicorn's connection with limits.

    If all places are taken, a new connection takes that of the one which has been sending no whole head for longest;
    where all others are being answered, it is told 503.
    """

    def __init__(self, config: Config, *given: Any, **named: Any) -> None:
        super().__init__(config, *given, **named)
        self._most, self.limit_concurrency = self.limit_concurrency, None  # uvicorn's own answer is plain text
        self._timer: asyncio.TimerHandle | None = None
        self._unread: asyncio.TimerHandle | None = None
        self._waits_for: object = None  # the state of the other side that the timer is for

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """See `asyncio.Protocol`."""
        others = [one for one in self.connections if isinstance(one, Connection) and one.is_silent]
        super().connection_made(transport)
        # asyncio does so only where a socket states its protocol; else an answer's body waits 40 ms for its head.
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._most is not None and len(self.connections) > self._most and others:
            min(others, key=lambda one: one.until).end("too many connections, and no whole request on this one")
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.Protocol`."""
        self._unwatch()
        self._expect_reading(False)
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`: the client reads more slowly than is written, or not at all."""
        super().pause_writing()
        self._expect_reading(True)

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._expect_reading(False)
        super().resume_writing()

    def _expect_reading(self, expected: bool) -> None:
        if self._unread is not None:
            self._unread.cancel()
        self._unread = self.loop.call_later(UNREAD, self.transport.abort) if expected else None

    def handle_events(self) -> None:
        """Read what has arrived."""
        full = self._most is not None and max(len(self.connections), len(self.tasks)) > self._most
        self.app = problem(503, _FULL, {"retry-after": "1", "connection": "close"}) if full else self.config.loaded_app
        super().handle_events()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """In place of uvicorn's, which is plain text."""
        self._answer(400, "the request is not HTTP")

    @property
    def is_silent(self) -> bool:
        """Whether no whole head of a request has arrived, and nothing of an answer is unsent."""
        return self.conn.their_state is h11.IDLE and not self._busy

    @property
    def _busy(self) -> bool:
        return self.transport.is_closing() or self.transport.get_write_buffer_size() > 0

    @property
    def until(self) -> float:
        """When it is closed if nothing more arrives, in the loop's time."""
        return self._timer.when() if self._timer is not None else 0.0

    def end(self, why: str) -> None:
        """Close it; if a part of a request has arrived, `why` is said."""
        if self._busy:  # with an answer: a whole request has its time from then on
            self._unwatch()
            self._watch()
            return
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            self._answer(408, why)
        else:
            self.transport.abort()

    def _watch(self) -> None:
        state = self.conn.their_state
        if state is not self._waits_for:
            self._unwatch()
            limits = {h11.IDLE: HEAD, h11.SEND_BODY: BODY}
            if state in limits and not self.transport.is_closing():
                why = f"the request's head did not arrive within {HEAD:g} s"
                self._waits_for, self._timer = state, self.loop.call_later(limits[state], self.end, why)

    def _unwatch(self) -> None:
        self._waits_for = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _answer(self, status: int, detail: str) -> None:
        said = problem(status, detail, {"connection": "close"})
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            for event in (
                h11.Response(status_code=status, headers=said.raw_headers),
                h11.Data(data=bytes(said.body)),
                h11.EndOfMessage(),
            ):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
