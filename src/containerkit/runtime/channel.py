"""The socket between one request and the launcher: events come, kill goes.

Owns: the descriptor, until it is closed, which kills an ephemeral container; and what a
forked child does with its copy.  Must not: decide anything.
Neighbours: `launcher` makes one for each start, `ask` one for what any process wants of any
launcher.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import termios
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from containerkit.errors import Timeout, refusals
from containerkit.runtime import home, packets
from containerkit.stdio.waiting import READ, Wait, Waiting, drive, until_readable

ANSWER_SECONDS: Final = 25.0
_FINISH_SECONDS: Final = 10.0
_UNHEARD_SECONDS: Final = 3.0
"""For one that has not even taken a request when it should have been done with it."""

_TIMEOUT: Final = packets.CAUSES.index("timeout")

_open: weakref.WeakSet[Channel] = weakref.WeakSet()


class Channel:
    """One end of a start's channel; the launcher has the other.

    Args:
        end: the socket; the channel's from now on.
    """

    __slots__ = ("__weakref__", "_socket")

    def __init__(self, end: socket.socket) -> None:
        self._socket = end
        _open.add(self)

    def fileno(self) -> int:
        """The descriptor, for waiting on it; -1 when closed."""
        return self._socket.fileno()

    @refusals("hear from the launcher")
    def receive(self) -> tuple[packets.Event | None, list[int]]:
        """Take the next event, and the descriptors that came with it.

        Returns:
            None for the event when the launcher has let go of this channel or has died.

        Blocking: until there is one.
        """
        try:
            data, fds, _flags, _address = socket.recv_fds(self._socket, packets.EVENT.size, 2)
        except ConnectionResetError:
            return None, []
        for fd in fds:
            os.set_inheritable(fd, False)
        return packets.parse_event(data), list(fds)

    def answer(self, deadline: float | None = None) -> tuple[packets.Event | None, list[int]]:
        """Take the first event as `receive` does, where the launcher has nothing to wait for.

        Raises:
            Timeout: the launcher is stopped, or hangs.
        """
        latest = time.monotonic() + ANSWER_SECONDS
        latest = latest if deadline is None else min(deadline, latest)
        if not drive(until_readable(self.fileno(), latest)):
            raise unanswered()
        return self.receive()

    def started(
        self, seconds: float, *, is_unheard: Callable[[], bool]
    ) -> tuple[packets.Event | None, list[int]]:
        """Take the first event of a start as `receive` does; given up, it is not started later.

        Args:
            seconds: how long the launcher and the set-up of the container may take together.
            is_unheard: tells whether the launcher has taken the request.

        Raises:
            Timeout: there was no answer in time; nothing of the start is left.
        """
        event: packets.Event | None = None
        heard = unheard = False
        try:
            heard = drive(until_readable(self.fileno(), time.monotonic() + seconds))
            if heard:
                event, fds = self.receive()
                return event, fds
            unheard = is_unheard()
            raise not_started(seconds, unheard=unheard)
        finally:
            if not heard or event is None or event.kind != packets.STARTED:
                drive(self.finishing(unheard=unheard))

    def peek(self) -> packets.Event | None:
        """Return the next event and leave it there, so that every waiting thread sees it."""
        with contextlib.suppress(ConnectionResetError):
            return packets.parse_event(self._socket.recv(packets.EVENT.size, socket.MSG_PEEK))
        return None

    def kill(self, number: int = signal.SIGKILL, *, cause: int = 0) -> None:
        """Send a signal to the first process; *cause* tells what its end is for."""
        self._send(packets.packet(packets.KILL, value=cause << 16 | number))

    def kill_late(self) -> float | None:
        """Kill it for the time that it took.

        Returns:
            How many seconds its end may take; None: as many as that ever takes.
        """
        patience = _UNHEARD_SECONDS if self.is_unheard() else None
        self.kill(cause=_TIMEOUT)
        return patience

    def is_unheard(self) -> bool:
        """Whether the launcher has not taken yet what was sent last: it may be stopped."""
        return is_untaken(self.fileno())

    @refusals("speak to the launcher")
    def _send(self, packet: bytes) -> None:
        # Gone: it has ended, or its launcher has.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._socket.send(packet)

    def finish(self) -> None:
        """Kill what is ephemeral or has not started yet, wait for that, and close.

        The directory of a container that was to be kept is the caller's to remove.

        Blocking: until nothing else is left of it, at most 10 s; 3 s for a launcher that is stopped.
        """
        drive(self.finishing())

    def finishing(self, *, unheard: bool = False) -> Waiting[None]:
        """Do `finish`, in whichever face; interrupted itself, it closes at once.

        Args:
            unheard: the launcher has not taken the request that made this channel.
        """
        unheard = unheard or self.is_unheard()
        seconds = _UNHEARD_SECONDS if unheard else _FINISH_SECONDS
        deadline = time.monotonic() + seconds
        try:
            with contextlib.suppress(OSError):
                # Not by closing: a forked child may have a copy of the descriptor.
                self._socket.shutdown(socket.SHUT_WR)
                interest = ((self._socket.fileno(), READ),)
                while (yield Wait(interest, deadline)) and self._socket.recv(packets.EVENT.size):
                    continue
        finally:
            self.close()

    def close(self) -> None:
        """Close it: after the last event, or to let go of a kept container that has started."""
        _open.discard(self)
        self._socket.close()


def is_untaken(fd: int) -> bool:
    """Whether the peer of a socket has not read yet what was sent last; False for -1."""
    if fd < 0:
        return False
    left = bytearray(4)
    fcntl.ioctl(fd, termios.TIOCOUTQ, left)  # unix(7): as SIOCOUTQ
    return any(left)


def not_started(seconds: float, *, unheard: bool) -> Timeout:
    """Return the error for a start that was given up.

    Args:
        seconds: how long it was waited for.
        unheard: the launcher has not taken the request; else a step of the set-up has not ended.
    """
    if unheard:
        cause = "its launcher has not taken the request"
        hint = "is the launcher stopped (SIGSTOP)?"
    else:
        cause = "a step of its set-up has not ended"
        hint = "does the server behind a bind source answer?"
    return Timeout(
        f"cannot start the container: {cause} after {seconds:g} s",
        hint=f"{hint} EngineConfig(start_timeout=…) allows more time",
        result=None,
    )


def unanswered() -> Timeout:
    """Return the error for a launcher that says nothing."""
    return Timeout("the launcher does not answer", hint="is it stopped (SIGSTOP)?", result=None)


@refusals("ask the launcher")
def ask(root: Path, launcher_id: str, data: bytes, fds: Sequence[int] = ()) -> Channel:
    """Send a request to a launcher of any process; return the channel that it answers on.

    Args:
        root: the engine's root directory.
        launcher_id: names the launcher, as the container's record does.
        data: see `packets.request`.
        fds: descriptors that travel with it; they stay the caller's to close.

    Raises:
        FileNotFoundError, ConnectionRefusedError, BrokenPipeError, ConnectionResetError: it has
            ended.
        Timeout: it takes no more connections.
    """
    try:
        end = home.connect(root, launcher_id, patience=ANSWER_SECONDS)
    except BlockingIOError:
        raise unanswered() from None
    try:
        socket.send_fds(end, [data], list(fds), socket.MSG_NOSIGNAL)
    except BaseException:
        end.close()
        raise
    return Channel(end)


def _abandon_all() -> None:
    """In a forked child: nothing of the parent's is ours."""
    for channel in list(_open):
        channel.close()


os.register_at_fork(after_in_child=_abandon_all)
