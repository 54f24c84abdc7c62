"""Launchers and their owners: who ends with whom, and what recovery makes of those that died."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime import cgroups, home, marks, packets
from containerkit.runtime.alive import is_alive
from containerkit.runtime.launcher import Launcher
from containerkit.runtime.recover import recover
from containerkit.state import record
from tests.integration.life.support import Kept, begin, receive
from tests.support.patience import until

SCRIPT = """
import sys
import containerkit as ck
from containerkit.runtime.launcher import Launcher
from tests.integration.life.support import begin

root, image, leave = sys.argv[1:]
engine = ck.Engine.open(root)
launcher = Launcher(engine.root, netns_pool=0, spares=0, detached=True)
one = begin(engine, image, ["sleep", "1000"], launcher)
if leave == "leave":
    launcher.leave()
print(one.id, launcher.id, launcher.pid, flush=True)
sys.stdin.read()
"""


@contextmanager
def owner(root: Path, image: str, how: str) -> Iterator[tuple[subprocess.Popen[str], Kept, int]]:
    """A process that has started a container; it and its launcher end at last with the test."""
    with ck.Engine.open(root) as engine:
        engine.images.pull(image)
    with subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(root), image, how],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        assert process.stdout is not None
        try:
            identity, launcher, pid = process.stdout.readline().split()
            yield process, Kept(root, identity, launcher), int(pid)
        finally:
            process.kill()


def gone(launcher_id: str) -> bool:
    """Whether no group of a launcher is left."""
    places = cgroups.find().tops.values()
    return not any((place / (cgroups.PREFIX + launcher_id)).exists() for place in places)


@pytest.mark.needs("control groups")
def test_left_alone_it_outlives_its_maker(engine_root: Path, busybox: str) -> None:
    """And ends by itself, with all that it made, when its container has."""
    with owner(engine_root, busybox, "leave") as (process, one, pid):
        marks.write(one.directory, marks.DETACHED)
        process.kill()
        process.wait()
        assert recover(engine_root) == ((), ())
        with one.watch() as channel:
            event, fds = receive(channel)
            assert event is not None
            os.close(fds[0])
            assert is_alive(engine_root, one.launcher_id)
            assert not gone(one.launcher_id)
            pidfd = os.pidfd_open(pid)
            one.kill()
            event, fds = receive(channel)
            assert event is not None
            assert (event.kind, event.signal) == (packets.EXITED, 9)
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        assert poll.poll(120_000)
        os.close(pidfd)
        assert not is_alive(engine_root, one.launcher_id)
        assert os.listdir(engine_root / "owners") == []
        assert not home.run_directory(engine_root).exists()
        assert gone(one.launcher_id)
        assert recover(engine_root) == ((), ())
        state = one.wait()
        assert packets.CAUSES[state.cause] == "signal"


def test_not_left_it_ends_with_its_maker(engine_root: Path, busybox: str) -> None:
    """Who opens the root right then waits for that end, and clears it away."""
    with owner(engine_root, busybox, "stay") as (process, one, _pid):
        marks.write(one.directory, marks.owner_mark(one.launcher_id))
        process.kill()
        process.wait()
        recover(engine_root)
        assert os.listdir(engine_root / "owners") == []
        assert os.listdir(engine_root / "containers") == []
        assert gone(one.launcher_id)


def test_its_record_says_that_its_owner_died(engine_root: Path, busybox: str) -> None:
    with owner(engine_root, busybox, "stay") as (process, one, _pid):
        process.kill()
        process.wait()
        assert packets.CAUSES[one.wait().cause] == "owner-died"


def test_lost(engine_root: Path, busybox: str) -> None:
    """A detached container whose launcher was killed is kept, and says so."""
    with owner(engine_root, busybox, "leave") as (process, one, pid):
        marks.write(one.directory, marks.DETACHED)
        process.kill()
        process.wait()
        os.kill(pid, signal.SIGKILL)
        until(lambda: not is_alive(engine_root, one.launcher_id))
        found = recover(engine_root)
        assert found == ((one.launcher_id,), ())
        state = one.state()
        assert state is not None
        assert (state.status, packets.CAUSES[state.cause]) == (record.STOPPED, "lost")
        assert one.directory.is_dir()
        assert gone(one.launcher_id)
        assert not home.run_directory(engine_root).exists()
        assert one.events()[-1]["cause"] == "lost"


def test_marks_decide(engine_root: Path, busybox: str) -> None:
    """Of directories that nobody supervises, what hangs on a living launcher stays."""
    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
        launcher = Launcher(engine.root, netns_pool=0, spares=0)
        containers = engine.root / "containers"
        for number, mark in enumerate(
            [None, marks.DETACHED, marks.owner_mark(launcher.id), marks.owner_mark("ab" * 12)]
        ):
            directory = containers / (str(number) * 64)
            (directory / "upper").mkdir(parents=True)
            (directory / "lock").touch()
            if mark is not None:
                marks.write(directory, mark)
        assert sorted(recover(engine.root).containers) == ["0" * 64, "3" * 64]
        assert sorted(os.listdir(containers)) == ["1" * 64, "2" * 64]
        launcher.close()
        assert recover(engine.root).containers == ("2" * 64,)


def test_an_owner_that_is_no_process(engine_root: Path, busybox: str) -> None:
    """A launcher may hang on a FIFO instead: it ends when its last writer has gone."""
    fifo = engine_root.parent / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    writers = [os.open(fifo, os.O_WRONLY | os.O_CLOEXEC) for _ in range(2)]
    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
        launcher = Launcher(engine.root, netns_pool=0, spares=0, detached=True, owner=reader)
        os.close(reader)
        one = begin(engine, busybox, ["sleep", "1000"], launcher)
        os.close(writers.pop())
        state = one.state()
        assert state is not None
        assert state.is_live
        os.close(writers.pop())
        assert packets.CAUSES[one.wait().cause] == "owner-died"
        until(lambda: not launcher.alive)
        launcher.close()


def test_many_end_together(engine_root: Path, busybox: str) -> None:
    """Those that ignore every signal too."""
    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
        launcher = Launcher(engine.root, netns_pool=0, spares=0)
        ones = [begin(engine, busybox, ["sleep", "1000"], launcher) for _ in range(20)]
        launcher.close()
        assert {packets.CAUSES[one.wait().cause] for one in ones} == {"owner-died"}
    assert os.listdir(engine_root / "owners") == []


@pytest.mark.parametrize("number", range(3))
def test_left_without_a_container_it_ends(engine: ck.Engine, number: int) -> None:
    launcher = Launcher(engine.root, netns_pool=0, spares=0, detached=True)
    pidfd = os.pidfd_open(launcher.pid)
    launcher.leave()
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    assert poll.poll(120_000)
    os.close(pidfd)
    recover(engine.root)
    assert gone(launcher.id)
