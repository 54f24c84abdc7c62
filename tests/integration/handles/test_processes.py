"""Containers between processes: found, used and owned by others; what a death takes along."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from tests.integration.handles.support import (
    FOREVER,
    directories,
    ends,
    line,
    process,
    python,
    stands_still,
)
from tests.support.patience import until

OTHER = """
with ck.Engine.open(root) as engine:
    one = engine.containers.get(sys.argv[3])
    print(one.status, one.name, one.log_text().strip(), bool(one.pid), one.exit)
    one.rename("renamed")
    one.stop()
    print(one.status, one.exit.signal)
"""


def test_another_process_uses_it(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", "echo words; exec sleep 1000"], name="shown") as one:
        one.wait_ready(log="words")
        said = python(OTHER, engine.root, busybox, one.id[:10])
        assert said.splitlines() == ["running shown words True None", "stopped 9"]
        assert one.name == "renamed"
        assert one.exit == ck.Exit.by_signal(signal.SIGKILL)


UNPICKLED = """
one = pickle.loads(bytes.fromhex(sys.argv[3]))
with one:
    print(one.status, one.name)
print(one.status, one == pickle.loads(bytes.fromhex(sys.argv[3])))
"""


def test_a_pickle_in_another_process(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, FOREVER, name="pickled") as one:
        said = python(UNPICKLED, engine.root, busybox, pickle.dumps(one).hex())
        assert said.splitlines() == ["running pickled", "running True"]
        one.remove(force=True)
        assert python(UNPICKLED, engine.root, busybox, pickle.dumps(one).hex(), check=False) == ""


UNPICKLED_IMAGE = """
one = pickle.loads(bytes.fromhex(sys.argv[3]))
print(one == pickle.loads(bytes.fromhex(sys.argv[3])), one.config.architecture == one.platform.architecture)
print(ck.Engine.open(root).run(one, ["true"]).returncode)
"""


def test_a_pickled_image_in_another_process(engine: ck.Engine, busybox: str) -> None:
    image = engine.images.get(busybox)
    assert pickle.loads(pickle.dumps(image)) == image
    said = python(UNPICKLED_IMAGE, engine.root, busybox, pickle.dumps(image).hex())
    assert said.split() == ["True", "True", "0"]


def test_waiting_for_one_of_another_process(engine: ck.Engine, busybox: str) -> None:
    waiter = "one = ck.Engine.open(root).containers.get(sys.argv[3]); print('up', flush=True)\n"
    waiter += "print(one.wait(timeout=120).code)"
    script = "trap 'exit 5' TERM; echo up; while :; do sleep 0.02; done"
    with engine.start(busybox, ["sh", "-c", script]) as one:
        one.wait_ready(log="up")
        with process(waiter, engine.root, busybox, one.id) as other:
            assert line(other) == "up"
            one.kill("TERM")
            assert line(other) == "5"


OWNER = """
engine = ck.Engine.open(root)
one = engine.start(image, ["sh", "-c", "sleep 1000 & exec sleep 1000"], name="owned")
other = engine.containers.create(image, name="only-created")
print(one.id, one.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_owner_dies(
    engine: ck.Engine, shared_root: Path, busybox: str, how: signal.Signals
) -> None:
    """Its containers end at once, and are removed by whoever opens the root next."""
    with process(OWNER, shared_root, busybox) as owner:
        identity, pid = line(owner).split()
        pidfd = os.pidfd_open(int(pid))
        one = engine.containers.get("owned")
        assert one.id == identity
        owner.send_signal(how)
        assert ends(pidfd)
        owner.wait()
        assert one.wait(timeout=120).cause in ("owner-died", "lost")
    with ck.Engine.open(shared_root) as again:
        assert again.containers.list() == ()
        assert identity not in directories(again)
        with pytest.raises(ck.ContainerNotFound):
            again.containers.get("only-created")
        with again.containers.create(busybox, name="owned"):  # its name is free
            pass
    assert one.status == "removed"


def test_the_owner_dies_as_a_wait_begins(
    engine: ck.Engine, shared_root: Path, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between a look at it, which still runs, and the question to its launcher."""
    connect: Any = ck.Container._connect
    with process(OWNER, shared_root, busybox) as owner:
        line(owner)
        one = engine.containers.get("owned")

        def late(self: ck.Container, kind: int, **more: Any) -> Any:
            owner.kill()
            until(lambda: one.status == "removed")
            return connect(self, kind, **more)

        monkeypatch.setattr(ck.Container, "_connect", late)
        assert one.wait(timeout=120).cause in ("owner-died", "lost")


def test_who_starts_it_last_owns_it(engine: ck.Engine, shared_root: Path, busybox: str) -> None:
    starter = """
engine = ck.Engine.open(root)
engine.containers.get(sys.argv[3]).start()
print("started", flush=True)
sys.stdin.read()
"""
    one = engine.containers.create(busybox, FOREVER)
    with process(starter, shared_root, busybox, one.id) as other:
        assert line(other) == "started"
        assert one.status == "running"
        other.kill()
        assert one.wait(timeout=120).cause in ("owner-died", "lost")
        other.wait()
    engine.recover()
    assert str(one.status) == "removed"


def test_a_fork_owns_nothing(engine: ck.Engine, busybox: str) -> None:
    """It may use what the parent has; leaving blocks or ending, it takes nothing along."""
    with engine.start(busybox, FOREVER) as one:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                running = engine.containers.get(one.id).status == "running"
                engine.close()
                code = 0 if running else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert one.status == "running"


FORKED = """
import multiprocessing, time
def child(ready):
    ready.set()
    time.sleep(1000)
engine = ck.Engine.open(root)
one = engine.start(image, ["sleep", "1000"])
context = multiprocessing.get_context("fork")
ready = context.Event()
living = context.Process(target=child, args=(ready,))
living.start()
ready.wait()
print(one.pid, living.pid, flush=True)
sys.stdin.read()
"""


def test_a_fork_that_lives_on_keeps_nothing_alive(shared_root: Path, busybox: str) -> None:
    with process(FORKED, shared_root, busybox) as owner:
        pid, child = map(int, line(owner).split())
        pidfd, alive = os.pidfd_open(pid), os.pidfd_open(child)
        owner.kill()
        assert ends(pidfd)
        signal.pidfd_send_signal(alive, signal.SIGKILL)
        assert ends(alive)
        owner.wait()
    with ck.Engine.open(shared_root) as again:
        assert again.containers.list() == ()


def test_closing_the_engine_removes_its_own(
    engine: ck.Engine, shared_root: Path, busybox: str
) -> None:
    with engine.start(busybox, FOREVER) as kept:
        with ck.Engine.open(shared_root) as other:
            one = other.start(busybox, FOREVER, name="closed")
            two = other.containers.create(busybox)
        assert (one.status, two.status, kept.status) == ("removed", "removed", "running")
        assert engine.containers.list() == (kept,)
        with engine.containers.create(busybox, name="closed"):
            pass
        with pytest.raises(ck.EngineClosed):
            one.start()


def test_the_end_of_the_interpreter(shared_root: Path, busybox: str) -> None:
    python(
        "kept = [ck.Engine.open(root).start(image, ['sleep', '1000']) for _ in range(3)]",
        shared_root,
        busybox,
    )
    with ck.Engine.open(shared_root) as again:
        assert again.containers.list() == ()
        assert directories(again) == []


def test_nothing_is_said_with_every_warning_on(shared_root: Path, busybox: str) -> None:
    import subprocess

    text = """
import sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine, engine.start(sys.argv[2], ["sleep", "9"]) as one:
    one.stop(); one.start(); one.rename("x"); one.inspect(); list(engine.containers.list())
"""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", text, str(shared_root), busybox],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_a_dead_owner_had_is_gone_before_the_next_recovery(
    engine: ck.Engine, shared_root: Path, busybox: str
) -> None:
    """Who has the root open already sees none of it any more, and may use its names."""
    with process(OWNER, shared_root, busybox) as owner:
        line(owner)
        one = engine.containers.get("owned")
        owner.kill()
        assert one.wait(timeout=120).cause in ("owner-died", "lost")
        owner.wait()
    assert one.status == "removed"
    deadline = time.monotonic() + 120
    while engine.containers.list():  # what was created only hangs on its launcher, which clears up
        assert time.monotonic() < deadline
    with pytest.raises(ck.ContainerNotFound):
        engine.containers.get("owned")
    assert one.status == "removed"
    assert one.exit == one.wait()
    assert one.finished is not None or one.wait().cause == "lost"
    with engine.containers.create(busybox, name="owned") as other:
        assert engine.containers.list() == (other,)
    removed = {event.name for event in engine.events(kind="remove", container=[one.id])}
    assert removed == {"owned"}


CREATOR = """
engine = ck.Engine.open(root)
engine.containers.create(image, name="waits")
engine.start(image, ["true"], name="ended").wait()
print(engine._runner.launcher()[0].pid, flush=True)
sys.stdin.read()
"""


def test_what_only_waits_goes_at_once_with_its_owner(engine: ck.Engine, busybox: str) -> None:
    """Whenever its launcher comes to notice."""
    with process(CREATOR, engine.root, busybox) as owner:
        launcher = int(line(owner))
        pidfd = os.pidfd_open(launcher)
        assert [one.name for one in engine.containers.list()] == ["ended", "waits"]
        ended, waits = engine.containers.list()
        with stands_still(launcher):
            owner.kill()
            owner.wait()
            assert engine.containers.list() == ()
            assert (ended.status, waits.status) == ("removed", "removed")
            assert ended.exit == ck.Exit()
            with pytest.raises(ck.ContainerNotFound):
                engine.containers.get("waits")
    assert ends(pidfd)
    with (
        engine.containers.create(busybox, name="waits"),
        engine.containers.create(busybox, name="ended"),
    ):
        assert len(directories(engine)) == 2
