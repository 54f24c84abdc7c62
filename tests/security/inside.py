"""What attacks do by themselves: system calls, one after another, in one process of a container.

outcome(engine.run(hostile, calls(("socket", 1, 1, 0), ("connect", LAST, address, len(address)))))
"""

from __future__ import annotations

import platform
from typing import Any, Final

from containerkit.launch.syscalls import ARCHITECTURES

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
