"""Connections: certificates, proxies, and the refusal of addresses that are too private.

Owns: the pools of urllib3 and what their connections check before a request is sent.
Must not: send requests (`transport` does).  Flow: `transport` keeps one pool an origin.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

import attrs
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from containerkit.errors import TransportError
from containerkit.model.engine_config import Pace
from containerkit.registry import protocol
from containerkit.registry.failures import TooPrivate
from containerkit.registry.pace import Meter, MeteredResponse
from containerkit.state.cancel import CancelEvent, current

ANYWHERE: Final = 3


@attrs.frozen
class Tls:
    """How certificates are checked.

    Args:
        verify: False accepts any certificate.
        ca: certificate authorities in PEM, trusted beside those of the host.
    """

    verify: bool = True
    ca: str | None = None

    def context(self) -> ssl.SSLContext:
        """Return a client context for it.

        Raises:
            TransportError: ``ca`` holds no certificate.
        """
        context = ssl.create_default_context()
        try:
            if self.ca is not None:
                context.load_verify_locations(cadata=self.ca)
        except (ssl.SSLError, ValueError) as error:
            raise TransportError(f"cannot use ca: it holds no PEM certificate ({error})") from error
        if not self.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context


class _Cancellable(HTTPConnection):
    """A connection that is hung up when the work that uses it is cancelled, and is kept to a pace.

    Attributes:
        meter: of the last answer.
    """

    pace = Pace()
    meter: Meter | None = None
    _answering: Any = None
    _event: CancelEvent | None = None

    def response_class(self, sock: Any, *args: Any, **options: Any) -> MeteredResponse:  # type: ignore[override]
        """Begin an answer; the name is `http.client`'s, which has a class there."""
        self._answering = sock
        self.meter = Meter(self.pace)
        return MeteredResponse(self.meter, sock, *args, **options)

    def wait_for_bytes(self, seconds: float) -> None:
        """Give each read of the answer that has begun so much time."""
        with contextlib.suppress(OSError):  # it is closed: all of it was read
            self._answering.settimeout(seconds)

    def connect(self) -> None:
        self._listen()
        super().connect()

    def request(self, *args: Any, **options: Any) -> None:
        self._listen()
        super().request(*args, **options)

    def _listen(self) -> None:
        self._event = current()
        if self._event is not None:
            if self._event.is_set():
                raise TransportError("cannot ask: it was cancelled", errno=errno.ECANCELED)
            self._event.tell(self)

    def cancelled(self, event: CancelEvent) -> None:
        sock = self.sock
        if sock is not None and event is self._event:  # it may serve other work by now
            with contextlib.suppress(OSError):
                # Not that of TLS, which takes the state away from who is reading.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


@attrs.frozen
class Guard:
    """What becomes of addresses.

    Args:
        allowed: how private one may be (`protocol.reach`).
        peers: by host, how private the least private address is that it had; it is filled in here.
    """

    allowed: int
    peers: dict[str, int]

    def connected(
        self, host: str, port: int, connect: Callable[[], socket.socket]
    ) -> socket.socket:
        """Connect, unless the name stands for an address that is too private.

        It is resolved once more than it has to be, so that nothing at all is sent there; and the
        peer of the connection is looked at, since the next answer may be another.

        Raises:
            TooPrivate: it does.
        """
        found: list[Any] = []
        if self.allowed < ANYWHERE:
            with contextlib.suppress(OSError, UnicodeError):  # connecting will say so
                found = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        for one in found:
            refuse_private(str(one[4][0]), self.allowed)
        sock = connect()
        try:
            peer = str(sock.getpeername()[0])
            refuse_private(peer, self.allowed)
        except BaseException:
            sock.close()
            raise
        reach = protocol.reach(peer)
        self.peers[host] = min(self.peers.get(host, reach), reach)
        return sock


def refuse_private(address: str, allowed: int) -> None:
    """Refuse an address that is too private; a name passes, its connection will be looked at.

    Raises:
        TooPrivate: it is.
    """
    try:
        too_private = protocol.reach(address.strip("[]")) > allowed
    except ValueError:
        return
    if too_private:
        raise TooPrivate(f"{address} is an address that this registry may not choose")


class _GuardedConnection(_Cancellable):
    """A connection that is given up, before anything is sent, when its peer is too private."""

    def __init__(self, *args: Any, guard: Guard, pace: Pace, **options: Any) -> None:
        super().__init__(*args, **options)
        self._guard = guard
        self.pace = pace

    def _new_conn(self) -> socket.socket:
        return self._guard.connected(self.host, self.port or 0, super()._new_conn)


class _CancellableTls(_Cancellable, HTTPSConnection):
    pass


class _GuardedTlsConnection(_CancellableTls):
    def __init__(
        self, *args: Any, guard: Guard, pace: Pace, unverified: bool = False, **options: Any
    ) -> None:
        super().__init__(*args, **options)
        self._guard = guard
        self.pace = pace
        self._unverified = unverified

    def _new_conn(self) -> socket.socket:
        return self._guard.connected(self.host, self.port or 0, super()._new_conn)

    def connect(self) -> None:
        super().connect()
        if self._unverified:
            # The caller said insecure=True; urllib3 need not warn of it at each connection.
            self.is_verified = True


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _GuardedConnection


class _TlsPool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _GuardedTlsConnection


def make_pool(
    origin: tuple[str, str, int],
    *,
    unverified: bool,
    context: ssl.SSLContext | None,
    guard: Guard,
    pace: Pace,
    proxy: str | None,
) -> Any:
    """Return a pool of connections to one origin, or to a proxy that leads there.

    Args:
        origin: scheme, host, port.
        unverified: any certificate will do.
        context: for https.
        guard: of the addresses; a proxy decides for itself.
        pace: that answers have to keep.
        proxy: URL, with credentials where it wants some.
    """
    scheme, host, port = origin
    options: dict[str, Any] = {"maxsize": 8}
    if scheme == "https":
        options["ssl_context"] = context
        if unverified:
            options |= {"cert_reqs": "CERT_NONE", "assert_hostname": False}
    if proxy is not None:
        user = urlsplit(proxy)
        login = f"{user.username}:{user.password or ''}" if user.username else None
        secret = urllib3.make_headers(proxy_basic_auth=login) if login else None
        manager = urllib3.ProxyManager(proxy, proxy_headers=secret, **options)
        manager.pool_classes_by_scheme = _unguarded(pace)
        return manager
    options |= {"guard": guard, "pace": pace}
    if scheme == "https":
        return _TlsPool(host, port, unverified=unverified, **options)
    return _Pool(host, port, **options)


def _unguarded(pace: Pace) -> dict[str, Any]:
    """Return the classes of a proxy's pools: a manager of them passes nothing on that it does not know."""
    plain = type("_Plain", (_Cancellable,), {"pace": pace})
    tls = type("_Tls", (_CancellableTls,), {"pace": pace})
    return {
        "http": type("_PlainPool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("_TlsPool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": tls}),
    }


def proxy_for(scheme: str, host: str) -> str | None:
    """Return the proxy that the environment asks for; never for this host itself."""
    from urllib.request import getproxies, proxy_bypass

    if protocol.is_loopback(f"[{host}]" if ":" in host else host):
        return None
    proxy = getproxies().get(scheme)
    return None if not proxy or proxy_bypass(host) else proxy


def readable(path: os.PathLike[str] | str) -> str:
    """Return the certificates in a file.

    Raises:
        TransportError: it can not be read.
    """
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(4 << 20)
    except OSError as error:
        raise TransportError(
            f"cannot read certificates of {os.fspath(path)}: {error.strerror}", errno=error.errno
        ) from error
