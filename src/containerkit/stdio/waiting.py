"""Waits: unbounded waiting written once, as generators, and the blocking driver of them.

A generator that has to wait yields a `Wait`: which descriptors, for what, until when.  A driver
waits and sends back which of them are ready: a list of (descriptor, events), empty when the
deadline passed.  The generator's return value is the driver's.  This module holds the driver of
the blocking face; the asyncio face has its own and runs the same generators.

Owns: the `Wait` value, `drive`.  Must not: read or write the descriptors, know what they are.
Flow: `stdio.collect` and the handles of `runtime` yield waits; the two faces drive them.
"""

from __future__ import annotations

import math
import select
import time
from collections.abc import Generator
from typing import Any, NamedTuple, TypeVar

from containerkit.errors import ConfigError

READ = select.POLLIN
WRITE = select.POLLOUT

T = TypeVar("T")

Interest = tuple[tuple[int, int], ...]
"""Pairs of a descriptor and READ, WRITE or both."""

Ready = list[tuple[int, int]]
"""Pairs of a descriptor and what happened to it; hang-ups and errors are told unasked (poll(2))."""


class Wait(NamedTuple):
    """What a generator waits for.

    A driver may keep what it registered for as long as it is given the *same* ``interest`` object,
    so a generator builds a new one only when something in it changes.
    """

    interest: Interest
    deadline: float | None = None
    """On the clock of ``time.monotonic``; None waits for ever."""


Waiting = Generator[Wait, Ready, T]
"""A generator that yields waits and returns a T."""


def deadline_of(timeout: float | None, *, what: str = "timeout") -> float | None:
    """Return when a wait of so many seconds is over that begins now; None: never.

    Raises:
        ConfigError: it is no number.
    """
    if timeout is None:
        return None
    given: Any = timeout
    if isinstance(given, str) or not hasattr(given, "__float__") or math.isnan(given):
        raise ConfigError(f"{what} {timeout!r} is not a number of seconds")
    return time.monotonic() + float(timeout)


def drive(waiting: Waiting[T]) -> T:
    """Run a generator of waits to its end in this thread and return its value.

    Blocking: on the descriptors and deadlines it yields, with the GIL released.  What interrupts
    the wait, such as KeyboardInterrupt, is raised inside the generator, at its yield.
    """
    poller = select.poll()
    registered: Interest = ()
    ready: Any = None  # so a generator begins
    interruption: BaseException | None = None
    while True:
        try:
            while True:
                if interruption is None:
                    wait = waiting.send(ready)
                else:
                    thrown, interruption = interruption, None
                    wait = waiting.throw(thrown)
                if wait.interest is not registered:
                    poller = select.poll()
                    registered = wait.interest
                    for fd, events in registered:
                        poller.register(fd, events)
                ready = poller.poll(_milliseconds(wait.deadline))
        except StopIteration as stop:
            value: T = stop.value
            return value
        except BaseException as error:
            if getattr(waiting, "gi_frame", None) is None:
                raise  # it was the generator's own, which has ended
            interruption = error  # wherever in here it came: around the wait, or in it


def _milliseconds(deadline: float | None) -> int | None:
    if deadline is None:
        return None
    # Rounded up: waking before the deadline would be a busy loop.  Bounded: poll takes an int.
    left = math.ceil((deadline - time.monotonic()) * 1000)
    return min(max(left, 0), 0x7FFFFFFF)


def until_readable(fd: int, deadline: float | None = None) -> Waiting[bool]:
    """Wait until ``fd`` has something to read or has hung up; False when the deadline passed."""
    return bool((yield Wait(((fd, READ),), deadline)))
