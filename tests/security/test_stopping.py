"""A container that stops whatever enters it, at any point of its way in, is waited for no longer than
was asked, and nothing is left of what it stopped.

What enters has the container's own user at the end, and the host's user 0 has it from the beginning:
so it may be sent SIGSTOP, before the launcher knows it, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import containerkit as ck
from containerkit.errors import Timeout
from containerkit.runtime import execute
from tests.security import plans
from tests.support.patience import until

ROUNDS = 8
FIRST = ("sleep", "100000")

STOP_ADOPTERS = """
n=0
for task in /proc/[0-9]*; do
    if [ "$(cat $task/comm 2>/dev/null)" = ck-adopter ]; then
        kill -STOP "${task#/proc/}" && n=$((n + 1))
    fi
done
echo $n
"""


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
    with engine.start(hostile, FIRST, security=security) as box:
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
            assert commands == [FIRST, ("/attacks/stop",)]
            stopping.stdin.close()
            stopping.wait(timeout=60)
        monkeypatch.undo()
        assert box.exec(["true"]).exit.ok  # the control: it is let in


def test_health_goes_on(engine: ck.Engine, hostile: str) -> None:
    """A check that was stopped has failed, and others follow."""
    check = ck.Healthcheck("sleep 0.1", interval=0.05, timeout=0.5, retries=1)
    with engine.start(hostile, FIRST, healthcheck=check) as box:
        box.wait_ready(healthy=True)
        with box.popen(["/attacks/stop"], text=True) as stopping:
            assert stopping.stdout is not None
            assert stopping.stdin is not None
            assert stopping.stdout.readline() == "ready\n"
            until(lambda: box.health == "unhealthy")
            stopping.stdin.close()
            stopping.wait(timeout=60)
        box.wait_ready(healthy=True)


@contextmanager
def adopting(engine: ck.Engine, image: str) -> Iterator[ck.Container]:
    """A container whose execs have adopters: an earlier one has left something."""
    with engine.start(image, FIRST) as box:
        box.exec("sleep 1000 & :")
        yield box


# In strict an adopter is another user's: it is not stopped from inside.
def test_what_adopts_is_stopped(engine: ck.Engine, hostile: str) -> None:
    with adopting(engine, hostile) as box:
        process = box.popen("read line; exit 7", text=True)
        assert process.stdin is not None
        count = box.exec(STOP_ADOPTERS, text=True).stdout
        assert int(count) >= 1  # the control: there is one, and it was stopped
        process.stdin.close()
        assert process.wait(timeout=20).code == 7
        assert box.exec(["true"]).exit.ok


def test_what_adopts_is_stopped_again_and_again(engine: ck.Engine, hostile: str) -> None:
    with adopting(engine, hostile) as box:
        with box.popen(["sh", "-c", f"while :; do {STOP_ADOPTERS} done >/dev/null"]) as stopping:
            for _ in range(ROUNDS):
                enter(box, "exec")
            stopping.kill()
            stopping.wait(timeout=60)
        until(lambda: [task.command for task in box.top() if task.state != "Z"] == [FIRST])
        assert box.exec(["true"]).exit.ok  # the control: it is let in
