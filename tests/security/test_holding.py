"""A container that traces whatever enters it, and waits for none of it (ptrace(2)): what has ended is then
dead for its pidfd, and cannot be waited for.  It holds up nobody who waits with a timeout, and the
launcher rests meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import containerkit as ck
from containerkit.errors import Timeout
from tests.support.idle import rests
from tests.support.patience import until

KINDS = [["/attacks/hold"], ["/attacks/hold", "at exit"]]


@contextmanager
def holding(box: ck.Container, command: list[str]) -> Iterator[None]:
    """Have all that enters traced; check that something was."""
    with box.popen(command, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield
        process.stdin.close()
        assert int(process.stdout.readline()) > 0
        assert process.wait(timeout=60).ok


@pytest.mark.parametrize("command", KINDS, ids=["dead", "at exit"])
def test_an_exec_is_held(engine: ck.Engine, hostile: str, command: list[str]) -> None:
    with engine.start(hostile, ["sleep", "100000"]) as box:
        with holding(box, command):
            with rests(box), pytest.raises(Timeout) as caught:
                box.exec(["sleep", "100000"], timeout=1.0)
            assert caught.value.result.exit.cause == "timeout"
        assert box.exec("exit 3").exit.code == 3


BUSY = "i=0; while [ $i -lt 200000 ]; do i=$((i + 1)); done; "


def test_how_it_ended_is_known_all_the_same(engine: ck.Engine, hostile: str) -> None:
    with (
        engine.start(hostile, ["sleep", "100000"]) as box,
        holding(box, KINDS[0]),
    ):
        assert box.exec(BUSY + "exit 7", timeout=60).exit.code == 7
        assert box.exec(BUSY + "kill -KILL $$", timeout=60).exit.signal == 9


@pytest.mark.parametrize("command", KINDS, ids=["dead", "at exit"])
def test_a_probe_is_held(engine: ck.Engine, hostile: str, command: list[str]) -> None:
    check = ck.Healthcheck(
        ["sh", "-c", "[ ! -e /tmp/held ] || exec sleep 1000"], interval=0.05, timeout=1, retries=1
    )
    with engine.start(hostile, ["sleep", "100000"], healthcheck=check) as box:
        box.wait_ready(healthy=True)
        with holding(box, command):
            box.files.write_text("/tmp/held", "")
            until(lambda: box.health == "unhealthy")
