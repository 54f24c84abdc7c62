"""The way into a container's own input: who attaches writes there, and resizes its terminal by it.

Neighbours: `attach` uses it; the launcher holds the other end.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from typing import TYPE_CHECKING, Final

from containerkit.errors import refusals
from containerkit.runtime import packets
from containerkit.runtime import status as words
from containerkit.stdio.waiting import WRITE, Wait, Waiting

if TYPE_CHECKING:
    from containerkit.runtime.verbs import Verbs

_STARTING_SECONDS: Final = 0.002
_CLOSED: Final = frozenset({errno.EPIPE, errno.EIO})


def write_all(fd: int, data: bytes) -> Waiting[bool]:
    """Write all of *data* to a descriptor that does not block; False when nobody reads it."""
    rest = memoryview(data)
    while rest:
        try:
            rest = rest[os.write(fd, rest) :]
        except BlockingIOError:
            yield Wait(((fd, WRITE),))
        except OSError as error:
            if error.errno not in _CLOSED:
                raise
            return False
    return True


def opening_input(container: Verbs) -> Waiting[int]:
    """Return a descriptor of a container's input, or of its terminal; writing never blocks.

    Raises:
        InvalidStatus: it does not run, or its input is closed.
    """
    event, fds = container._ask(packets.ATTACH)
    while event is not None and event.errnum == errno.EAGAIN:  # its terminal is being made
        yield Wait((), time.monotonic() + _STARTING_SECONDS)
        event, fds = container._ask(packets.ATTACH)
    if event is None or event.kind != packets.DONE or not fds:
        raise container._refusal("write to", container.status, *words.LIVE)
    if not stat.S_ISFIFO(os.fstat(fds[0]).st_mode):  # opening a terminal's master makes another
        return fds[0]
    try:
        # Another open file, so that it is nobody else's affair how it is written to.
        with refusals("open the container's input"):
            return os.open(f"/proc/self/fd/{fds[0]}", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(fds[0])
