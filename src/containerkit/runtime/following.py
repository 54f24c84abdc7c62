"""Whether a container may still write to its log: what who follows it must know.

Owns one connection to the launcher that runs it, opened when it runs.  Must not: read the log.
Neighbours: `stdio.follow` asks; `inside` and `attach` make one for each follower.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from typing import TYPE_CHECKING

from containerkit.errors import InvalidStatus
from containerkit.runtime import packets
from containerkit.runtime import status as words

if TYPE_CHECKING:
    from containerkit.runtime.channel import Channel
    from containerkit.runtime.handle import Handle

_BEGINNING: frozenset[words.Status] = frozenset(("created", *words.LIVE))


class Following:
    """The `stdio.follow.Life` of a container.

    One that was created but not started is not over: whoever follows it waits for its start.
    """

    __slots__ = ("_channel", "_handle", "_unknown")

    def __init__(self, handle: Handle) -> None:
        self._handle = handle
        self._channel: Channel | None = None
        self._unknown = 0

    def over(self) -> bool:
        """Whether it has ended for good, or was removed.

        Also when its record does not say so, since the disk refused it: its launcher, asked twice,
        does not know it any more.
        """
        self._listen()
        return self._unknown > 1 or self._handle.status not in _BEGINNING

    def fileno(self) -> int:
        """Readable when its launcher has said something, or has died; -1 while nothing runs it."""
        if self._channel is None:
            with contextlib.suppress(InvalidStatus):
                self._channel = self._handle._connect(packets.WATCH)
        return -1 if self._channel is None else self._channel.fileno()

    def _listen(self) -> None:
        """Take what the launcher has said: it starts again, or has ended."""
        while self._channel is not None:
            poll = select.poll()
            poll.register(self._channel, select.POLLIN)
            if not poll.poll(0):
                return
            event, fds = self._channel.receive()
            for fd in fds:
                os.close(fd)
            unknown = event is not None and event.errnum == errno.ESRCH
            self._unknown = self._unknown + 1 if unknown else 0
            if event is None or event.kind != packets.STARTED:
                self.close()

    def close(self) -> None:
        """Hang up."""
        channel, self._channel = self._channel, None
        if channel is not None:
            channel.close()
