"""What a launcher's event says of an end, as values.

Owns the translation of three of its fields.  Pure.  Neighbours: `running`, `execute`, `process`.
"""

from __future__ import annotations

from containerkit.model.exit import Exit
from containerkit.model.result import Usage
from containerkit.runtime import packets
from containerkit.runtime.status import exit_of_event


def exit_of(event: packets.Event | None) -> Exit:
    """Return how a process ended; "lost" when its launcher died before telling."""
    if event is None or event.kind != packets.EXITED:
        return Exit(code=None, cause="lost")
    return exit_of_event(event)


def duration_of(event: packets.Event | None) -> float:
    """Return the seconds from start to end."""
    return 0.0 if event is None else max(0, event.finished_ns - event.started_ns) / 1e9


def usage_of(event: packets.Event | None) -> Usage:
    """Return what it used."""
    if event is None:
        return Usage()
    return Usage(event.user_us / 1e6, event.system_us / 1e6, event.max_rss_kib * 1024)
