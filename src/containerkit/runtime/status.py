"""What a container is: its record and whether its launcher lives, as the words of the surface.

Owns the translation; pure.  Must not: read files or ask launchers (`handle` does).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

from containerkit.model.exit import Exit
from containerkit.runtime import packets
from containerkit.state import record

if TYPE_CHECKING:
    from containerkit.state.record import State

Status = Literal["created", "running", "paused", "restarting", "stopped", "removed"]
Health = Literal["starting", "healthy", "unhealthy"]

LIVE: Final[tuple[Status, ...]] = ("running", "paused", "restarting")
"""Those that something supervises."""

STATUSES: Final[tuple[Status, ...]] = ("created", *LIVE, "stopped", "removed")

_WORDS: Final[dict[int, Status]] = {
    record.RUNNING: "running",
    record.STOPPED: "stopped",
    record.RESTARTING: "restarting",
    record.PAUSED: "paused",
}


def status_of(state: State | None, *, alive: bool) -> Status:
    """Return the status of a container that exists.

    Args:
        state: its record; None: it never ran.
        alive: whether the launcher that the record names lives.
    """
    if state is None:
        return "created"
    return _WORDS[state.status] if alive else "stopped"


def exit_of(state: State | None, *, alive: bool) -> Exit | None:
    """Return how it ended last; None when it runs or never ran."""
    if state is None or (alive and state.is_live):
        return None
    if state.is_live:  # its launcher died before it could tell
        return Exit(code=None, cause="lost")
    cause: Any = packets.CAUSES[min(state.cause, len(packets.CAUSES) - 1)]
    if cause == "lost":
        return Exit(code=None, cause="lost")
    if state.signal:
        return Exit.by_signal(state.signal, cause=cause)
    return Exit(code=state.code, cause=cause)


def exit_of_event(event: packets.Event) -> Exit:
    """Return how a container ended, from the launcher's own word."""
    cause: Any = packets.CAUSES[min(event.cause, len(packets.CAUSES) - 1)]
    if event.signal:
        return Exit.by_signal(event.signal, cause=cause)
    return Exit(code=event.exit_code, cause=cause)


def health_of(state: State | None, *, alive: bool) -> Health | None:
    """Return what its health check says; None without one, and when it does not run."""
    if state is None or not alive or not state.is_live:
        return None
    words: tuple[Any, ...] = record.HEALTH
    found: Health | None = words[min(state.health, len(words) - 1)]
    return found


def time_of(ns: int) -> datetime | None:
    """Return a time of a record, None for never."""
    return datetime.fromtimestamp(ns / 1e9, UTC) if ns else None
