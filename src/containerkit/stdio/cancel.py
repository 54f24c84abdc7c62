"""The sign that the work under way in a thread is not wanted any more.

Owns: one context variable.  Must not: end anything; long work asks for the event where it begins,
and looks at it wherever it would wait.
Neighbours: `stdio.threads` sets it for work whose task is cancelled, `images` asks for it.
"""

from __future__ import annotations

import threading
from contextvars import ContextVar

_event: ContextVar[threading.Event | None] = ContextVar("containerkit-cancelled", default=None)


def current() -> threading.Event:
    """Return the event that is set when the work under way is cancelled.

    In the blocking face, where nothing but an exception ends a call: one that nobody else has.
    """
    return _event.get() or threading.Event()


def set_current(event: threading.Event) -> None:
    """Have `current` return *event* in this context."""
    _event.set(event)
