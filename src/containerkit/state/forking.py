"""Forks wait until no thread is inside SQLite: its locks would be held for ever in the child.

SQLite takes locks of the whole process for moments, to allocate memory or to open a file.  A child
that is forked while another thread holds one can never use SQLite itself, whatever it opens.

Owns: the count of threads that are inside, and the hooks around a fork, for imports too.  Must not:
be held while waiting for another thread, or be imported late: a hook that is registered while a
fork has begun is not called for it.
Neighbours: `engine` imports it; `state.catalog` is inside for as long as a statement or transaction
takes; `importing` waits for imports.
"""

from __future__ import annotations

import os
import threading
import time
from types import TracebackType
from typing import Final

from containerkit.state.importing import settle, under_way

_PATIENCE: Final = 10.0
"""Seconds after which a fork goes on: a writer may wait for another process for longer."""
_ROUNDS: Final = 100
"""After so many the fork goes on, although threads import one thing after the other."""


class _All:
    """How many threads are inside, and how many are about to fork."""

    def __init__(self, inside: int = 0) -> None:
        self.changed = threading.Condition()
        self.inside = inside
        self.forking = 0


_all = _All()


class _Gate(threading.local):
    """How deep this thread is inside; entered again within itself, it counts once."""

    depth = 0
    forks = False

    def __enter__(self) -> None:
        if self.depth == 0:
            with _all.changed:
                while _all.forking and not self.forks:
                    _all.changed.wait()
                _all.inside += 1
        self.depth += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.depth -= 1
        if self.depth == 0:
            with _all.changed:
                _all.inside -= 1
                if _all.forking:
                    _all.changed.notify_all()


no_fork: Final = _Gate()
"""Enter it around what a fork of another thread must not meet."""


def _before() -> None:
    """Come to a moment when no thread is inside, nor imports anything.

    One after the other, not both at once: a thread that imports may wait at the gate.
    """
    deadline = time.monotonic() + _PATIENCE
    for _ in range(_ROUNDS):
        settle()
        _shut(deadline)
        if not under_way():
            return
        _open()
    _shut(deadline)


def _shut(deadline: float) -> None:
    own = 1 if no_fork.depth else 0
    with _all.changed:
        _all.forking += 1
        no_fork.forks = True
        while _all.inside > own and (left := deadline - time.monotonic()) > 0:
            _all.changed.wait(left)


def _open() -> None:
    if not no_fork.forks:  # the engine was imported, by another thread, while this fork had begun
        return
    no_fork.forks = False
    with _all.changed:
        _all.forking -= 1
        _all.changed.notify_all()


def _after_in_child() -> None:
    global _all
    no_fork.forks = False
    _all = _All(1 if no_fork.depth else 0)


os.register_at_fork(before=_before, after_in_parent=_open, after_in_child=_after_in_child)
