"""A launcher of its own for a container that outlives its maker: detached, or shared by several.

Owns: when that launcher lets go of this process.  Must not: start anything in it (`begin` does).

It begins as every other: owned by the process that spawned it, so that one killed half-way leaves
nothing.  When the container has started it is told to leave, and lives until that has ended for
good.  The one of a shared container ends, with it, when the last of those who share it is gone: its
owner is not a process but the FIFO that they hold open (see `shared`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from containerkit.runtime.launcher import Launcher

if TYPE_CHECKING:
    from containerkit.runtime.keeper import Keeper
    from containerkit.runtime.records import Row


def spawn(keeper: Keeper, row: Row) -> Launcher:
    """Return a launcher for one container; it ends with this process until it is told to leave.

    Blocking: until it is set up, some milliseconds.
    """
    raise NotImplementedError


def leave(launcher: Launcher, row: Row) -> None:
    """Let a launcher live without this process."""
    raise NotImplementedError
