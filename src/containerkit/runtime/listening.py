"""Is somebody listening inside a container, and does it answer?

Owns: reading the sockets of a container's network from the host's /proc, and making a socket that
lives in that network.  Must not: need an address: a container without any network has a loopback of
its own.  Neighbours: `ready` asks again and again.

A socket belongs for good to the network namespace of the thread that made it, so one is made by a
thread of its own that enters the namespace, and ends; the caller's threads stay where they are.

Spec: proc_pid_net(5), network_namespaces(7), setns(2); RFC 9112 for the request.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from containerkit.errors import HostError, PermissionDenied
from containerkit.model.ready import Http, Port
from containerkit.runtime.top import candidates
from containerkit.stdio.waiting import READ, WRITE, Interest, Wait, Waiting

if TYPE_CHECKING:
    from collections.abc import Callable

# include/net/tcp_states.h; an unconnected UDP socket that is bound shows as closed.
_LISTENS: Final = {"tcp": "0A", "udp": "07"}
_CLONE_NEWNET: Final = 0x40000000
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")
_ANSWER_MAX: Final = 4096
_ADDRESSES: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


# ---- who listens


def listens(pid: int, port: Port) -> bool:
    """Say whether a process of a container listens on a port, on whichever address.

    Args:
        pid: of the container's first process, as this process sees it.
        port: tcp: somebody accepts; udp: somebody has it bound.
    """
    inodes: set[int] = set()
    for family in ("", "6"):
        with contextlib.suppress(OSError):  # no IPv6 here, or it has ended
            table = _read(f"/proc/{pid}/net/{port.protocol}{family}")
            inodes |= listeners(table, port.number, _LISTENS[port.protocol])
    if not inodes:
        return False
    with contextlib.suppress(OSError):
        if os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
            # The host's network: others listen there, too.
            return any(inodes & set(_sockets(member)) for member in candidates(pid))
        return True
    return False


def listeners(table: str, port: int, state: str) -> set[int]:
    """Return the inodes of the sockets in a table that are bound to a port and in a state.

    Args:
        table: the text of ``/proc/PID/net/tcp``, ``tcp6``, ``udp`` or ``udp6``.
        port: the local one.
        state: two hexadecimal digits.
    """
    suffix = f":{port:04X}"
    found = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[1].endswith(suffix) and fields[3] == state:
            with contextlib.suppress(ValueError):
                found.add(int(fields[9]))
    return found


def _sockets(pid: int) -> Iterator[int]:
    """Yield the inodes of the sockets that a process has open."""
    directory = f"/proc/{pid}/fd"
    with contextlib.suppress(OSError):
        for fd in os.listdir(directory):
            with contextlib.suppress(OSError):
                target = os.readlink(f"{directory}/{fd}")
                if target.startswith("socket:["):
                    yield int(target[8:-1])


def _read(path: str) -> str:
    with open(path, encoding="ascii", errors="replace") as file:
        return file.read()


# ---- a socket in there


def socket_in(namespace: int, family: socket.AddressFamily) -> socket.socket:
    """Return a TCP socket that lives in a network namespace.

    Args:
        namespace: an open descriptor of it.
        family: AF_INET or AF_INET6.

    Raises:
        PermissionDenied: the caller may not enter it.
        HostError: the kernel has no such family, or no socket left.
    """
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            _enter()(namespace, _CLONE_NEWNET)
            made.append(socket.socket(family, socket.SOCK_STREAM))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make, name="containerkit-socket", daemon=True)
    thread.start()
    thread.join()
    [one] = made
    if isinstance(one, OSError):
        kind = PermissionDenied if one.errno == errno.EPERM else HostError
        raise kind(
            f"cannot make a socket in the container's network: {one.strerror}", errno=one.errno
        ) from one
    return one


def _enter() -> Callable[[int, int], None]:
    """Return setns(2): of `os` since Python 3.12, else of the C library."""
    found: Callable[[int, int], None] | None = getattr(os, "setns", None)
    if found is not None:
        return found
    import ctypes

    library = ctypes.CDLL(None, use_errno=True)

    def setns(fd: int, kind: int) -> None:
        if library.setns(fd, kind) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    return setns


# ---- does it answer


def ask(namespace: int, request: Http, *, seconds: float) -> Waiting[int | str]:
    """Make one HTTP request inside a network namespace.

    Args:
        namespace: an open descriptor of it.
        request: what to ask for, of whoever listens on loopback there.
        seconds: for all of it.

    Returns:
        The status of the answer, or why there is none, in words.

    Raises:
        PermissionDenied, HostError: see `socket_in`.
    """
    deadline = time.monotonic() + seconds
    why = ""
    for family, address in _ADDRESSES:
        try:
            with socket_in(namespace, family) as connection:
                return (yield from _exchange(connection, address, request, deadline))
        except PermissionDenied:
            raise
        except OSError as error:  # refused, reset, no such family
            why = why or error.strerror or str(error)
    return why


def _exchange(
    connection: socket.socket, address: str, request: Http, deadline: float
) -> Waiting[int | str]:
    connection.setblocking(False)
    code = connection.connect_ex((address, request.port))
    if code == errno.EINPROGRESS:
        if not (yield Wait(((connection.fileno(), WRITE),), deadline)):
            return "no connection in time"
        code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code:
        raise OSError(code, os.strerror(code))
    connection.send(request_bytes(request))  # small: it fits into any socket's buffer
    interest: Interest = ((connection.fileno(), READ),)
    answer = b""
    while len(answer) < _ANSWER_MAX and b"\n" not in answer:
        if not (yield Wait(interest, deadline)):
            return "no answer in time"
        try:
            chunk = connection.recv(_ANSWER_MAX)
        except BlockingIOError:
            continue
        if not chunk:
            break
        answer += chunk
    return status_of(answer)


def request_bytes(request: Http) -> bytes:
    """Return the request as it is sent."""
    host = f"[{request.host}]" if ":" in request.host else request.host
    return (
        f"GET {request.path} HTTP/1.1\r\nHost: {host}:{request.port}\r\n"
        "User-Agent: containerkit\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ).encode("ascii")


def status_of(answer: bytes) -> int | str:
    """Return the status of an answer's first line, or what is wrong with it."""
    match = _STATUS_LINE.match(answer)
    return int(match[1]) if match else "an answer that is not HTTP"
