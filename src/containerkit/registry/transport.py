"""HTTP over urllib3: requests, answers, timeouts, redirects.

Owns: sending, and the pools it keeps; `connections` makes those, `failures` turns every urllib3
exception into a TransportError.
Must not: know manifests, tokens or what a status means.  Flow: `client` sends through it.

A registry chooses where it redirects to and where its tokens come from.  So an answer that a
redirect leads to never gets the Authorization header of another origin, and a connection to a
place that the registry chose is refused when that is more private than the registry itself; the
address is looked at after name resolution, on the connection itself.
"""

from __future__ import annotations

import os
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any, Final, Self
from urllib.parse import urlsplit

import attrs
import urllib3
from urllib3.exceptions import HTTPError

from containerkit.errors import RegistryError, TransportError
from containerkit.model.engine_config import Pace
from containerkit.registry import protocol
from containerkit.registry.connections import (
    ANYWHERE,
    Guard,
    Tls,
    make_pool,
    proxy_for,
    refuse_private,
)
from containerkit.registry.failures import translated
from containerkit.registry.pace import Meter

CONNECT_TIMEOUT: Final = 10.0
"""Seconds for a connection, and again for the TLS handshake; a SYN is sent anew after 1, 3 and 7."""
ANSWER_TIMEOUT: Final = 25.0
"""Seconds until an answer begins; `Policy.silent_tries` of these are less than a minute."""
PROBE_TIMEOUT: Final = 15.0
"""Likewise, where a registry is only asked how it is spoken to."""
IDLE_TIMEOUT: Final = 60.0
MAX_REDIRECTS: Final = 5
MAX_POOLS: Final = 32
BROKEN: Final = (HTTPError, OSError, ValueError, OverflowError)
"""What urllib3 and what is below it raise: the last two for sizes and names that are none."""


@attrs.define(eq=False)
class Answer:
    """A status, headers and a body that is still on the wire; a context manager.

    Args:
        url: that answered, after redirects.
        idle_timeout: seconds after which a read gives up.
        meter: that it is read through.
    """

    request: str
    url: str
    response: urllib3.BaseHTTPResponse
    idle_timeout: float
    meter: Meter

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, their names in any case."""
        return self.response.headers

    def all_headers(self, name: str) -> list[str]:
        """Return each value of a header that may come several times."""
        return list(self.response.headers.getlist(name))

    def read(self, limit: int) -> bytes:
        """Return the whole body, or its first ``limit + 1`` bytes when it is longer.

        Raises:
            TransportError: the connection broke.
        """
        data = bytearray()  # in however small pieces it comes
        while len(data) <= limit and (part := self.read1(min(limit + 1 - len(data), 1 << 18))):
            data += part
        return bytes(data)

    def read1(self, most: int) -> bytes:
        """Return the bytes that are there, at most *most*, waiting for the first; b"" at the end.

        Raises:
            TransportError: the connection broke, was idle for too long, or is too slow.
        """
        try:
            # No decoding: digests are of the bytes as they are stored.
            return self.meter.read(
                most, lambda: self.response.read1(most, decode_content=False) or b""
            )
        except BROKEN as error:
            raise translated(error, self.request) from error

    def pending(self) -> bool:
        """Return whether TLS holds bytes that were read from the socket but not by us."""
        connection = getattr(self.response, "connection", None)
        sock = getattr(connection, "sock", None)
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def fileno(self) -> int | None:
        """Return the socket, to wait on; None when that says nothing about what can be read."""
        if getattr(self.response, "chunked", True):
            return None
        try:
            return self.response.fileno()
        except (OSError, ValueError, AttributeError):
            return None

    def finish(self) -> None:
        """Give the connection back for the next request if the body was read, else close it."""
        if getattr(self.response, "length_remaining", None) == 0:
            self.response.drain_conn()
        else:
            self.response.close()

    def discard(self) -> None:
        """End an answer whose body is of no interest; a short one is read for the connection's sake."""
        _discard(self.response)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()


class Transport:
    """Sends requests; safe to use from several threads.

    Args:
        user_agent: of every request.
        idle_timeout: seconds without a byte after which a connection counts as broken.
        answer_timeout: seconds until the first byte of any answer must be there at most; None: what
            each request says.
        pace: that answers have to keep; None: the usual one.
    """

    def __init__(
        self,
        *,
        user_agent: str,
        idle_timeout: float = IDLE_TIMEOUT,
        answer_timeout: float | None = None,
        pace: Pace | None = None,
    ) -> None:
        self._user_agent = user_agent
        self._pace = pace or Pace()
        self._idle_timeout = idle_timeout
        self._answer_timeout = answer_timeout
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._pools: dict[tuple[object, ...], Any] = {}
        self._contexts: dict[Tls, ssl.SSLContext] = {}
        self._reaches: dict[str, int] = {}

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        tls: Tls,
        authorization: str | None = None,
        body: bytes | None = None,
        chosen_by: str | None = None,
        patience: float = ANSWER_TIMEOUT,
    ) -> Answer:
        """Send a request and follow where the answer leads.

        Args:
            method: of HTTP.
            url: absolute.
            headers: sent to every origin on the way.
            tls: how certificates are checked.
            authorization: sent to the origin of *url* only.
            body: a form; an answer to it is not followed anywhere.
            chosen_by: URL of the registry that named *url*; None when the caller did.
            patience: seconds until an answer begins.

        Raises:
            TransportError: no answer.
            RegistryError: a redirect that may not be followed.
        """
        first = protocol.origin_of(url)
        registry = chosen_by or url
        request = f"{method} {protocol.redacted(url)}"
        for _ in range(MAX_REDIRECTS + 1):
            # Where the caller itself pointed is never in question; all else is.
            trusted = protocol.origin_of(url) == protocol.origin_of(registry)
            reach = ANYWHERE if trusted else self._reach(registry)
            fields = {"User-Agent": self._user_agent, "Accept-Encoding": "identity", **headers}
            if authorization is not None and protocol.origin_of(url) == first:
                fields["Authorization"] = authorization
            response = self._send_one(method, url, fields, body, tls, reach, patience)
            location = response.headers.get("Location")
            if response.status not in protocol.REDIRECTS or location is None or body is not None:
                connection: Any = response.connection
                meter = getattr(connection, "meter", None) or Meter(self._pace)
                if connection is not None:
                    connection.wait_for_bytes(self._idle_timeout)
                return Answer(request, url, response, self._idle_timeout, meter)
            _discard(response)
            url = protocol.redirect_target(url, location)
        raise RegistryError(
            f"cannot follow {request}: more than {MAX_REDIRECTS} redirects", request=request
        )

    def _send_one(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        tls: Tls,
        reach: int,
        patience: float,
    ) -> urllib3.BaseHTTPResponse:
        if self._answer_timeout is not None:
            patience = min(patience, self._answer_timeout)
        connecting = min(CONNECT_TIMEOUT, patience)
        try:
            refuse_private(protocol.origin_of(url)[1], reach)  # also of a proxy's doing
            pool = self._pool(url, tls, reach)
            target = url if isinstance(pool, urllib3.ProxyManager) else _target(url)
            response: urllib3.BaseHTTPResponse = pool.urlopen(
                method,
                target,
                body=body,
                headers=headers,
                redirect=False,
                retries=False,
                timeout=urllib3.Timeout(connect=connecting, read=patience),
                preload_content=False,
                decode_content=False,
            )
        except TransportError:
            raise
        except BROKEN as error:
            raise translated(error, f"{method} {protocol.redacted(url)}", answered=False) from error
        return response

    def _pool(self, url: str, tls: Tls, reach: int) -> Any:
        """Return the pool of connections for an origin, made on first use."""
        if os.getpid() != self._pid:
            # After fork the sockets are the parent's; they are let go, not shut down.
            self._reset()
        scheme, host, port = protocol.origin_of(url)
        proxy = proxy_for(scheme, host)
        key = (scheme, host, port, tls, reach, proxy)
        with self._lock:
            pool = self._pools.pop(key, None)
            if pool is None:
                context = self._contexts.get(tls) or tls.context() if scheme == "https" else None
                if context is not None:
                    self._contexts[tls] = context
                pool = make_pool(
                    (scheme, host, port),
                    unverified=not tls.verify,
                    context=context,
                    guard=Guard(reach, self._reaches),
                    pace=self._pace,
                    proxy=proxy,
                )
            self._pools[key] = pool
            retired = (
                self._pools.pop(next(iter(self._pools))) if len(self._pools) > MAX_POOLS else None
            )
        if retired is not None:
            _close(retired)
        return pool

    def _reach(self, url: str) -> int:
        """Return how private the registry at *url* is, by the address that it answered from.

        One of several that its name has would not do: whoever owns the name chooses those too.
        """
        _, host, port = protocol.origin_of(url)
        known = self._reaches.get(host)
        if known is not None:
            return known
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            known = min(protocol.reach(str(entry[4][0])) for entry in found)
        except (OSError, ValueError):
            known = 0
        self._reaches[host] = known
        return known

    def close(self) -> None:
        """Close all idle connections; the transport can still be used."""
        with self._lock:
            pools, self._pools = list(self._pools.values()), {}
        for pool in pools:
            _close(pool)


def _discard(response: urllib3.BaseHTTPResponse) -> None:
    """Read a short body, so that the connection serves again; drop the connection of a long one."""
    length = protocol.content_length(response.headers)
    # Of a chunked body the length says nothing, whatever it says.
    chunked = "Transfer-Encoding" in response.headers
    if length is not None and length <= protocol.MAX_ERROR_BODY and not chunked:
        response.drain_conn()
    else:
        response.close()


def _close(pool: Any) -> None:
    pool.clear() if isinstance(pool, urllib3.ProxyManager) else pool.close()


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/"
