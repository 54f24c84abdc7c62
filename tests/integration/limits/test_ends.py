"""A container at its limit ends as it should, is told apart from others, and harms nobody."""

from __future__ import annotations

import subprocess

import pytest

import containerkit as ck
from containerkit.model.limits import Unlimited
from tests.integration.limits.support import MORE, VERSION, eventually, groups, value

EAT = ["tail", "/dev/zero"]
"""Remembers a line that does not end."""


@pytest.mark.parametrize("swap", [None, "16m", ck.UNLIMITED], ids=["default", "none", "unlimited"])
def test_every_death_by_memory_is_told(
    engine: ck.Engine, busybox: str, swap: str | Unlimited | None
) -> None:
    """One after another, with other containers in between that know nothing of it."""
    limits = ck.Limits(memory="16m", memory_swap=swap)
    for _ in range(7 * MORE):
        assert engine.run(busybox, EAT, limits=limits).exit == ck.Exit.by_signal(9, cause="oom")
        assert engine.run(busybox, ["true"], limits=limits).exit == ck.Exit()


def test_a_kill_by_somebody_else_is_no_oom(engine: ck.Engine, busybox: str) -> None:
    """Although its group has a limit on memory, and one before it ran into the same."""
    limits = ck.Limits(memory="16m")
    assert engine.run(busybox, EAT, limits=limits).exit.cause == "oom"
    with engine.start(busybox, ["sleep", "1000"], limits=limits) as container:
        container.kill()
        assert container.wait(timeout=60) == ck.Exit.by_signal(9)
    result = engine.run(busybox, ["sh", "-c", "exit 137"], limits=limits)
    assert result.exit == ck.Exit(code=137)


def test_the_kill_of_a_child_counts(engine: ck.Engine, busybox: str) -> None:
    """As with Docker: part of it was killed, even if the rest went on."""
    script = "tail /dev/zero; echo $?; exit 3"
    result = engine.run(busybox, ["sh", "-c", script], limits=ck.Limits(memory="16m"), text=True)
    assert result.stdout == "137\n"
    assert result.exit == ck.Exit(code=3, cause="oom")


def test_time_is_told_apart(engine: ck.Engine, busybox: str) -> None:
    with pytest.raises(ck.Timeout) as caught:
        engine.run(busybox, ["sleep", "1000"], limits=ck.Limits(memory="16m"), timeout=0.2)
    assert caught.value.result is not None
    assert caught.value.result.exit.cause == "timeout"


BOMB = """
import os
while True:
    try:
        os.fork()
    except OSError:
        pass
"""


def test_a_fork_bomb(engine: ck.Engine, busybox: str) -> None:
    """It fills its own group and nothing else; its end is one kill away."""
    limits = ck.Limits(pids=128)
    with engine.start(None, ["python3", "-c", BOMB], limits=limits) as container:
        eventually(lambda: refused(container) > 0, "the bomb never came to its limit")
        for _ in range(5):
            assert subprocess.run(["/bin/true"], check=False).returncode == 0
            assert int(value(container, "pids.current")) <= 128
        assert engine.run(busybox, ["true"]).exit.ok
        group = groups(container)["unified" if VERSION == "v2" else "pids"]
        container.kill()
        assert container.wait(timeout=60).cause == "signal"
    eventually(lambda: not group.exists(), f"{group} is left")


def refused(container: ck.Container) -> int:
    """How many forks its limit has refused: of pids.events, "max N"."""
    return int(value(container, "pids.events").split()[-1])


def test_who_gets_over_the_kill_of_a_child_has_exited(engine: ck.Engine, busybox: str) -> None:
    script = "tail /dev/zero; echo $?; exit 0"
    limits = ck.Limits(memory="16m")
    result = engine.run(busybox, ["sh", "-c", script], limits=limits, text=True)
    assert result.stdout == "137\n"
    assert result.exit.ok
    assert engine.run(busybox, ["false"], limits=limits).exit == ck.Exit(code=1)
