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
    return _ended(state.cause, state.code, state.signal)


def exit_of_event(event: packets.Event) -> Exit:
    """Return how something ended, from the launcher's own word."""
    return _ended(event.cause, event.exit_code, event.signal)


def _ended(number: int, code: int, signal: int) -> Exit:
    """Return an end; of a cause that only a later version knows, what all know."""
    cause: Any = "signal" if signal else "exited"
    if number < len(packets.CAUSES):
        cause = packets.CAUSES[number]
    if cause == "lost":
        return Exit(code=None, cause="lost")
    return Exit.by_signal(signal, cause=cause) if signal else Exit(code=code, cause=cause)


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
