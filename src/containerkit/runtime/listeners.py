"""Whether a first process has a say in a signal, before it is asked to end by one.

Owns the reading of that.  Must not: send any.  Neighbours: `verbs` kills at once what does not.

The kernel drops a signal to the first process of a pid namespace that has no handler for it, unless
it is blocked (pid_namespaces(7)): then it may be read from a signalfd, or waited for.  While it is
waited for it is shown as not blocked, so what the threads wait in is looked at as well; small init
programs such as tini spend their lives there.

One that ignores a signal said so: what it is in the middle of has the time that it is given.
"""

from __future__ import annotations

import os
from typing import Final

_SIGTIMEDWAIT: Final = {"x86_64": b"128", "aarch64": b"137", "riscv64": b"137"}
_MASKS: Final = ("SigCgt", "SigBlk", "SigIgn")
_LOOKS: Final = 2
"""It may come out of such a wait and go in again between the two that each look has."""


def takes_signal(pid: int | None, number: int) -> bool:
    """Whether a process may take a signal, or ignores it on purpose; True where it can not be told.

    Args:
        pid: as this process sees it; None: there is none (any more).
        number: of the signal.

    Spec: proc_pid_status(5), SigBlk, SigIgn and SigCgt; proc_pid_syscall(5).
    """
    try:
        return any(_has_a_say(pid, number) or _waits(pid) for _ in range(_LOOKS))
    except (OSError, IndexError):
        return True


def _has_a_say(pid: int | None, number: int) -> bool:
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        text = file.read()
    masks = [text.partition(f"\n{name}:")[2].split(None, 1)[0] for name in _MASKS]
    return any(int(mask, 16) >> (number - 1) & 1 for mask in masks)


def _waits(pid: int | None) -> bool:
    """Whether one of its threads waits for signals; for which, the kernel does not say."""
    call = _SIGTIMEDWAIT.get(os.uname().machine)
    if call is None:
        return True
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/syscall", "rb") as file:
            if file.read().split(None, 1)[0] == call:
                return True
    return False
