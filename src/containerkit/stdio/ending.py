"""Following that any thread can end: the one that waits is woken, and lets go of what it waited on.

A descriptor must not be closed while somebody waits on it: poll(2) does not notice, and its number
may be somebody else's by the next call.  So who ends a follower wakes who waits, and the last one to
leave closes.

Owns: an eventfd for each follower that has waited.  Must not: know what is followed.
Neighbours: `logs`, `events` and `runtime.stats` follow by it, `pipes` read by it, in whichever face.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from containerkit.errors import Timeout, refusals
from containerkit.stdio.waiting import READ, Interest, Wait, Waiting, deadline_of

T = TypeVar("T")


class Ending:
    """What is open of a follower, until it is ended.

    Args:
        release: closes it; harmless when repeated.
        what: what is waited for, for messages.
        timeout: seconds that one wait may take; None: for ever.
    """

    __slots__ = ("_busy", "_ended", "_fd", "_guard", "_owner", "_release", "_timeout", "_what")

    def __init__(
        self, release: Callable[[], object], *, what: str = "", timeout: float | None = None
    ) -> None:
        self._release = release
        self._what = what
        self._timeout = timeout
        self._guard = threading.RLock()
        self._owner = os.getpid()
        self._busy = 0
        self._ended = False
        self._fd = -1

    def within(self, step: Waiting[T | None]) -> Waiting[T | None]:
        """Return what *step* does; None as soon as this is ended.

        Raises:
            Timeout: it waited too long; nothing is lost, another step may be tried.
        """
        with self._guard:
            if self._ended:
                return None
            self._busy += 1
        try:
            deadline = deadline_of(self._timeout)
            known: Interest | None = None
            waited: Interest = ()
            wait = next(step)
            while not self.ended:
                if wait.interest is not known:
                    known, waited = wait.interest, (*wait.interest, (self._waker(), READ))
                ours = deadline is not None and (wait.deadline is None or deadline < wait.deadline)
                if deadline is not None and ours and time.monotonic() >= deadline:
                    raise Timeout(
                        f"{self._what} did not come within {self._timeout} s", result=None
                    )
                ready = yield Wait(waited, deadline if ours else wait.deadline)
                if ready or not ours:
                    wait = step.send(ready)
            return None
        except StopIteration as stop:
            found: T | None = stop.value
            return found
        finally:
            step.close()
            self._leave()

    @property
    def ended(self) -> bool:
        """Whether `end` was called."""
        return self._ended

    def _waker(self) -> int:
        """Return what is readable once this is ended."""
        with self._guard:
            if self._fd < 0:
                with refusals("make a descriptor that wakes"):
                    self._fd = os.eventfd(int(self._ended), os.EFD_CLOEXEC)
            return self._fd

    def _leave(self) -> None:
        with self._guard:
            self._busy -= 1
            if self._busy or not self._ended:
                return
        self._let_go()

    def end(self) -> None:
        """End it, also for who waits in another thread or task; harmless when repeated."""
        if os.getpid() != self._owner:
            self._ended = True
            self._let_go()  # in a forked child nobody waits, and the parent must not be woken
            return
        with self._guard:
            if self._ended:
                return
            self._ended = True
            if self._busy:
                if self._fd >= 0:
                    os.eventfd_write(self._fd, 1)
                return
        self._let_go()

    def _let_go(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
        self._release()
