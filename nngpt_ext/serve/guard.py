"""What a request must be before anything reads it: of this host, with the token, JSON, and small. Answers are problems.

A page from elsewhere can make a browser send requests to a server on loopback. None of them gets through: a name that
leads here by DNS is another Host, JSON from another origin needs a permission that is never given, and a form has an
Origin.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Collection, Mapping
from http import HTTPStatus
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from nngpt_ext.channel import is_loopback
from nngpt_ext.errors import UserError, shown

MOST = 2**23  # bytes of a request; a source of a million characters fits, also where JSON escapes each in six
MOST_MANY = 2**25  # of one about many networks
# Values of a request's JSON, and of one about many networks: while millions are parsed, which takes seconds, no other
# request is answered.
MOST_VALUES, MOST_VALUES_MANY = 100_000, 500_000
_PIECE = 1 << 20  # bytes that are looked through at once
_MANY = "/v1/score"
PAGE, HEALTH = "/", "/healthz"
FORM, JSON = "application/x-www-form-urlencoded", "application/json"
_HEADERS = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "x-content-type-options": "nosniff", "referrer-policy": "same-origin", "cache-control": "no-store",
}  # fmt: skip


def problem(status: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """An error's answer; `detail` becomes one printable line of limited length."""
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    found = content | {"detail": str(UserError(detail))}
    return JSONResponse(found, status, headers, media_type="application/problem+json")


class Guard:
    """The outermost part of a server.

    Args:
        app: gets the requests that pass.
        token: what requests need in `Authorization: Bearer …`, if any; those of a form have it as a field.
        loopback: whether requests must call the server by a name of loopback; beyond it, the token protects it.
        names: other names by which it may be called, those of a proxy; also its pages' origins may have them.
        timeout: seconds within which a request must have arrived.
        told: called with the path, the status and the seconds of each answer.
    """

    def __init__(
        self, app: ASGIApp, token: str | None = None, *, loopback: bool = True, names: Collection[str] = (),
        timeout: float = 30.0, told: Callable[[str, int, float], None] = lambda *_: None,
    ) -> None:  # fmt: skip
        self._app, self._token, self._loopback, self._timeout, self._told = app, token, loopback, timeout, told
        self._names = frozenset(name.lower() for name in names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no web sockets
        began, refused, body = time.perf_counter(), self._refusal(scope), b""
        if refused is None and scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
            try:
                body = await asyncio.wait_for(_body(scope, receive), self._timeout)
                if len(body) > _PIECE:
                    await asyncio.to_thread(_check_values, scope["path"], body)
                else:
                    _check_values(scope["path"], body)
            except (asyncio.TimeoutError, TimeoutError):
                refused = problem(408, f"the request did not arrive within {self._timeout:g} s")
            except ValueError as error:
                refused = problem(413, str(error))
            except ConnectionError:  # nobody reads an answer
                return
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return waiting.pop() if waiting else await receive()

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *((k.encode(), v.encode()) for k, v in _HEADERS.items())]
                self._told(scope["path"], message["status"], time.perf_counter() - began)
            await send(message)

        if scope["method"] == "HEAD":  # as GET; the connection, which has its own scope, leaves out the body
            scope = {**scope, "method": "GET"}
        await (refused or self._app)(scope, again, with_headers)

    def _refusal(self, scope: Scope) -> JSONResponse | None:
        headers, path = Headers(scope=scope), scope["path"]
        host = headers.get("host", "")
        if self._loopback and not (is_loopback(name := _host_name(host)) or name in self._names):
            advice = "ask it as localhost or 127.0.0.1; for a proxy's name, start it with --name"
            return problem(421, f"this server is on loopback, not called {shown(host)}; {advice}")
        form = path == PAGE and scope["method"] == "POST"
        if (origin := headers.get("origin")) is not None and not self._is_own(origin, host):
            return problem(403, "a page of another origin may not ask this server")
        if form and headers.get("origin") is None:
            return problem(403, "only this server's own page may send this form; programs ask /v1/rank")
        if self._token is not None and path not in (PAGE, HEALTH):
            scheme, _, given = headers.get("authorization", "").partition(" ")
            right = hmac.compare_digest(given.strip().encode(), self._token.encode())
            if scheme.lower() != "bearer" or not right:
                return problem(401, "the token is missing or wrong", {"www-authenticate": "Bearer"})
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        wanted = FORM if form else JSON
        if scope["method"] in ("POST", "PUT", "PATCH") and kind != wanted:
            return problem(415, f"the content type must be {wanted}, not {kind or 'missing'}")
        encoding = headers.get("content-encoding", "identity").strip().lower()
        if encoding not in ("", "identity"):
            return problem(415, f"the body must not be compressed (Content-Encoding {encoding}); send it as it is")
        return None

    def _is_own(self, origin: str, host: str) -> bool:
        """Whether a page's origin is this server, or a proxy of it, whatever name the proxy calls the server by."""
        scheme, _, place = origin.partition("://")
        return place == host or (scheme in ("http", "https") and _host_name(place) in self._names)


def _host_name(host: str) -> str:
    """The name or address in a Host header, in lower case and without the port; empty for what is none."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _check_values(path: str, body: bytes) -> None:
    """Refuse JSON of far too many values, by its commas and brackets outside of texts.

    Raises:
        ValueError: if there are more than a request may have.
    """
    if path == PAGE:  # a form
        return
    most = MOST_VALUES_MANY if path == _MANY else MOST_VALUES
    if _has_more(body, most):  # perhaps in sources
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # what is escaped ends no text
        if body.count(b'"') > 2 * most or _has_more(b"".join(body.split(b'"')[::2]), most):
            raise ValueError(f"a request's JSON may have {most:,} values; ask in several requests")


def _has_more(body: bytes, most: int) -> bool:
    """Whether there are more commas and opening brackets; in pieces, so that other threads run and it may end early."""
    number = 0
    for start in range(0, len(body), _PIECE):
        piece = body[start : start + _PIECE]
        number += len(piece) - len(piece.translate(None, b",[{"))
        if number > most:
            return True
    return False


async def _body(scope: Scope, receive: Receive) -> bytes:
    """The whole body.

    Raises:
        ValueError: if it is too large.
        ConnectionError: if the client has gone.
    """
    most, parts, size = MOST_MANY if scope["path"] == _MANY else MOST, [], 0
    announced = Headers(scope=scope).get("content-length", "0")
    while size <= most and (not announced.isdecimal() or int(announced[:20]) <= most):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if not message.get("more_body", False) and size <= most:
            return b"".join(parts)
    raise ValueError(f"a request may have {most:,} bytes")
