"""Restarts by a launcher, as Docker does them, and health checks."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit.launch.ops import (
    RESTART_ALWAYS,
    RESTART_ON_FAILURE,
    RESTART_UNLESS_STOPPED,
    Op,
)
from containerkit.model.mount import Mount
from containerkit.runtime import home, packets
from containerkit.runtime.launcher import Launcher
from containerkit.state import record
from containerkit.state.record import State
from tests.integration.life.support import (
    Kept,
    begin,
    end_of,
    group_of,
    receive,
    restart,
)
from tests.support.patience import DEADLINE, stopped, until

Start = Callable[..., Kept]
"""Starts a command or a script: ops, and what `begin` has by name; its launcher ends it at last."""

FOREVER = ["sleep", "1000"]
ALWAYS = restart(RESTART_ALWAYS)


@pytest.fixture
def start(engine: ck.Engine, busybox: str, launcher: Launcher) -> Start:
    def started(command: str | list[str], *ops: Op, **more: Any) -> Kept:
        argv = sh(command) if isinstance(command, str) else command
        return begin(engine, busybox, argv, launcher, *ops, **more)

    return started


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def runs_again(state: State) -> bool:
    return state.restarts == 1 and state.status == record.RUNNING


def health_of(state: State) -> str | None:
    return record.HEALTH[state.health]


def told(one: Kept) -> list[str]:
    """Return what events have said of its health; they come after the record."""
    return [event["status"] for event in one.events() if event["kind"] == "health"]


def test_failures_are_counted(start: Start) -> None:
    one = start("exit 3", restart(RESTART_ON_FAILURE, 2))
    with one.watch() as channel:
        event = end_of(channel)
        assert (event.kind, event.exit_code) == (packets.EXITED, 3)
    state = one.wait()
    assert (state.restarts, state.code) == (2, 3)
    assert one.kinds() == ["start", "die", "restart", "die", "restart", "die"]


def test_pauses_between_them_double(start: Start) -> None:
    one = start("exit 1", restart(RESTART_ON_FAILURE, 3))
    one.wait()
    times = [(event["kind"], event["t"]) for event in one.events()]
    died = [ns for kind, ns in times if kind == "die"]
    again = [ns for kind, ns in times if kind == "restart"]
    pauses = [(after - before) / 1e6 for before, after in zip(died, again, strict=False)]
    assert len(pauses) == 3
    assert pauses[0] >= 99
    assert pauses[1] >= 199
    assert pauses[2] >= 399


def test_success_ends_it(start: Start, tmp_path: Path) -> None:
    """What it wrote is there the next time, and so are mounts and secrets."""
    script = "echo x >> /n; cat /run/secrets/key >> /n; ls /there >> /n; [ $(grep -c x /n) -ge 3 ]"
    (tmp_path / "file").touch()
    mounts = [Mount.bind(str(tmp_path), "/there")]
    one = start(script, restart(RESTART_ON_FAILURE), mounts=mounts, secrets={"key": b"s3\n"})
    state = one.wait()
    assert (state.code, state.restarts) == (0, 2)
    assert one.text("n") == "x\ns3\nfile\n" * 3


@pytest.mark.parametrize("network", ["none", "host"])
def test_its_network_is_the_same(start: Start, network: str) -> None:
    script = "readlink /proc/self/ns/net >> /n; exit 3"
    one = start(script, restart(RESTART_ON_FAILURE, 3), network=network)
    one.wait()
    names = one.text("n").splitlines()
    assert len(names) == 4
    assert len(set(names)) == 1
    assert (names[0] == os.readlink("/proc/self/ns/net")) is (network == "host")


@pytest.mark.parametrize("probe", [None, ["true"]])
def test_a_pause_that_finds_it_dead(
    engine: ck.Engine, launcher: Launcher, start: Start, probe: list[str] | None
) -> None:
    """What is left of it, and what runs next, is not frozen."""
    one = start(FOREVER, ALWAYS, probe=probe)
    if probe is not None:  # by now there is a process that makes them
        until(lambda: "health" in one.kinds())
    with one.watch() as channel, home.connect(engine.root, launcher.id) as end:
        _event, (pidfd,) = receive(channel)
        one.done(packets.THAW)  # by now the launcher has accepted the other, too
        os.kill(launcher.pid, signal.SIGSTOP)
        try:
            stopped(launcher.pid)
            end.send(packets.request(packets.FREEZE, one.id))
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], DEADLINE)[0]
        finally:
            os.close(pidfd)
            os.kill(launcher.pid, signal.SIGCONT)
        assert packets.parse_event(end.recv(200)) is not None
    one.until(runs_again)
    one.stop()
    assert one.wait().restarts == 1
    kinds = [kind for kind in one.kinds() if kind not in {"pause", "health"}]
    assert kinds == ["start", "die", "restart", "kill", "die"]


@pytest.mark.parametrize("policy", [RESTART_ALWAYS, RESTART_UNLESS_STOPPED])
def test_stop_ends_it_while_it_waits(start: Start, policy: int) -> None:
    one = start("[ -e /n ] || { touch /n; exit 0; }; exit 4", restart(policy))
    with one.watch() as channel:
        one.until(lambda state: state.restarts >= 3 and state.status == record.RESTARTING)
        one.kill(15, flags=packets.STOP_ASKED)
        event = end_of(channel)
        assert (event.kind, event.exit_code) == (packets.EXITED, 4)
    state = one.wait()
    assert state.flags & record.STOP_ASKED
    assert state.restarts >= 3


def test_stop_ends_it_while_it_runs(start: Start) -> None:
    one = start(FOREVER, ALWAYS)
    one.kill()
    one.until(runs_again)
    one.stop()
    assert one.wait().restarts == 1


@pytest.mark.needs("control groups")
def test_limits_set_since_hold(start: Start, launcher: Launcher) -> None:
    one = start(FOREVER, ALWAYS)
    (group_of(launcher) / "pids.max").write_text("55", encoding="ascii")
    one.kill()
    one.until(runs_again)
    assert (group_of(launcher) / "pids.max").read_text() == "55\n"


def test_what_can_not_run_again_has_ended(start: Start) -> None:
    one = start("rm /bin/sh; exit 9", ALWAYS)
    with one.watch() as channel:
        event = end_of(channel)
        assert (event.kind, event.exit_code) == (packets.EXITED, 127)
    state = one.wait()
    assert (state.code, state.restarts) == (127, 1)


# ---- health


def test_health_follows_the_probe(start: Start, tmp_path: Path) -> None:
    one = start(
        FOREVER,
        probe=sh("echo probed; echo too >&2; test -e /there/ok"),
        timing=(20, 120_000, 0, 0, 2),
        mounts=[Mount.bind(str(tmp_path), "/there")],
    )
    state = one.until(lambda state: health_of(state) == "unhealthy")
    assert state.failing >= 2
    assert state.probe_code == 1
    assert sorted((one.directory / "health").read_text().splitlines()) == ["probed", "too"]
    (tmp_path / "ok").touch()
    state = one.until(lambda state: health_of(state) == "healthy")
    assert (state.failing, state.probe_code) == (0, 0)
    until(lambda: told(one) == ["unhealthy", "healthy"])


def test_failures_at_first_do_not_count(start: Start) -> None:
    one = start(FOREVER, probe=sh("exit 6"), timing=(600_000, 120_000, 600_000, 10, 1))
    state = one.until(lambda state: state.probe_code == 6)
    assert (state.failing, health_of(state)) == (0, "starting")


@pytest.mark.parametrize(
    ("probe", "limit", "code"),
    [
        (sh("sleep 1000 & sleep 1000"), 50, -errno.ETIMEDOUT),
        (["/not/there"], 120_000, -errno.ENOENT),
    ],
    ids=["late", "absent"],
)
def test_a_probe_that_does_not_end_well(
    start: Start, probe: list[str], limit: int, code: int
) -> None:
    """It has only so long, and may not even start."""
    one = start(FOREVER, probe=probe, timing=(20, limit, 0, 0, 1))
    state = one.until(lambda state: health_of(state) == "unhealthy")
    assert state.probe_code == code


def test_a_loud_probe_does_not_block(start: Start) -> None:
    """What it says beyond 4 KiB is dropped."""
    one = start(FOREVER, probe=sh("yes | head -c 1000000"), timing=(20, 120_000, 0, 0, 1))
    one.until(lambda state: health_of(state) == "healthy")
    assert (one.directory / "health").stat().st_size == 4096


@pytest.mark.needs("control groups")
def test_health_begins_anew_with_a_restart(start: Start) -> None:
    one = start(FOREVER, ALWAYS, probe=sh("exit 0"), timing=(20, 120_000, 0, 0, 2))
    one.until(lambda state: health_of(state) == "healthy")
    one.kill()
    one.until(lambda state: state.restarts == 1 and health_of(state) == "healthy")
    until(lambda: told(one) == ["healthy", "healthy"])
    one.done(packets.FREEZE)
    one.until(lambda state: state.status == record.PAUSED)
    one.stop()
    one.wait()


ENDLESS = sh("touch /probed; sleep 1000")


def test_an_end_is_no_failed_probe(start: Start) -> None:
    """A probe that dies with its container says nothing about its health."""
    one = start(FOREVER, probe=ENDLESS, timing=(1, 60_000, 0, 0, 1))
    until((one.directory / "upper" / "0" / "probed").exists)
    one.kill()
    one.wait()
    assert "health" not in one.kinds()


@pytest.mark.needs("control groups")
def test_a_pause_is_no_time_of_a_probe(start: Start) -> None:
    """One under way when its container is paused has its whole time again afterwards."""

    def caught() -> Kept | None:
        one = start(FOREVER, probe=ENDLESS, timing=(1, 300, 0, 0, 1))
        until((one.directory / "upper" / "0" / "probed").exists)
        one.done(packets.FREEZE)
        times = {event["kind"]: event["t"] for event in one.events()}
        # This process, or the launcher, may have been too slow for it.
        return one if times["pause"] - times["start"] < 300e6 else None

    one: Kept = until(caught)
    time.sleep(0.4)  # longer than it has
    one.done(packets.THAW)
    until(lambda: told(one))
    state = one.state()
    assert state is not None
    assert (health_of(state), state.probe_code) == ("unhealthy", -errno.ETIMEDOUT)
    times = {event["kind"]: event["t"] for event in reversed(one.events())}
    assert times["health"] - times["unpause"] > 250e6
