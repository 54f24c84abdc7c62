"""Is somebody listening inside a container, and does it answer?

Owns: what counts as listening and as an answer.  Must not: need an address: a container without any
network has a loopback of its own, and a connection just to see would be the service's first client.
Neighbours: `sockets` reaches into the network; `ready` asks again and again.

Spec: proc_pid_net(5); RFC 9112 for the request.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import time
from collections.abc import Iterator
from typing import Final

from containerkit.errors import HostError, PermissionDenied, refusals
from containerkit.model.ready import Http, Port
from containerkit.runtime.sockets import Diagnosis, socket_in
from containerkit.runtime.top import read_tasks
from containerkit.stdio.waiting import READ, WRITE, Interest, Wait, Waiting

# include/net/tcp_states.h; an unconnected UDP socket that is bound shows as closed.
_PROTOCOLS: Final = {"tcp": (socket.IPPROTO_TCP, 10), "udp": (socket.IPPROTO_UDP, 7)}
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})[ \r\n]")
_ANSWER_MAX: Final = 4096
_ADDRESSES: Final = ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1"))


# ---- who listens


class Listening:
    """Looks whether somebody in a container listens on a port, again and again.

    Args:
        port: tcp: somebody accepts; udp: somebody has it bound.
    """

    __slots__ = ("_diagnosis", "_pid", "_port")

    def __init__(self, port: Port) -> None:
        self._port = port
        self._pid = -1
        self._diagnosis: Diagnosis | None = None

    def look(self, pid: int) -> bool:
        """Say whether a process of the container listens, on whichever address.

        Args:
            pid: of the container's first process, as this process sees it.
        """
        try:
            if pid != self._pid:
                self._turn_to(pid)
            inodes = self._inodes(pid)
            if inodes and os.path.samefile(f"/proc/{pid}/ns/net", "/proc/self/ns/net"):
                # The host's network: others listen there, too.
                members = read_tasks(pid)
                return any(inodes & set(_sockets(member.host_pid)) for member in members)
        except (FileNotFoundError, ProcessLookupError):  # it has ended
            return False
        return bool(inodes)

    @refusals("open the network of the container")
    def _turn_to(self, pid: int) -> None:
        self.close()
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._diagnosis = Diagnosis(namespace)
        except HostError:  # without the right to enter it: by its table
            self._diagnosis = None
        finally:
            os.close(namespace)
        self._pid = pid

    def _inodes(self, pid: int) -> set[int]:
        number, state = _PROTOCOLS[self._port.protocol]
        if self._diagnosis is not None:
            try:
                return self._diagnosis.inodes(number, self._port.number, state)
            except OSError:  # a kernel without inet_diag
                self.close()
        return listening_inodes(pid, self._port)

    def close(self) -> None:
        """Look no more; harmless when repeated."""
        if self._diagnosis is not None:
            self._diagnosis.close()
            self._diagnosis = None
        self._pid = -1


def listening_inodes(pid: int, port: Port) -> set[int]:
    """Return the inodes of the listening sockets in the tables of a process's network.

    For tcp that takes the kernel milliseconds: it walks the sockets of all networks.
    """
    inodes: set[int] = set()
    state = f"{_PROTOCOLS[port.protocol][1]:02X}"
    for family in ("", "6"):
        with contextlib.suppress(OSError):  # no IPv6 here, or it has ended
            table = _read(f"/proc/{pid}/net/{port.protocol}{family}")
            inodes |= listeners(table, port.number, state)
    return inodes


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
            with socket_in(namespace, family, socket.SOCK_STREAM) as connection:
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
