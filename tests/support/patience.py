"""Waiting in tests: for what comes some time, and for time itself to run out late enough.

On a loaded machine anything may take seconds.  So what is to happen has a deadline that only a hang
comes to; and of what is to be cut short by its timeout, the timeout grows until it is cut short after
what the test is about, and not before.  What is asserted of it stays the same.
"""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from containerkit.errors import Timeout

DEADLINE: Final = 120.0
"""Seconds after which something that should have happened will not happen any more."""

TIMEOUTS: Final = (0.3, 1.0, 4.0, 16.0, 64.0)


def until(found: Callable[[], Any], what: str = "it never came") -> Any:
    """Ask until the answer is true, and return it: for what has no descriptor to wait on."""
    deadline = time.monotonic() + DEADLINE
    while not (answer := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.005)
    return answer


def ends(pidfd: int) -> bool:
    """Wait until a process has ended; its descriptor stays the caller's."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(DEADLINE * 1000))


def stopped(pid: int) -> None:
    """Wait until a process that was sent SIGSTOP has stopped: it may be in the middle of something."""
    until(lambda: state_of(pid) == "T", f"{pid} does not stop")


def unmount(disk: Path) -> None:
    """Unmount a file system as soon as nobody is on it: a detached container's launcher is, until its
    own end, which nobody waits for.
    """
    said = ""

    def done() -> bool:
        nonlocal said
        tried = subprocess.run(["umount", disk], stderr=subprocess.PIPE, text=True, check=False)
        said = tried.stderr
        return tried.returncode == 0

    assert until(done, said)


def state_of(pid: int) -> str:
    """Return the letter of a process's state (proc_pid_stat(5))."""
    with open(f"/proc/{pid}/stat", "rb") as file:
        return file.read().rpartition(b")")[2].split()[0].decode()


def descriptors_of(pid: int) -> list[str]:
    """Return what the descriptors of another process lead to, though it closes some meanwhile."""
    leads = []
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            leads.append(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except FileNotFoundError:
            continue
    return leads


def cut_short(attempt: Callable[[float], object], enough: Callable[[Timeout], object]) -> Timeout:
    """Return the `Timeout` of the first timeout that was *enough*; else that of the longest."""
    error: Timeout | None = None
    for seconds in TIMEOUTS:
        with pytest.raises(Timeout) as caught:
            attempt(seconds)
        error = caught.value
        if enough(error):
            break
    assert error is not None
    return error
