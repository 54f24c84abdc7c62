"""Several waits at once: a generator that runs others side by side.

Owns: `together`.  Must not: know what they wait for.  Neighbours: either driver of `waiting` runs it
as any other; `runtime.ready` waits for conditions by it.
"""

from __future__ import annotations

import operator
import time
from collections.abc import Sequence
from typing import Any

from containerkit.stdio.waiting import Interest, Ready, Wait, Waiting


def together(
    wanted: Sequence[Waiting[Any]],
    *,
    guards: Sequence[Waiting[Any]] = (),
    deadline: float | None = None,
) -> Waiting[bool]:
    """Run generators of waits side by side until all that are wanted have returned.

    What one of them raises ends all of them.  Their cleanup may wait, except when this generator is
    closed.

    Args:
        wanted: are waited for.
        guards: run meanwhile, and are closed in the end; of what happens at the same time, theirs
            counts first.
        deadline: on the clock of ``time.monotonic``.

    Returns:
        False when the deadline passed first.
    """
    group = _Group([*guards, *wanted], len(guards))
    try:
        group.begin()
        while group.wants():
            group.serve((yield group.wait(deadline)))
            # Asked each time: something may be ready at every wait.
            if deadline is not None and time.monotonic() >= deadline:
                return not group.wants()
        return True
    except GeneratorExit:
        group.close()
        raise
    finally:
        while group.waits:  # ended by an error, or guards that nobody needs any more
            yield from _ended(group.pop())


class _Ended(BaseException):
    """Raised inside those that are not waited for any more; derived so that they do not stop it."""


def _ended(waiting: Waiting[Any]) -> Waiting[None]:
    """End a generator, waiting for what its cleanup waits for."""
    try:
        wait = waiting.throw(_Ended())
        while True:
            wait = waiting.send((yield wait))
    except (StopIteration, _Ended):
        return


class _Group:
    """Those that have not returned yet, each with what it waits for."""

    __slots__ = ("_guards", "_interest", "_key", "_waitings", "waits")

    def __init__(self, waitings: list[Waiting[Any]], guards: int) -> None:
        self._waitings = waitings
        self._guards = guards
        self.waits: dict[int, Wait] = {}
        self._key: list[Interest] = []
        self._interest: Interest = ()

    def begin(self) -> None:
        for index, waiting in enumerate(self._waitings):
            try:
                self.waits[index] = next(waiting)
            except StopIteration:
                continue

    def wants(self) -> bool:
        return any(index >= self._guards for index in self.waits)

    def wait(self, deadline: float | None) -> Wait:
        """Return what all of them wait for; the same object for as long as that is the same."""
        waits = self.waits.values()
        key = [wait.interest for wait in waits]  # held, so that no other can be at its address
        if len(key) != len(self._key) or any(map(operator.is_not, key, self._key)):
            events: dict[int, int] = {}
            for wait in waits:
                for fd, wanted in wait.interest:
                    events[fd] = events.get(fd, 0) | wanted
            self._key, self._interest = key, tuple(events.items())
        times = [wait.deadline for wait in waits if wait.deadline is not None]
        if deadline is not None:
            times.append(deadline)
        return Wait(self._interest, min(times, default=None))

    def serve(self, ready: Ready) -> None:
        """Give everyone what it waited for, those first whose word counts first."""
        now = time.monotonic()
        for index, wait in list(self.waits.items()):
            fds = {fd for fd, _events in wait.interest}
            mine = [(fd, events) for fd, events in ready if fd in fds]
            if mine or (wait.deadline is not None and now >= wait.deadline):
                del self.waits[index]  # should it raise, it has ended
                try:
                    self.waits[index] = self._waitings[index].send(mine)
                except StopIteration:
                    continue
        self.waits = dict(sorted(self.waits.items()))

    def pop(self) -> Waiting[Any]:
        return self._waitings[self.waits.popitem()[0]]

    def close(self) -> None:
        while self.waits:
            self.pop().close()
