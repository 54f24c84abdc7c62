"""What runs in containers: attacks that are system calls, one after another in one process, and
processes that tell their own status.

outcome(engine.run(hostile, calls(("socket", 1, 1, 0), ("connect", LAST, address, len(address)))))
"""

from __future__ import annotations

import platform
from typing import Any, Final

import containerkit as ck
from containerkit.launch.syscalls import ARCHITECTURES

STATUS: Final = ("cat", "/proc/self/status")
CHECK: Final = ck.Healthcheck(
    "test -e /tmp/first && cat /proc/self/status >/tmp/check && mv /tmp/check /tmp/health",
    interval=0.05,
    start_period=60,
    start_interval=0.05,
)
"""Tells its own status, whole at any moment; healthy when the first process has told its own."""

LAST: Final = "="
"""As an argument: what the call before returned."""


def calls(*wanted: tuple[str | int | bytes, ...]) -> list[str]:
    """Return the command that makes these calls: a name, then numbers, bytes (their address), LAST."""
    numbers = ARCHITECTURES[platform.machine()].numbers
    words = ["/attacks/call"]
    for name, *arguments in wanted:
        words += [str(numbers[str(name)]), *map(_word, arguments), "--"]
    return words


def _word(argument: str | int | bytes) -> str:
    return f"hex:{argument.hex()}" if isinstance(argument, bytes) else str(argument)


def room(size: int) -> bytes:
    """Return an argument for something to be written to."""
    return bytes(size)


def outcome(result: Any) -> list[int]:
    """Return what the calls returned: a negative number is an errno."""
    return [int(line) for line in result.stdout.split()]
