"""Sockets that live in a container's network, made without moving there.

Owns: making one in another network namespace, and asking the kernel by one which sockets there are.
Must not: know why somebody asks.  Neighbours: `listening` does.

A socket belongs for good to the network namespace of the thread that made it, so one is made by a
thread of its own that enters the namespace, and ends; the caller's threads stay where they are.
That of an ordinary user has the right only in the user namespace that the network belongs to, which
is entered by processes of one thread only: there, a process of its own makes the socket.

Spec: network_namespaces(7), setns(2), netlink(7), sock_diag(7).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Final

from containerkit.errors import HostError, PermissionDenied, refusals
from containerkit.state import userns

_CLONE_NEWNET: Final = 0x40000000
_NS_GET_USERNS: Final = 0xB701

# Arguments: descriptors of both namespaces and of a socket to answer by, then those of socket(2).
_MAKER: Final = """
import ctypes, socket, sys
user, net, answer, *kind = map(int, sys.argv[1:])
setns = ctypes.CDLL(None, use_errno=True).setns
for fd, flag in (user, 0x10000000), (net, 0x40000000):
    if setns(fd, flag) != 0:
        sys.exit(ctypes.get_errno())
try:
    made = socket.socket(*kind)
except OSError as error:
    sys.exit(error.errno)
with socket.socket(fileno=answer) as link:
    socket.send_fds(link, [b"x"], [made.fileno()])
"""

_NETLINK_SOCK_DIAG: Final = 4
_SOCK_DIAG_BY_FAMILY: Final = 20
_REQUEST_DUMP: Final = 0x301
_ERROR: Final = 2
_DONE: Final = 3
_HEADER: Final = struct.Struct("=IHHII")
# struct inet_diag_req_v2: family, protocol, states, source port; no interface, any cookie.
_QUESTION: Final = struct.Struct("=BBxxI2s 2x 32x 4x 8s")
# struct inet_diag_msg: of its 72 bytes the last four are the inode.
_ANSWER_INODE: Final = struct.Struct("=68x I")
_MESSAGE_MAX: Final = 64 << 10
_SECONDS: Final = 5.0


def socket_in(namespace: int, family: int, kind: int, protocol: int = 0) -> socket.socket:
    """Return a socket that lives in a network namespace.

    Args:
        namespace: an open descriptor of it.
        family, kind, protocol: as socket(2) takes them.

    Raises:
        PermissionDenied: the caller may not enter it.
        HostError: the kernel has no such family, or no socket left.
    """
    made: list[socket.socket | OSError] = []

    def make() -> None:
        try:
            _enter()(namespace, _CLONE_NEWNET)
            made.append(socket.socket(family, kind, protocol))
        except OSError as error:
            made.append(error)

    thread = threading.Thread(target=make, name="containerkit-socket", daemon=True)
    with refusals("make a socket in the container's network"):
        thread.start()
    thread.join()
    [one] = made
    if isinstance(one, OSError) and one.errno == errno.EPERM and userns.is_needed():
        one = _made_within(namespace, family, kind, protocol)
    if isinstance(one, OSError):
        error = PermissionDenied if one.errno == errno.EPERM else HostError
        raise error(
            f"cannot make a socket in the container's network: {one.strerror}", errno=one.errno
        ) from one
    return one


def _made_within(namespace: int, family: int, kind: int, protocol: int) -> socket.socket | OSError:
    """Return a socket of a network namespace that belongs to another user namespace; or why not."""
    import subprocess

    with contextlib.ExitStack() as stack:
        try:
            owner = fcntl.ioctl(namespace, _NS_GET_USERNS)
        except OSError as error:
            return error
        stack.callback(os.close, owner)
        ours, theirs = map(stack.enter_context, socket.socketpair())
        fds = (owner, namespace, theirs.fileno())
        words = [sys.executable or "python3", "-I", "-S", "-c", _MAKER]
        with refusals("make a socket in the container's network"):
            done = subprocess.run(
                [*words, *map(str, (*fds, int(family), int(kind), protocol))],
                stdin=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                pass_fds=fds,
                env={},
                check=False,
            )
        theirs.close()
        _, received, _, _ = socket.recv_fds(ours, 1, 1)
        if received:
            return socket.socket(family, kind, protocol, fileno=received[0])
        number = done.returncode if done.returncode > 0 else errno.EPERM
        return OSError(number, os.strerror(number))


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


class Diagnosis:
    """Asks which sockets there are in a network namespace; `/proc` would walk those of the host.

    Args:
        namespace: an open descriptor of it.

    Raises:
        PermissionDenied, HostError: see `socket_in`.
    """

    __slots__ = ("_socket",)

    def __init__(self, namespace: int) -> None:
        self._socket = socket_in(namespace, socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_SOCK_DIAG)
        self._socket.settimeout(_SECONDS)

    def inodes(self, protocol: int, port: int, state: int) -> set[int]:
        """Return the inodes of the sockets, of both versions of IP, that are bound to a port.

        Args:
            protocol: IPPROTO_TCP or IPPROTO_UDP.
            port: the local one.
            state: a number of include/net/tcp_states.h.

        Raises:
            OSError: this kernel does not answer such questions.
        """
        found: set[int] = set()
        for family in (socket.AF_INET, socket.AF_INET6):
            self._socket.send(question(family, protocol, port, state))
            done = False
            while not done:
                for inode in answers(self._socket.recv(_MESSAGE_MAX)):
                    done = inode is None
                    if inode is not None:
                        found.add(inode)
        return found

    def close(self) -> None:
        """Ask no more; harmless when repeated."""
        self._socket.close()


def question(family: int, protocol: int, port: int, state: int) -> bytes:
    """Return a request for the sockets with a local port and a state."""
    body = _QUESTION.pack(family, protocol, 1 << state, port.to_bytes(2, "big"), b"\xff" * 8)
    size = _HEADER.size + len(body)
    return _HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0) + body


def answers(data: bytes) -> Iterator[int | None]:
    """Yield the inodes that one packet tells of, and None when it says that there are no more.

    Raises:
        OSError: it tells of an error, or is none.
    """
    at = 0
    while at + _HEADER.size <= len(data):
        size, kind, _flags, _sequence, _port = _HEADER.unpack_from(data, at)
        body = data[at + _HEADER.size : at + size]
        if kind == _DONE:
            yield None
            return
        if kind == _ERROR and len(body) >= 4:
            number = -int.from_bytes(body[:4], "little", signed=True)
            raise OSError(number, os.strerror(number))
        if kind != _SOCK_DIAG_BY_FAMILY or len(body) < _ANSWER_INODE.size:
            raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))
        yield _ANSWER_INODE.unpack_from(body)[0]
        at += (size + 3) & ~3
