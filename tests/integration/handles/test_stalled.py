"""Containers whose launcher somebody has stopped: looked at, and ended, without it."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Literal

import pytest

import containerkit as ck
from containerkit.runtime import direct
from containerkit.runtime.cgroups import find
from containerkit.state import record
from tests.conftest import missing
from tests.integration.handles.support import FOREVER, ends, stands_still

pytestmark = pytest.mark.skipif(find().version is None, reason="needs control groups")

ASKED = "trap 'echo asked; exit 4' TERM; echo up; while :; do sleep 1000 & wait; done"


def launcher_of(container: ck.Container) -> int:
    """Return the process that runs it: its first process's parent."""
    status = Path(f"/proc/{container.pid}/status").read_text(encoding="ascii")
    return int(status.partition("\nPPid:")[2].split()[0])


def stopped(container: ck.Container) -> AbstractContextManager[None]:
    """Let its launcher stand still meanwhile."""
    return stands_still(launcher_of(container))


@pytest.mark.parametrize("lifetime", ["owner", "detached"])
def test_it_is_looked_at(
    engine: ck.Engine, busybox: str, lifetime: Literal["owner", "detached"]
) -> None:
    container = engine.start(busybox, FOREVER, lifetime=lifetime)
    try:
        container.exec(["true"])  # by now there is somebody else in its group
        pid, before = container.pid, container.stats()
        with stopped(container):
            assert (container.status, container.pid) == ("running", pid)
            assert [task.host_pid for task in container.top()] == [pid]
            stats = container.stats()
            assert stats.time > before.time
            assert stats.pids is not None
            assert container.files.exists("/bin/sh")
    finally:
        container.remove(force=True)


@pytest.mark.parametrize("restart", ["no", "always"])
def test_it_is_killed(engine: ck.Engine, busybox: str, restart: str) -> None:
    """And not started again when its launcher goes on."""
    container = engine.start(busybox, FOREVER, lifetime="detached", restart=restart)
    try:
        pid = container.pid
        assert pid is not None
        pidfd = os.pidfd_open(pid)
        with stopped(container):
            container.kill()
            assert ends(pidfd)
            assert container.pid is None
            container.kill()
            container.stop()
        assert container.wait(timeout=60) == ck.Exit.by_signal(9)
        assert container.restarts == 0
    finally:
        container.remove(force=True)


def test_it_is_asked_to_stop(engine: ck.Engine, busybox: str) -> None:
    ready = ck.Ready(log="up")
    with engine.start(busybox, ["sh", "-c", ASKED], ready=ready) as container:
        with stopped(container):
            container.stop(grace=60)
        assert container.wait(timeout=60) == ck.Exit(code=4)
        assert container.log_text() == "up\nasked\n"


def test_who_does_not_end_when_asked_is_killed(engine: ck.Engine, busybox: str) -> None:
    command = "trap '' TERM; trap : TERM; echo up; while :; do sleep 1000 & wait; done"
    ready = ck.Ready(log="up")
    with engine.start(busybox, ["sh", "-c", command], ready=ready) as container:
        with stopped(container):
            container.stop(grace=0.1)
        assert container.wait(timeout=60) == ck.Exit.by_signal(9)


@pytest.mark.parametrize(
    "paused", [False, pytest.param(True, marks=pytest.mark.needs("control groups"))]
)
@pytest.mark.parametrize("restart", ["no", "always"])
def test_it_is_removed(engine: ck.Engine, busybox: str, restart: str, paused: bool) -> None:
    """Its launcher, when it goes on, clears away what it had of it."""
    container = engine.start(busybox, FOREVER, name="stalled", lifetime="detached", restart=restart)
    pid = container.pid
    assert pid is not None
    pidfd, launcher = os.pidfd_open(pid), os.pidfd_open(launcher_of(container))
    state = record.read(container._directory)
    assert state is not None
    if paused:
        container.pause()
    with stopped(container):
        container.remove(force=True)
        assert ends(pidfd)
        assert container.status == "removed"
        assert not container._directory.exists()
        assert container not in engine.containers.list()
        engine.containers.create(busybox, name="stalled").remove()
    assert ends(launcher)
    assert not (engine.root / "owners" / state.launcher).exists()
    assert not container._directory.exists()


def test_the_others_of_its_launcher_go_on(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, FOREVER) as one, engine.start(busybox, FOREVER) as other:
        with stopped(one):
            one.remove(force=True)
            assert other.pid is not None
            assert other.pid != one.pid
        assert other.exec(["true"]).exit.ok
        assert one not in engine.containers.list()


def test_no_other_process_is_taken_for_it(engine: ck.Engine, busybox: str) -> None:
    """One whose numbers fit is not in its group, or no first process."""
    with engine.start(busybox, FOREVER) as one, engine.start(busybox, FOREVER) as other:
        mine, theirs = (record.read(each._directory) for each in (one, other))
        assert mine is not None
        assert theirs is not None
        # Without a group, by its launcher.
        for right in (mine, mine._replace(group=0), mine._replace(launcher="0" * 24)):
            pidfd = direct.open_first(engine.root, right, one._directory)
            assert pidfd >= 0
            os.close(pidfd)
        wrong = [mine._replace(pid=mine.pid + 100_000), mine._replace(pid=0)]
        if missing("control groups") is None:
            wrong += [mine._replace(group=theirs.group), mine._replace(pid=theirs.pid)]
        for state in wrong:
            assert direct.open_first(engine.root, state, one._directory) == -1
