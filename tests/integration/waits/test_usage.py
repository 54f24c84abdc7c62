"""What a running container uses, and its processes."""

from __future__ import annotations

import gc
import os
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

import containerkit as ck
from containerkit.errors import InvalidStatus
from tests.integration.waits import deadline
from tests.support.patience import stopped, until

BURN = "echo up; while :; do :; done"


def test_processor_time_grows_under_load(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", BURN], ready=ck.Ready(log="up")) as one:
        first = one.stats()
        end = time.monotonic() + deadline()
        while (now := one.stats()).cpu.total < first.cpu.total + 0.2:
            assert time.monotonic() < end
        assert now.cpu.user + now.cpu.system > 0
        seconds = (now.time - first.time).total_seconds()
        assert now.since(first).cpus == pytest.approx(
            (now.cpu.total - first.cpu.total) / seconds, rel=0.01
        )


@pytest.mark.needs("control groups")
def test_memory_and_processes(engine: ck.Engine, busybox: str) -> None:
    # A variable of 16 MiB; dd's block alone would be given back.
    command = "x=$(dd if=/dev/zero bs=1M count=16 | tr '\\0' x); sleep 1000 & echo up; wait"
    limits = ck.Limits(memory="256m", pids=64)
    with engine.start(
        busybox, ["sh", "-c", command], limits=limits, ready=ck.Ready(log="up")
    ) as one:
        found = one.stats()
        assert found.memory is not None
        assert found.memory.limit == 256 << 20
        assert 16 << 20 <= found.memory.working <= found.memory.current <= 256 << 20
        assert found.memory.peak is None or found.memory.peak >= found.memory.current
        assert found.pids is not None
        assert found.pids.limit == 64
        assert 2 <= found.pids.current <= 8
        assert found.network is None
        assert found.oom_kills == 0


def test_watching_it_until_it_ends(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", BURN], ready=ck.Ready(log="up")) as one:
        with one.watch_stats(0.02) as watch:
            readings = [next(watch) for _ in range(4)]
            assert [reading.cpus is None for reading in readings] == [True, False, False, False]
            totals = [reading.cpu.total for reading in readings]
            assert totals == sorted(totals)
            one.kill()
            assert len(list(watch)) < 1000
        with pytest.raises(InvalidStatus, match="stopped"):
            one.stats()
        with pytest.raises(InvalidStatus, match="stopped"):
            one.watch_stats()
        with pytest.raises(InvalidStatus, match="stopped"):
            one.top()


def test_a_watch_that_nobody_closes_keeps_nothing(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as one:
        gc.collect()  # what other tests have left to it
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            next(one.watch_stats())
        assert os.listdir("/proc/self/fd") == before


def once_it_runs(one: ck.Container, *commands: tuple[str, ...]) -> tuple[ck.Task, ...]:
    """Return its processes as soon as all that are to become a command have."""
    end = time.monotonic() + deadline()
    while True:
        tasks = one.top()
        if set(commands) <= {task.command for task in tasks}:
            return tasks
        assert time.monotonic() < end


def test_users_and_commands_of_its_processes(engine: ck.Engine, busybox: str) -> None:
    began = datetime.now(UTC)
    command = "sleep 1001 & sleep 1002 & sh -c 'sleep 1003; :' & echo up; wait"
    with engine.start(busybox, ["sh", "-c", command], ready=ck.Ready(log="up")) as one:
        tasks = once_it_runs(one, ("sleep", "1003"))
        first = tasks[0]
        assert (first.pid, first.parent, first.user, first.uid) == (1, 0, "root", 0)
        assert first.host_pid == one.pid
        assert first.command == ("sh", "-c", command)
        assert {task.parent for task in tasks[1:]} <= {task.pid for task in tasks}
        assert len(tasks) == 5
        assert all(task.rss >= 0 and task.cpu >= 0 and task.threads == 1 for task in tasks)
        assert one.started is not None
        # Its process may have been made ahead of its start; the kernel tells whole seconds.
        second = timedelta(seconds=1)
        assert began - 2 * second <= first.started <= one.started + 2 * second


def pids(one: ck.Container) -> int:
    found = one.stats().pids
    assert found is not None
    return found.current


@pytest.mark.needs("ids")
def test_execs_are_among_them_and_what_starts_them_is_not(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as one:
        one.exec(["sh", "-c", "echo 'ann:x:1234:1234::/:/bin/sh' >> /etc/passwd"], check=True)
        with one.popen(["sleep", "1005"], user="ann") as process:
            first, second = once_it_runs(one, ("sleep", "1000"), ("sleep", "1005"))
            assert first.command == ("sleep", "1000")
            assert (second.user, second.uid, second.parent) == ("ann", 1234, 0)
            assert second.host_pid == process.pid
            assert pids(one) == 2
        assert [task.pid for task in one.top()] == [1]
        assert pids(one) == 1


@pytest.mark.needs("control groups")
def test_a_paused_one_is_looked_at_as_well(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", BURN], ready=ck.Ready(log="up")) as one:
        one.pause()
        [task] = one.top()
        assert task.rss > 0
        # Frozen, it may have to get a processor once more, to give it up.
        until(lambda: one.stats().cpu.total == after_a_moment(one).cpu.total)
        one.unpause()


def after_a_moment(one: ck.Container) -> ck.Stats:
    time.sleep(0.05)  # nothing is waited for: nothing is to happen
    return one.stats()


@pytest.mark.needs("ids")
def test_a_user_by_name_and_by_number(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"], user="1234:1") as one:
        [task] = one.top()
        assert (task.user, task.uid) == ("1234", 1234)


def test_a_passwd_that_is_no_file_gives_numbers(engine: ck.Engine, busybox: str) -> None:
    # A link to the host's, and a pipe that nobody writes: neither is followed nor waited for.
    command = "rm /etc/passwd; {}; echo up; sleep 1000"
    for trick in ("ln -s /proc/1/root/etc/passwd /etc/passwd", "mkfifo /etc/passwd"):
        with engine.start(
            busybox, ["sh", "-c", command.format(trick)], ready=ck.Ready(log="up")
        ) as one:
            assert {task.user for task in one.top()} == {"0"}


def test_processes_of_a_pid_namespace_made_inside(engine: ck.Engine, busybox: str) -> None:
    command = "unshare -p -f sh -c 'echo up; sleep 1004; :'; :"
    security = ck.Security(capabilities=["SYS_ADMIN"])
    with engine.start(
        busybox, ["sh", "-c", command], security=security, ready=ck.Ready(log="up")
    ) as one:
        tasks = once_it_runs(one, ("sleep", "1004"))
        assert len({task.pid for task in tasks}) == len(tasks)


def test_what_went_to_the_disk(engine: ck.Engine, busybox: str) -> None:
    """It is there without a limit on it, and counts what processes did that have ended.

    What an owner's container writes is on no disk when it says so: its overlay is volatile.
    """
    command = "dd if=/dev/zero of=/file bs=1M count=4 conv=fsync && echo up; exec sleep 1000"
    ready = ck.Ready(log="up")
    one = engine.start(busybox, ["sh", "-c", command], ready=ready, lifetime="detached")
    try:
        found = one.stats().io
        assert found is not None
        assert found.write_bytes >= 4 << 20
    finally:
        one.remove(force=True)


def test_a_launcher_that_does_not_answer(engine: ck.Engine, busybox: str) -> None:
    """Who waits with a time to wait for is told in time."""
    with engine.start(busybox, ["sleep", "1000"]) as one:
        launcher = int(status_field(one.pid, "PPid"))
        os.kill(launcher, signal.SIGSTOP)
        try:
            stopped(launcher)
            with pytest.raises(ck.Timeout, match="does not answer"):
                one.wait_ready(log="never", timeout=0.1)
            with pytest.raises(ck.Timeout, match="still runs"):
                one.wait(timeout=0.1)
            assert one.status == "running"
        finally:
            os.kill(launcher, signal.SIGCONT)
        assert one.exec(["true"]).exit.ok


def status_field(pid: int | None, name: str) -> str:
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return next(line.split()[1] for line in file if line.startswith(f"{name}:"))
