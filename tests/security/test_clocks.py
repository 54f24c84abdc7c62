"""The host's clocks: not set from inside, and no time namespace of a container's own making.

A time namespace (time_namespaces(7)) would let a container see other times of start than the host's
tools; it takes CAP_SYS_ADMIN, and its offsets CAP_SYS_TIME.
"""

from __future__ import annotations

import errno
import os
import struct

import containerkit as ck
from tests.security.inside import calls, outcome

CLOCK_REALTIME, CLOCK_MONOTONIC = 0, 1
CLONE_NEWTIME = 0x80
ADJ_SETOFFSET = 0x0100
TIME = struct.pack("=2q", 1, 0)
OFFSET = struct.pack("=I4x", ADJ_SETOFFSET) + bytes(200)

SETS = (
    ("clock_settime", CLOCK_REALTIME, TIME),
    ("clock_settime", CLOCK_MONOTONIC, TIME),
    ("settimeofday", TIME, 0),
    ("adjtimex", OFFSET),
    ("clock_adjtime", CLOCK_REALTIME, OFFSET),
)
MAKES = (("unshare", CLONE_NEWTIME), ("clone", CLONE_NEWTIME | 17, 0, 0, 0, 0))
WRITE = "echo 'monotonic 100000 0' >/proc/self/timens_offsets"


def test_they_are_not_set(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    assert set(outcome(engine.run(hostile, calls(*SETS), security=security))) == {-errno.EPERM}


def test_nor_moved(engine: ck.Engine, hostile: str, security: ck.Security) -> None:
    assert set(outcome(engine.run(hostile, calls(*MAKES), security=security))) == {-errno.EPERM}
    result = engine.run(hostile, ["sh", "-c", WRITE], security=security)
    assert not result.exit.ok
    said = engine.run(hostile, ["ls", "-l", "/proc/self/ns"], security=security, text=True).stdout
    assert said.count(os.readlink("/proc/self/ns/time")) == 2  # its own, and its children's


def test_without_a_filter(engine: ck.Engine, hostile: str) -> None:
    """The control: of a clock that nobody sets, the kernel says so, and the filter does not let it."""
    unfiltered = ck.Security(seccomp="unconfined")
    assert outcome(engine.run(hostile, calls(SETS[1]), security=unfiltered)) == [-errno.EINVAL]


def test_with_the_right_to(engine: ck.Engine, hostile: str) -> None:
    """The control: a namespace can be made, and only who may set the time may fill it."""
    command = calls(MAKES[0])
    security = ck.Security(capabilities=["+SYS_ADMIN"], seccomp="unconfined")
    assert outcome(engine.run(hostile, command, security=security)) == [0]
