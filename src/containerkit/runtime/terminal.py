"""A terminal's master, on the caller's side: it comes with STARTED, is resized, and is typed into.

Owns what is peculiar to a terminal as against pipes.  Must not: start anything.
Neighbours: `running` and `execute` collect from it, `attach` follows the log beside it.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from typing import Final

from containerkit.errors import ConfigError
from containerkit.runtime import packets
from containerkit.runtime.channel import Channel, unanswered
from containerkit.runtime.inputs import duplicated, own
from containerkit.stdio.waiting import Waiting, until_readable

END_OF_FILE: Final = b"\x04"
"""What VEOF of a fresh terminal is (termios(3)): it ends a line that has begun, or the input."""


def typed(data: bytes) -> bytes:
    """Return input as it is typed: with the end of file behind it, since a terminal has no other."""
    return data + END_OF_FILE * (2 if data and not data.endswith(b"\n") else 1)


def resize(master: int, rows: int, columns: int) -> None:
    """Set a terminal's window size; what runs in it gets SIGWINCH.

    Raises:
        ConfigError: the numbers are none of a window.
    """
    try:
        size = struct.pack("<4H", rows, columns, 0, 0)
    except struct.error:
        size = b""
    if not size or not rows or not columns:
        raise ConfigError(f"{rows!r} rows of {columns!r} columns are no window")
    fcntl.ioctl(master, termios.TIOCSWINSZ, size)


def master_of(
    channel: Channel, *, with_input: bool, deadline: float
) -> Waiting[tuple[packets.Event | None, dict[str, int]]]:
    """Wait for the terminal of a command that is being started.

    Args:
        channel: of its start.
        with_input: whether something will be written.
        deadline: on the clock of ``time.monotonic``.

    Raises:
        Timeout: nothing was heard until then.

    Returns:
        None and the descriptors by stream, the caller's to close by `inputs.close`; or the event
        that says that it did not start.  None and nothing: its launcher died.
    """
    if not (yield from until_readable(channel.fileno(), deadline)):
        raise unanswered()
    event, fds = channel.receive()
    if event is None or event.kind != packets.STARTED or len(fds) != 2:
        for fd in fds:
            os.close(fd)
        return event, {}
    os.close(fds[0])
    ours = both_ways(fds[1]) if with_input else {"stdout": fds[1]}
    own(ours.values())
    return None, ours


def both_ways(master: int) -> dict[str, int]:
    """Return a terminal's master as two descriptors by stream; on failure it is closed.

    Raises:
        HostError: the limit of open files is reached.
    """
    try:
        return {"stdin": duplicated(master), "stdout": master}
    except BaseException:
        os.close(master)
        raise
