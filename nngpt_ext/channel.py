"""How a client reaches a server: the URL, the token and the time are checked, and what the environment asks of httpx.

httpx takes proxies and certificates from environment variables, and tells of a mistake in them, or in a host's name, by
exceptions of many kinds.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterable
from numbers import Real
from typing import TYPE_CHECKING

from nngpt_ext.errors import UserError, reason, shown, typed
from nngpt_ext.extras import pip

if TYPE_CHECKING:
    import httpx

# Environment variables: a server's URL, its token, and which of its adapters answers.
SERVER, TOKEN, ADAPTER = "NNGPT_EXT_SERVER", "NNGPT_EXT_TOKEN", "NNGPT_EXT_ADAPTER"
KEPT = 4.0  # seconds for which an idle connection is kept; a server keeps it longer, or both would meet in its end
_LIKE = "the URL of a server is like http://127.0.0.1:8377"
_LONGEST = 86_400  # seconds for an answer; sockets cannot count many more
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")
_CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


def is_url(place: object) -> bool:
    """Whether this is a server's URL, and not a run's folder."""
    return isinstance(place, str) and place.lower().startswith(("http://", "https://"))


def is_token(text: str) -> bool:
    """Whether a text can be a token: one word of ASCII characters, as a header takes it."""
    return text.isascii() and text.isprintable() and " " not in text


def is_loopback(host: str) -> bool:
    """Whether a name or an address is that of this machine only."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_channel(url: str, token: str | None, seconds: float) -> httpx.Client:
    """What sends a client's requests; nothing is sent yet.

    Raises:
        UserError: if the URL, the token, the seconds, or a variable of the environment cannot be used.
    """
    import httpx

    place = _checked_url(url)
    headers = {"Authorization": f"Bearer {token}"} if (token := _checked_token(token)) else {}
    if not isinstance(seconds, Real) or isinstance(seconds, bool) or not 0 < seconds <= _LONGEST:
        raise UserError(f"timeout is a number of seconds above 0, at most {_LONGEST}, not {shown(seconds)}")
    limits = httpx.Limits(max_connections=100, max_keepalive_connections=20, keepalive_expiry=KEPT)
    try:
        # A proxy's loopback is another one. A transport of our own reads no proxies; for TLS it reads certificates.
        own = httpx.HTTPTransport(trust_env=place.scheme == "https", limits=limits) if is_loopback(place.host) else None
        return httpx.Client(base_url=place, headers=headers, timeout=float(seconds), limits=limits, transport=own)
    except OSError as error:
        names = _set_ones(_CERTIFICATES) or "the certificates of this Python"
        raise UserError(f"{names} cannot be used ({reason(error)}); name a file that is right, or unset it") from None
    except ImportError:
        names, more = _set_ones(_PROXIES, "socks"), pip("install 'httpx[socks]'")
        raise UserError(f"{names} cannot be used: for a SOCKS proxy type {more}, or unset it") from None
    except (ValueError, httpx.InvalidURL):  # whose text may quote a proxy's password
        names = _set_ones((*_PROXIES, "NO_PROXY"))
        raise UserError(
            f"{names} cannot be used: a proxy is like http://proxy.test:3128, and NO_PROXY like localhost,::1; correct "
            "it, or unset it"
        ) from None


def proxies_of(url: httpx.URL) -> str:
    """The variables set that may name a proxy for a URL, joined, or ""."""
    return "" if is_loopback(url.host) else _set_ones(_PROXIES)


def _set_ones(names: Iterable[str], start: str = "") -> str:
    """Those of the variables, in either case, that are set, to values with this start; never their values."""
    found = [one for one, value in os.environ.items() if one.upper() in names and value.lower().startswith(start)]
    return " or ".join(sorted(one for one in found if os.environ[one]))


def _checked_url(url: object) -> httpx.URL:
    import httpx

    if isinstance(url, str) and (secret := next((one for one in "@?#" if one in url), None)):  # so it is not shown
        token = typed(f"a token goes in {TOKEN}", "a token goes in token=…")
        raise UserError(f"{_LIKE}, without user, password, query or fragment, but this one has a '{secret}'; {token}")
    if not isinstance(url, str) or not is_url(url):
        raise UserError(f"{_LIKE}, not {shown(url)}")
    try:
        found = httpx.URL(url)
        host, port = found.host, found.port
        found.raw_host.decode().encode("idna")  # which a look-up of the host does too
    except (httpx.InvalidURL, ValueError) as error:  # ValueError: a host that is no name
        raise UserError(f"{_LIKE}, not {shown(url)} ({reason(error)})") from None
    if not host:
        raise UserError(f"{_LIKE}, not {shown(url)} (it has no host)")
    if port is not None and not 0 < port < 2**16:
        raise UserError(f"{_LIKE}, not {shown(url)} (a port is from 1 to 65535)")
    return found


def _checked_token(token: object) -> str:
    if token is None:
        return ""
    if not isinstance(token, str):
        raise UserError(f"the token must be a str, not {type(token).__name__}")  # which is not shown
    token = token.strip()
    if not is_token(token):
        raise UserError("the token must be one word of ASCII characters")
    return token
