"""A running container, held in sight: by the connection on which its launcher tells its end.

Owns: that connection, and a pidfd of the first process, a new one after each restart.  Must not:
change the container.  Neighbours: `handle` connects; `stats`, `top` and `ready` look through it.

A process is read by its id, and ids are used again: it is asked from the pidfd before, and counts
only if the pidfd says the same afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Self, TypeVar

from containerkit.runtime import packets
from containerkit.runtime.alive import pid_of
from containerkit.runtime.channel import Channel
from containerkit.stdio.waiting import READ, Interest, Wait, Waiting

T = TypeVar("T")


def read_by(pidfd: int, read: Callable[[int], T]) -> T:
    """Return what *read* tells of a process.

    Raises:
        ProcessLookupError: it has ended, before or meanwhile.
    """
    pid = pid_of(pidfd)
    if pid <= 0:
        raise ProcessLookupError("it has ended")
    found = read(pid)
    if pid_of(pidfd) != pid:
        raise ProcessLookupError("it has ended meanwhile")
    return found


class Watching:
    """A container that runs, or waits to be restarted.

    Args:
        channel: of a WATCH request that was just sent; closed with this.

    Raises:
        Timeout: the launcher does not answer.

    Blocking: until the launcher answers.
    """

    __slots__ = ("_channel", "_interest", "_over", "_pidfd")

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._interest: Interest = ((channel.fileno(), READ),)
        self._pidfd = -1
        self._over = False
        try:
            self._take(channel.answer())
        except BaseException:
            self.close()
            raise

    def _take(self, word: tuple[packets.Event | None, list[int]]) -> None:
        """Take the launcher's next word: it was started, again, or it has ended for good."""
        event, fds = word
        self._drop_pidfd()
        if event is not None and event.kind == packets.STARTED:
            self._pidfd = fds.pop() if fds else -1
        else:
            self._over = True
        for fd in fds:
            os.close(fd)

    @property
    def over(self) -> bool:
        """Whether it had ended for good when this was looked at last."""
        return self._over

    def until_ended(self, deadline: float | None = None) -> Waiting[bool]:
        """Wait until it has ended for good; False when the deadline passed first."""
        while not self._over:
            if not (yield Wait(self._interest, deadline)):
                return False
            self._take(self._channel.receive())
        return True

    def pid(self) -> int | None:
        """Return its first process's id, as this process sees it; None while there is none."""
        if self._pidfd < 0:
            return None
        number = pid_of(self._pidfd)
        return number if number > 0 else None

    def look(self, read: Callable[[int], T]) -> T:
        """Return what *read* tells of its first process.

        Raises:
            ProcessLookupError: there is none, or it has ended meanwhile.
        """
        if self._pidfd < 0:
            raise ProcessLookupError("it has no process")
        return read_by(self._pidfd, read)

    def _drop_pidfd(self) -> None:
        fd, self._pidfd = self._pidfd, -1
        if fd >= 0:
            os.close(fd)

    def close(self) -> None:
        """Look no more; harmless when repeated."""
        self._drop_pidfd()
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_pidfd"):
            self.close()
