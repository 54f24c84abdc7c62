"""Execs of an ordinary user without control groups: what they started is found by its namespace."""

from __future__ import annotations

import os
import select
import sys

import pytest

import containerkit as ck
from containerkit.errors import Timeout
from tests.support.bomb import BOMB
from tests.support.patience import until

pytestmark = [pytest.mark.integration, pytest.mark.needs("ordinary user")]

REAPER = """
import ctypes, os, time
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
for _ in range(3):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            time.sleep(1000)
        os._exit(0)
if os.fork():
    print("up", flush=True)
    os._exit(0)
os.setsid()
time.sleep(1000)
"""
"""Orphans that go to a process of the exec's own first, and one of a session of its own."""


def alive(container: ck.Container) -> int:
    """Count the container's processes; the dead that nobody has reaped yet left out."""
    return sum(task.state != "Z" for task in container.top())


def test_a_fork_bomb_is_ended_by_its_timeout(engine: ck.Engine) -> None:
    limits = ck.Limits(ulimits={"nproc": processes_of_us() + 60})
    with engine.start(None, ["sleep", "100000"], limits=limits, init=True) as box:
        with pytest.raises(Timeout) as caught:
            box.exec([sys.executable, "-c", BOMB], timeout=2)
        assert caught.value.result.exit.cause == "timeout"
        until(lambda: alive(box) == 2)  # its init, and what that runs


def processes_of_us() -> int:
    mine = 0
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                mine += os.stat(f"/proc/{name}").st_uid == os.getuid()
            except OSError:
                continue
    return mine


def test_orphans_of_a_reaper_of_its_own(engine: ck.Engine) -> None:
    with engine.start(None, ["sleep", "100000"], init=True) as box:
        result = box.exec([sys.executable, "-c", REAPER])
        assert (result.stdout, result.exit.ok) == (b"up\n", True)
        until(lambda: alive(box) == 2)


HIDER = """
import ctypes, os, time
assert ctypes.CDLL(None).unshare(0x02000000) == 0  # CLONE_NEWCGROUP
if os.fork() == 0:
    time.sleep(1000)
"""


def test_one_that_hides_goes_with_the_container(engine: ck.Engine) -> None:
    """With CAP_SYS_ADMIN it can leave the namespace; but not the container."""
    security = ck.Security(capabilities={"SYS_ADMIN"}, seccomp="unconfined")
    with engine.start(None, ["sleep", "100000"], init=True, security=security) as box:
        box.exec([sys.executable, "-c", HIDER], check=True)
        (hidden,) = (task.host_pid for task in box.top() if task.command[0] == sys.executable)
        pidfd = os.pidfd_open(hidden)
        box.kill()
        assert select.select([pidfd], [], [], 60)[0]
        os.close(pidfd)
