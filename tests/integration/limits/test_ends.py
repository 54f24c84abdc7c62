"""A container at its limit ends as it should, is told apart from others, and harms nobody."""

from __future__ import annotations

import subprocess

import pytest

import containerkit as ck
from containerkit.model.limits import Unlimited
from tests.integration.limits.support import MORE, VERSION, eventually, groups, value
from tests.support.bomb import BOMB

pytestmark = pytest.mark.needs("control groups")

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
        assert container.wait(timeout=120) == ck.Exit.by_signal(9)
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


def test_time_is_over_before_it_has_begun(engine: ck.Engine, busybox: str) -> None:
    """Killed during its set-up, it is no failure of that."""
    for _ in range(10 * MORE):
        with pytest.raises(ck.Timeout) as caught:
            engine.run(busybox, ["sleep", "1000"], limits=ck.Limits(memory="16m"), timeout=1e-6)
        assert caught.value.result is not None
        assert caught.value.result.exit == ck.Exit.by_signal(9, cause="timeout")
    assert engine.run(busybox, ["true"]).exit.ok


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
        assert container.wait(timeout=120).cause == "signal"
    eventually(lambda: not group.exists(), f"{group} is left")


def refused(container: ck.Container) -> int:
    """How many forks its limit has refused: of pids.events, "max N"."""
    return int(value(container, "pids.events").split()[-1])


CROWD = "for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done"
"""A shell that is refused a process ends at once, with code 2."""

REFUSED = b"sh: can't fork: Resource temporarily unavailable\n"


def test_who_fails_for_want_of_processes(engine: ck.Engine, busybox: str) -> None:
    """In places of earlier containers, too, and with others in between that know nothing of it."""
    limits = ck.Limits(pids=4)
    for _ in range(7 * MORE):
        result = engine.run(busybox, ["sh", "-c", CROWD], limits=limits)
        assert (result.exit, result.stderr) == (ck.Exit(code=2, cause="pids"), REFUSED)
        assert engine.run(busybox, ["false"], limits=limits).exit == ck.Exit(code=1)
    with pytest.raises(ck.ProcessFailed, match=r"hint: .*Limits\(pids="):
        engine.run(busybox, ["sh", "-c", CROWD], limits=limits, check=True)
    with engine.start(busybox, ["sh", "-c", CROWD], limits=limits) as container:
        assert container.wait(timeout=60) == ck.Exit(code=2, cause="pids")


@pytest.mark.parametrize("code", [0, 7])
def test_who_gets_over_a_refusal(engine: ck.Engine, busybox: str, code: int) -> None:
    """It has not failed; and what comes after it in its place does not inherit the refusal."""
    script = f"({CROWD}); exit {code}"
    limits = ck.Limits(pids=4)
    for _ in range(3 * MORE):
        result = engine.run(busybox, ["sh", "-c", script], limits=limits)
        assert result.stderr == REFUSED
        assert result.exit == (ck.Exit(code=7, cause="pids") if code else ck.Exit())
        assert engine.run(busybox, ["false"], limits=limits).exit == ck.Exit(code=1)


def test_who_is_told_to_end_ends_of_that(engine: ck.Engine, busybox: str) -> None:
    """Whatever it was refused before, and with whichever code it answers."""
    script = f"trap 'exit 5' TERM; ({CROWD}); echo refused; while :; do sleep 1000 & wait; done"
    limits = ck.Limits(pids=4)
    ready = ck.Ready(log="^refused$")
    with engine.start(busybox, ["sh", "-c", script], limits=limits, ready=ready) as container:
        container.stop(grace=60)
        assert container.exit == ck.Exit(code=5)
    with pytest.raises(ck.Timeout) as caught:
        engine.run(busybox, ["sh", "-c", script], limits=limits, timeout=1)
    assert caught.value.result is not None
    assert caught.value.result.exit.cause == "timeout"


def test_a_restart_does_not_inherit_a_refusal(engine: ck.Engine, busybox: str) -> None:
    """Its control group is the same, and so are its counts."""
    script = f"[ -e /again ] && exit 3; touch /again; {CROWD}"
    with engine.start(
        busybox, ["sh", "-c", script],
        limits=ck.Limits(pids=4), lifetime="detached", restart="on-failure:1",
    ) as container:  # fmt: skip
        try:
            assert container.wait(timeout=60) == ck.Exit(code=3)
            died = list(engine.events(container=container, kind="die"))
            assert [event.attributes["cause"] for event in died] == ["pids", "exited"]
        finally:
            container.remove(force=True)


def test_who_gets_over_the_kill_of_a_child_has_exited(engine: ck.Engine, busybox: str) -> None:
    script = "tail /dev/zero; echo $?; exit 0"
    limits = ck.Limits(memory="16m")
    result = engine.run(busybox, ["sh", "-c", script], limits=limits, text=True)
    assert result.stdout == "137\n"
    assert result.exit.ok
    assert engine.run(busybox, ["false"], limits=limits).exit == ck.Exit(code=1)
