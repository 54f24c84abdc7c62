"""The sign that the work under way in a thread is not wanted any more.

Owns: the event, and the context variable that says which one is meant.  Must not: end anything;
whatever waits for long looks at the event meanwhile, or is told.
Neighbours: `stdio.threads` sets it when a task is cancelled, `images` when a pull fails or is
interrupted; `registry` hangs up its connections for it.
"""

from __future__ import annotations

import errno
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from containerkit.errors import HostError


class Listener(Protocol):
    """Who can not look at an event, because it waits in the kernel."""

    def cancelled(self, event: CancelEvent, /) -> None:
        """End the wait if it is for *event*; called in the thread that set it."""


class CancelEvent(threading.Event):
    """An event that tells its listeners when it is set."""

    def __init__(self) -> None:
        super().__init__()
        self._listeners: weakref.WeakSet[Listener] = weakref.WeakSet()

    def tell(self, listener: Listener) -> None:
        """Tell *listener* too, at once if it is set already."""
        self._listeners.add(listener)
        if self.is_set():
            listener.cancelled(self)

    def set(self) -> None:
        """Set it, and tell everybody."""
        super().set()
        for listener in list(self._listeners):
            listener.cancelled(self)


_event: ContextVar[CancelEvent | None] = ContextVar("containerkit-cancelled", default=None)


def current() -> CancelEvent | None:
    """Return the event that is set when the work under way is cancelled; None: nothing sets one."""
    return _event.get()


def check() -> None:
    """End the work under way if it was cancelled: between two steps of what may take long.

    Raises:
        HostError: ECANCELED; whoever cancelled does not see it.
    """
    event = _event.get()
    if event is not None and event.is_set():
        raise HostError("cannot go on: it was cancelled", errno=errno.ECANCELED)


@contextmanager
def cancellable() -> Iterator[CancelEvent]:
    """Have an event for the work in this block: that of the work around it, else a new one."""
    event = _event.get() or CancelEvent()
    token = _event.set(event)
    try:
        yield event
    finally:
        _event.reset(token)


def set_current(event: CancelEvent) -> None:
    """Have `current` return *event* in this context."""
    _event.set(event)
