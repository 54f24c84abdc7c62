"""Restarts by a launcher, as Docker does them, and health checks."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.launch.ops import (
    RESTART_ALWAYS,
    RESTART_ON_FAILURE,
    RESTART_UNLESS_STOPPED,
)
from containerkit.model.mount import Mount
from containerkit.runtime import home, packets
from containerkit.runtime.launcher import Launcher
from containerkit.state import record
from tests.integration.life.support import begin, end_of, group_of, receive, restart, until


def sh(script: str) -> list[str]:
    return ["sh", "-c", script]


def test_failures_are_counted(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    one = begin(engine, busybox, sh("exit 3"), launcher, restart(RESTART_ON_FAILURE, 2))
    with one.watch() as channel:
        event = end_of(channel)
        assert (event.kind, event.exit_code) == (packets.EXITED, 3)
    state = one.wait()
    assert (state.restarts, state.code) == (2, 3)
    assert one.kinds() == ["start", "die", "restart", "die", "restart", "die"]


def test_pauses_between_them_double(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    one = begin(engine, busybox, sh("exit 1"), launcher, restart(RESTART_ON_FAILURE, 3))
    one.wait()
    times = [(event["kind"], event["t"]) for event in one.events()]
    died = [ns for kind, ns in times if kind == "die"]
    again = [ns for kind, ns in times if kind == "restart"]
    pauses = [(after - before) / 1e6 for before, after in zip(died, again, strict=False)]
    assert len(pauses) == 3
    assert pauses[0] >= 99
    assert pauses[1] >= 199
    assert pauses[2] >= 399


def test_success_ends_it(
    engine: ck.Engine, busybox: str, launcher: Launcher, tmp_path: Path
) -> None:
    """What it wrote is there the next time, and so are mounts and secrets."""
    script = "echo x >> /n; cat /run/secrets/key >> /n; ls /there >> /n; [ $(grep -c x /n) -ge 3 ]"
    (tmp_path / "file").touch()
    one = begin(
        engine,
        busybox,
        sh(script),
        launcher,
        restart(RESTART_ON_FAILURE),
        mounts=[Mount.bind(str(tmp_path), "/there")],
        secrets={"key": b"s3\n"},
    )
    state = one.wait()
    assert (state.code, state.restarts) == (0, 2)
    assert one.text("n") == "x\ns3\nfile\n" * 3


@pytest.mark.parametrize("network", ["none", "host"])
def test_its_network_is_the_same(
    engine: ck.Engine, busybox: str, launcher: Launcher, network: str
) -> None:
    script = "readlink /proc/self/ns/net >> /n; exit 3"
    on = restart(RESTART_ON_FAILURE, 3)
    one = begin(engine, busybox, sh(script), launcher, on, network=network)
    one.wait()
    own = os.readlink("/proc/self/ns/net")
    (found,) = set(names := one.text("n").splitlines())
    assert len(names) == 4
    assert (found == own) is (network == "host")


@pytest.mark.parametrize("probe", [None, ["true"]])
def test_a_pause_that_finds_it_dead(
    engine: ck.Engine, busybox: str, launcher: Launcher, probe: list[str] | None
) -> None:
    """What is left of it, and what runs next, is not frozen."""
    one = begin(engine, busybox, ["sleep", "1000"], launcher, restart(RESTART_ALWAYS), probe=probe)
    if probe is not None:  # by now there is a process that makes them
        until(lambda: "health" in one.kinds())
    with one.watch() as channel, home.connect(engine.root, launcher.id) as end:
        _event, (pidfd,) = receive(channel)
        one.done(packets.THAW)  # by now the launcher has accepted the other, too
        os.kill(launcher.pid, signal.SIGSTOP)
        try:
            end.send(packets.request(packets.FREEZE, one.id))
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            assert select.select([pidfd], [], [], 20.0)[0]
        finally:
            os.close(pidfd)
            os.kill(launcher.pid, signal.SIGCONT)
        assert packets.parse_event(end.recv(200)) is not None
    one.until(lambda state: state.restarts == 1 and state.status == record.RUNNING)
    one.stop()
    assert one.wait().restarts == 1
    kinds = [kind for kind in one.kinds() if kind not in {"pause", "health"}]
    assert kinds == ["start", "die", "restart", "kill", "die"]


@pytest.mark.parametrize("policy", [RESTART_ALWAYS, RESTART_UNLESS_STOPPED])
def test_stop_ends_it_while_it_waits(
    engine: ck.Engine, busybox: str, launcher: Launcher, policy: int
) -> None:
    one = begin(
        engine, busybox, sh("[ -e /n ] || { touch /n; exit 0; }; exit 4"), launcher, restart(policy)
    )
    with one.watch() as channel:
        one.until(lambda state: state.restarts >= 3 and state.status == record.RESTARTING)
        one.kill(15, flags=packets.STOP_ASKED)
        event = end_of(channel)
        assert (event.kind, event.exit_code) == (packets.EXITED, 4)
    state = one.wait()
    assert state.flags & record.STOP_ASKED
    assert state.restarts >= 3


def test_stop_ends_it_while_it_runs(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    one = begin(engine, busybox, ["sleep", "1000"], launcher, restart(RESTART_ALWAYS))
    one.kill()
    one.until(lambda state: state.restarts == 1 and state.status == record.RUNNING)
    one.stop()
    assert one.wait().restarts == 1


def test_limits_set_since_hold(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    one = begin(engine, busybox, ["sleep", "1000"], launcher, restart(RESTART_ALWAYS))
    one.done(packets.UPDATE, body=packets.strings(["pids", "pids.max", "55"]))
    one.kill()
    one.until(lambda state: state.restarts == 1 and state.status == record.RUNNING)
    assert (group_of(launcher) / "pids.max").read_text() == "55\n"
    one.stop()
    one.wait()


def test_what_can_not_run_again_has_ended(
    engine: ck.Engine, busybox: str, launcher: Launcher
) -> None:
    one = begin(engine, busybox, sh("rm /bin/sh; exit 9"), launcher, restart(RESTART_ALWAYS))
    with one.watch() as channel:
        event = end_of(channel)
        assert (event.kind, event.exit_code) == (packets.EXITED, 127)
    state = one.wait()
    assert (state.code, state.restarts) == (127, 1)


# ---- health


def test_health_follows_the_probe(
    engine: ck.Engine, busybox: str, launcher: Launcher, tmp_path: Path
) -> None:
    one = begin(
        engine,
        busybox,
        ["sleep", "1000"],
        launcher,
        probe=sh("echo probed; echo too >&2; test -e /there/ok"),
        timing=(20, 5000, 0, 0, 2),
        mounts=[Mount.bind(str(tmp_path), "/there")],
    )
    state = one.until(lambda state: state.health == record.HEALTH.index("unhealthy"))
    assert state.failing >= 2
    assert state.probe_code == 1
    assert sorted((one.directory / "health").read_text().splitlines()) == ["probed", "too"]
    (tmp_path / "ok").touch()
    state = one.until(lambda state: state.health == record.HEALTH.index("healthy"))
    assert (state.failing, state.probe_code) == (0, 0)
    told = [event["status"] for event in one.events() if event["kind"] == "health"]
    assert told == ["unhealthy", "healthy"]
    one.kill()
    one.wait()


def test_failures_at_first_do_not_count(
    engine: ck.Engine, busybox: str, launcher: Launcher
) -> None:
    one = begin(
        engine,
        busybox,
        ["sleep", "1000"],
        launcher,
        probe=sh("exit 6"),
        timing=(60_000, 5000, 60_000, 10, 1),
    )
    state = one.until(lambda state: state.probe_code == 6)
    assert (state.failing, record.HEALTH[state.health]) == (0, "starting")
    one.kill()
    one.wait()


def test_a_probe_has_only_so_long(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    one = begin(
        engine,
        busybox,
        ["sleep", "1000"],
        launcher,
        probe=sh("sleep 1000 & sleep 1000"),
        timing=(20, 50, 0, 0, 1),
    )
    state = one.until(lambda state: record.HEALTH[state.health] == "unhealthy")
    assert state.probe_code == -errno.ETIMEDOUT
    one.kill()
    one.wait()


def test_a_loud_probe_does_not_block(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    """What it says beyond 4 KiB is dropped."""
    one = begin(
        engine,
        busybox,
        ["sleep", "1000"],
        launcher,
        probe=sh("yes | head -c 1000000"),
        timing=(20, 5000, 0, 0, 1),
    )
    one.until(lambda state: record.HEALTH[state.health] == "healthy")
    assert (one.directory / "health").stat().st_size == 4096
    one.kill()
    one.wait()


def test_a_probe_that_can_not_start_has_failed(
    engine: ck.Engine, busybox: str, launcher: Launcher
) -> None:
    one = begin(
        engine,
        busybox,
        ["sleep", "1000"],
        launcher,
        probe=["/not/there"],
        timing=(20, 5000, 0, 0, 2),
    )
    state = one.until(lambda state: record.HEALTH[state.health] == "unhealthy")
    assert state.probe_code == -errno.ENOENT
    one.kill()
    one.wait()


def test_health_begins_anew_with_a_restart(
    engine: ck.Engine, busybox: str, launcher: Launcher
) -> None:
    one = begin(
        engine,
        busybox,
        ["sleep", "1000"],
        launcher,
        restart(RESTART_ALWAYS),
        probe=sh("exit 0"),
        timing=(20, 5000, 0, 0, 2),
    )
    one.until(lambda state: record.HEALTH[state.health] == "healthy")
    one.kill()
    one.until(lambda state: state.restarts == 1 and record.HEALTH[state.health] == "healthy")
    told = [event["status"] for event in one.events() if event["kind"] == "health"]
    assert told == ["healthy", "healthy"]
    one.done(packets.FREEZE)
    until(lambda: (state := one.state()) and state.status == record.PAUSED)
    one.stop()
    one.wait()


def test_an_end_is_no_failed_probe(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    """A probe that dies with its container says nothing about its health."""
    one = begin(
        engine,
        busybox,
        ["sleep", "1000"],
        launcher,
        probe=sh("touch /probed; sleep 1000"),
        timing=(1, 60_000, 0, 0, 1),
    )
    until((one.directory / "upper" / "0" / "probed").exists)
    one.kill()
    one.wait()
    assert "health" not in one.kinds()


def test_a_pause_is_no_time_of_a_probe(engine: ck.Engine, busybox: str, launcher: Launcher) -> None:
    """One under way when its container is paused has its whole time again afterwards."""
    one = begin(
        engine,
        busybox,
        ["sleep", "1000"],
        launcher,
        probe=sh("touch /probed; sleep 1000"),
        timing=(1, 300, 0, 0, 1),
    )
    until((one.directory / "upper" / "0" / "probed").exists)
    one.done(packets.FREEZE)
    time.sleep(0.4)  # longer than it has
    one.done(packets.THAW)
    state = one.until(lambda state: record.HEALTH[state.health] == "unhealthy")
    assert state.probe_code == -errno.ETIMEDOUT
    thawed = next(event["t"] for event in one.events() if event["kind"] == "unpause")
    told = next(event["t"] for event in one.events() if event["kind"] == "health")
    assert told - thawed > 250e6
    one.kill()
    one.wait()
