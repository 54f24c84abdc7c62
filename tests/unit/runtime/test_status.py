"""What a record and a launcher's life say together."""

from __future__ import annotations

import pytest

from containerkit.model.exit import Exit
from containerkit.runtime import packets, status
from containerkit.state import record
from containerkit.state.record import State


@pytest.mark.parametrize(
    ("number", "alive", "word"),
    [
        (record.RUNNING, True, "running"),
        (record.PAUSED, True, "paused"),
        (record.RESTARTING, True, "restarting"),
        (record.STOPPED, True, "stopped"),
        (record.RUNNING, False, "stopped"),
        (record.PAUSED, False, "stopped"),
        (record.RESTARTING, False, "stopped"),
    ],
)
def test_status(number: int, alive: bool, word: str) -> None:
    assert status.status_of(State(number, "a"), alive=alive) == word


def test_without_a_record_it_was_created() -> None:
    assert status.status_of(None, alive=True) == "created"
    assert status.exit_of(None, alive=True) is None
    assert status.health_of(None, alive=True) is None


@pytest.mark.parametrize("cause", packets.CAUSES)
def test_every_cause_has_a_name(cause: str) -> None:
    state = State(record.STOPPED, "a", signal=9, cause=packets.CAUSES.index(cause))
    found = status.exit_of(state, alive=True)
    assert found is not None
    assert found.cause == cause
    assert found.code == (None if cause == "lost" else 137)


def test_a_cause_of_a_later_version() -> None:
    """A detached launcher may be of another one than who asks."""
    state = State(record.STOPPED, "a", code=3, cause=len(packets.CAUSES))
    assert status.exit_of(state, alive=True) == Exit(code=3)
    assert status.exit_of(state._replace(signal=9), alive=True) == Exit.by_signal(9)


def test_who_ended_unseen_is_lost() -> None:
    running = State(record.RUNNING, "a")
    assert status.exit_of(running, alive=True) is None
    assert status.exit_of(running, alive=False) == Exit(code=None, cause="lost")


def test_only_what_runs_is_healthy() -> None:
    state = State(record.RUNNING, "a", health=record.HEALTH.index("healthy"))
    assert status.health_of(state, alive=True) == "healthy"
    assert status.health_of(state, alive=False) is None
    assert status.health_of(state._replace(status=record.STOPPED), alive=True) is None
