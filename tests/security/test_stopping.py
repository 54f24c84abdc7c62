"""A container that stops whatever enters it, at any point of its way in, is waited for no longer than
was asked, and nothing is left of what it stopped.

What enters has the container's own user at the end, and the host's user 0 has it from the beginning:
so it may be sent SIGSTOP, before the launcher knows it, too.
"""

from __future__ import annotations

import pytest

import containerkit as ck
from containerkit.errors import Timeout
from containerkit.runtime import execute
from tests.security import plans
from tests.support.patience import until

ROUNDS = 8


def enter(box: ck.Container, how: str) -> bool:
    """Return whether something entered and came to its end."""
    try:
        if how == "popen":
            with box.popen(["true"]) as process:
                return process.wait(timeout=0.3).ok
        return box.exec(["true"], tty=how == "tty", timeout=0.3).exit.ok
    except Timeout:
        return False


@pytest.mark.parametrize("how", ["exec", "tty", "popen"])
def test_what_enters_is_stopped(
    engine: ck.Engine,
    hostile: str,
    security: ck.Security,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with engine.start(hostile, ["sleep", "100000"], security=security) as box:
        with box.popen(["/attacks/stop"], text=True) as stopping:
            assert stopping.stdout is not None
            assert stopping.stdin is not None
            assert stopping.stdout.readline() == "ready\n"
            monkeypatch.setattr(execute, "START_SECONDS", 0.3)
            with plans.slowly():
                until(lambda: not enter(box, how))
                for _ in range(ROUNDS):
                    enter(box, how)
            commands = [task.command for task in box.top()]
            assert commands == [("sleep", "100000"), ("/attacks/stop",)]
            stopping.stdin.close()
            stopping.wait(timeout=60)
        monkeypatch.undo()
        assert box.exec(["true"]).exit.ok  # the control: it is let in


def test_health_goes_on(engine: ck.Engine, hostile: str) -> None:
    """A check that was stopped has failed, and others follow."""
    check = ck.Healthcheck("sleep 0.1", interval=0.05, timeout=0.5, retries=1)
    with engine.start(hostile, ["sleep", "100000"], healthcheck=check) as box:
        box.wait_ready(healthy=True)
        with box.popen(["/attacks/stop"], text=True) as stopping:
            assert stopping.stdout is not None
            assert stopping.stdin is not None
            assert stopping.stdout.readline() == "ready\n"
            until(lambda: box.health == "unhealthy")
            stopping.stdin.close()
            stopping.wait(timeout=60)
        box.wait_ready(healthy=True)
