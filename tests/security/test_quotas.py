"""What the kernel counts for each user (inotify(7), queued signals, user namespaces) is not used up for
the host's: a user namespace is counted for its own root, and belongs to it.

Who shares the host's user namespace shares its counts too: that is the control, and what `default`
without ``userns="auto"`` does not promise.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import struct
from pathlib import Path

import pytest

import containerkit as ck

pytestmark = pytest.mark.needs("host root")
"""Whatever an ordinary user's containers use up, it is that user who pays."""

NS_GET_OWNER_UID = 0xB704


def counted_for(pid: int) -> int:
    """Return who pays for what is done in a process's user namespace."""
    fd = os.open(f"/proc/{pid}/ns/user", os.O_RDONLY)
    try:
        answer = fcntl.ioctl(fd, NS_GET_OWNER_UID, struct.pack("=I", 0))
    finally:
        os.close(fd)
    return int(struct.unpack("=I", answer)[0])


def own_root(pid: int) -> int:
    """Return whom its root is on the host."""
    return int(Path(f"/proc/{pid}/uid_map").read_text().split()[1])


@pytest.mark.needs("control groups")
@pytest.mark.parametrize("preset", [ck.Security.strict, ck.Security.default])
def test_the_hosts_are_left_alone(engine: ck.Engine, hostile: str, preset: object) -> None:
    assert callable(preset)
    ulimits = {"sigpending": 1000, "nofile": 1024}
    security = preset(userns="auto")
    limits = ck.Limits(memory="512m", pids=100, ulimits=ulimits)
    command = ["/attacks/hoard"]
    with engine.start(hostile, command, security=security, limits=limits) as box:
        box.wait_ready(log=r"\d+ \d+")
        instances, timers = map(int, box.log_text().split())
        assert instances > 10
        assert timers > 10
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init()
        assert fd >= 0
        os.close(fd)
        assert box.pid is not None
        assert counted_for(box.pid) == own_root(box.pid) != os.geteuid()


@pytest.mark.needs("host root")
def test_the_control(engine: ck.Engine, hostile: str) -> None:
    with engine.start(hostile, ["sleep", "100000"]) as box:
        assert box.pid is not None
        assert counted_for(box.pid) == counted_for(os.getpid())
