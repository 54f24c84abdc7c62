"""How a process ended.

Owns the `Exit` value.  The launcher decides the cause; see ``runtime``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

import attrs

Cause = Literal[
    "exited", "signal", "oom", "pids", "timeout", "output", "owner-died", "removed", "lost"
]

_HINTS: Final[Mapping[str, str]] = {
    "oom": "it needs more memory than it may have: raise limits=Limits(memory=…)",
    "pids": "it was refused more processes and threads: raise limits=Limits(pids=…)",
}


@attrs.frozen(eq=False)
class Exit:
    """How a process, or a container's first one, ended.

    It is equal to another `Exit` with the same code, signal and cause, and to its ``returncode``, so
    that ``process.wait() == 0`` means what it means in `subprocess`.  It has no truth value, since
    0 is the good one: ask `ok`.

    Args:
        code: as a shell shows it: the exit code, or 128 + the signal's number; None when nobody
            saw it end ("lost").  Of a container with ``init`` it is what init says: 128 + the
            number, as an ordinary code, for a command that a signal has ended.
        signal: the number of the signal that ended it.
        cause: why.  "oom": the kernel's out-of-memory killer; "pids": a container that was refused
            a process or thread by a limit on them, and then ended by itself with another code than
            0, or by a fault; "timeout": we killed it, for running too long; "owner-died": its owner
            ended; "removed": removed while running; "lost": it ended while nothing supervised it.
            Where several hold it is the first that fits of "oom", what we killed it for, "pids",
            "signal", "exited".  Nothing ends for "output": what is too much is dropped.
    """

    code: int | None = 0
    signal: int | None = None
    cause: Cause = "exited"

    @classmethod
    def by_signal(cls, signal: int, *, cause: Cause = "signal") -> Exit:
        """The end that a signal brought, with its code."""
        return cls(code=128 + signal, signal=signal, cause=cause)

    @property
    def ok(self) -> bool:
        """Whether it ended by itself, with code 0."""
        return self.code == 0 and self.cause == "exited"

    @property
    def returncode(self) -> int:
        """The code, 255 where there is none."""
        return 255 if self.code is None else self.code

    @property
    def hint(self) -> str | None:
        """What can be done about it, where its cause says that."""
        return _HINTS.get(self.cause)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Exit):
            return (self.code, self.signal, self.cause) == (other.code, other.signal, other.cause)
        if isinstance(other, int) and not isinstance(other, bool):
            return self.returncode == other
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.returncode)  # as the number that it is equal to

    def __bool__(self) -> bool:
        raise TypeError("an Exit is neither true nor false: ask .ok, or compare .returncode")

    def __str__(self) -> str:
        if self.cause == "exited":
            return f"exited with code {self.code}"
        if self.cause == "signal":
            return f"ended by signal {self.signal}"
        return f"ended ({self.cause}), code {self.code}"
