"""Processes killed at any moment: the next one to open the root finds nothing of them."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime import cgroups
from containerkit.runtime.recover import recover, write_record
from tests.support import leaks
from tests.support.patience import ends, stopped

VICTIM = """
import sys, containerkit as ck
engine = ck.Engine.open(sys.argv[1])
print("open", flush=True)
kept = []
while True:
    assert engine.run(sys.argv[2], ["sh", "-c", "sleep 1000 & true"]).exit.ok
    kept.append(engine.start(sys.argv[2], ["sh", "-c", "(sleep 1000 &); mkdir /d; sleep 1000"]))
    if len(kept) > 3:
        kept.pop(0).remove(force=True)
"""


def victim(root: Path, image: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", VICTIM, str(root), image],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def nothing_is_left(root: Path) -> None:
    assert os.listdir(root / "owners") == []
    assert os.listdir(root / "containers") == []


@pytest.mark.slow
@pytest.mark.parametrize("how", ["the engine's process", "its whole group", "the launcher too"])
def test_killed_at_random(engine_root: Path, busybox: str, how: str) -> None:
    """At 30 moments in all: from opening the root to ten starts later."""
    noise = random.Random(how)
    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
    for _ in range(10):
        before = leaks.take()
        process = victim(engine_root, busybox)
        assert process.stdout is not None
        if noise.random() < 0.8:
            process.stdout.readline()
        pause = threading.Event()
        pause.wait(noise.random() ** 2 * 0.3)
        process.send_signal(signal.SIGSTOP)
        stopped(process.pid)
        children = [os.pidfd_open(pid) for pid in children_of(process.pid)]
        if how == "the launcher too":
            for pidfd in children:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        if how == "its whole group":
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
        process.stdout.close()
        for pidfd in children:  # what they leave is there when they are gone, and not before
            assert ends(pidfd)
            os.close(pidfd)
        now = leaks.take()  # names may stay until the root is opened, no more
        names = before._replace(cgroups=now.cgroups, sockets=now.sockets)
        assert leaks.settle(names) == []
        with ck.Engine.open(engine_root) as engine:
            assert engine.run(busybox, ["true"]).exit.ok
        nothing_is_left(engine_root)
        assert leaks.settle(before) == []


def children_of(pid: int) -> list[int]:
    """Return a process's launcher, or what is about to become it."""
    return [one.pid for one in leaks.process_table().values() if one.parent == pid]


def test_recovery_lets_the_living_be(engine_root: Path, busybox: str) -> None:
    """Roots are opened all the time, also while others start, run and remove containers."""
    stop = threading.Event()
    recovered: list[str] = []

    def keep_opening() -> None:
        while not stop.is_set():
            found = recover(engine_root)
            recovered.extend(found.launchers)

    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
        opener = threading.Thread(target=keep_opening)
        opener.start()
        try:
            with engine.start(busybox, ["sleep", "1000"]) as one:
                for number in range(60):
                    assert engine.run(busybox, ["echo", "1"]).stdout == b"1\n"
                    with engine.start(busybox, ["true"]) as other:
                        assert other.wait(timeout=120).ok
                    if number % 20 == 0:
                        with ck.Engine.open(engine_root) as another:
                            assert another.run(busybox, ["true"]).exit.ok
                assert one.status == "running"
        finally:
            stop.set()
            opener.join()
        assert (engine_root / "owners" / engine._runner.launcher()[0].id).exists()
    nothing_is_left(engine_root)
    assert len(recovered) <= 4  # one that ends by itself may be found with its lock just given up


def test_debris_of_every_kind(engine_root: Path, busybox: str) -> None:
    """Half-made records and directories, as a crash or a power cut leaves them."""
    with ck.Engine.open(engine_root):
        pass
    containers, owners = engine_root / "containers", engine_root / "owners"
    (owners / ("ab" * 12)).write_text("")
    (owners / ("cd" * 12)).write_text("/sys/fs/cgroup/pids/not-ours\n/nowhere/containerkit-cd\n")
    (containers / f".{'cd' * 12}-7").mkdir()
    (containers / f".{'cd' * 12}-8").mkdir()
    (containers / f".{'cd' * 12}-8" / "lock").touch()
    (containers / ("1" * 64)).mkdir()
    (containers / ("2" * 64) / "upper" / "0" / "deep").mkdir(parents=True)
    (containers / ("2" * 64) / "lock").touch()
    with ck.Engine.open(engine_root) as engine:
        nothing_is_left(engine_root)
        assert engine.recover() == ((), ())
        assert engine.run(None, ["true"]).exit.ok


def test_each_group_of_a_launcher_that_was_killed(engine_root: Path) -> None:
    """All that its record names, also those beside the common ones."""
    with ck.Engine.open(engine_root):
        pass
    identity = "ef" * 12
    hierarchies = cgroups.find()
    planned = cgroups.planned_paths(hierarchies, identity)
    record = write_record(engine_root, identity, planned)
    made = cgroups.make_group(hierarchies, identity)
    for fd in made.fds:
        os.close(fd)
    assert set(made.paths) <= set(planned)
    record.release()
    recover(engine_root)
    assert [path for path in planned if path.exists()] == []
    nothing_is_left(engine_root)


def test_a_parked_child_that_was_killed(engine: ck.Engine, busybox: str) -> None:
    """By the kernel, when memory is short: the next start makes one for itself."""
    engine.run(busybox, ["sleep", "0.1"])
    launcher, _ = engine._runner.launcher()
    for _ in range(5):
        table = leaks.process_table()
        for pid in [one.pid for one in table.values() if one.parent == launcher.pid]:
            with contextlib.suppress(ProcessLookupError):  # it was ending anyway
                pidfd = os.pidfd_open(pid)
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                assert ends(pidfd)
                os.close(pidfd)
        assert engine.run(busybox, ["true"]).exit.ok
    assert engine._runner.launcher()[0] is launcher
