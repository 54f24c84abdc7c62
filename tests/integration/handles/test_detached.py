"""Detached containers: who made one may die; others find it, read it, wait for it, stop it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime import marks
from tests.integration.handles.support import FOREVER, directories, ends, line, process, python
from tests.support.patience import until

MAKER = """
engine = ck.Engine.open(root)
one = engine.start(image, ["sh", "-c", sys.argv[3]], name="detached", lifetime="detached")
print(one.id, one.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def none_left(shared_root: Path) -> Iterator[None]:
    """A detached container is nobody's to end: these tests do, whatever became of them."""
    yield
    with ck.Engine.open(shared_root) as engine:
        for one in engine.containers.list():
            one.remove(force=True)
        assert directories(engine) == []


def test_it_survives_its_maker(engine: ck.Engine, shared_root: Path, busybox: str) -> None:
    script = "trap 'exit 4' TERM; echo words; while :; do sleep 0.05; done"
    with process(MAKER, shared_root, busybox, script) as maker:
        identity, pid = line(maker).split()
        maker.kill()
        maker.wait()
    one = engine.containers.get("detached")
    assert (one.id, one.status, one.pid) == (identity, "running", int(pid))
    engine.recover()
    assert one.status == "running"
    one.wait_ready(log="words")
    stopper = "one = ck.Engine.open(root).containers.get('detached'); one.stop(grace=120); print(one.exit)"
    assert python(stopper, shared_root, busybox) == "exited with code 4"
    assert one.wait(timeout=120) == ck.Exit(4)
    assert one.log_text() == "words\n"
    assert str(one.status) == "stopped"


def test_it_survives_the_end_of_the_engine_and_is_left_alone(
    shared_root: Path, busybox: str
) -> None:
    with ck.Engine.open(shared_root) as engine:
        with engine.start(busybox, FOREVER, lifetime="detached") as one:
            pid = one.pid
        with engine.containers.create(busybox, FOREVER, lifetime="detached") as two:
            pass
        assert (one.status, two.status) == ("running", "created")
    assert (one.status, two.status) == ("running", "created")
    with ck.Engine.open(shared_root) as again:
        assert {found.id for found in again.containers.list(lifetime="detached")} == {
            one.id,
            two.id,
        }
        assert again.containers.get(one.id).pid == pid


@pytest.mark.parametrize("row", [True, False])
def test_a_power_cut_may_take_its_row(engine: ck.Engine, busybox: str, row: bool) -> None:
    """Nobody waits for the disk when it starts, so its directory may be there without its row."""
    one = engine.start(busybox, FOREVER, lifetime="detached")
    directory = engine.root / "containers" / one.id
    mark = marks.read(directory)
    assert mark == marks.detached_mark()
    marks.write(directory, "detached:an-earlier-boot")
    if not row:
        engine._keeper.records.forget([one.id])
    assert engine.recover().containers == ()  # it runs, so it can not be of another boot
    assert directory.is_dir()
    pid = os.pidfd_open(one.pid or 0)
    signal.pidfd_send_signal(pid, signal.SIGKILL)
    assert ends(pid)
    until(lambda: engine.recover().containers or marks.read(directory) == marks.DETACHED)
    assert directory.is_dir() == row
    assert [found.id for found in engine.containers.list()] == [one.id] * row


def test_who_waits_sees_its_end(engine: ck.Engine, shared_root: Path, busybox: str) -> None:
    waiter = """
one = ck.Engine.open(root).containers.get("detached")
print("up", flush=True)
print(one.wait(timeout=120).code, one.status, flush=True)
"""
    with process(
        MAKER, shared_root, busybox, "read x; exit 9"
    ) as maker:  # no input: it ends at once
        line(maker)
        with process(waiter, shared_root, busybox) as other:
            assert line(other) == "up"
            assert line(other) == "9 stopped"
    assert engine.containers.get("detached").exit == ck.Exit(9)


def test_it_is_started_again_by_another(engine: ck.Engine, shared_root: Path, busybox: str) -> None:
    script = "echo again >> /kept; cat /kept; exit 0"
    with process(MAKER, shared_root, busybox, script) as maker:
        line(maker)
    one = engine.containers.get("detached")
    assert one.wait(timeout=120).ok
    starter = "one = ck.Engine.open(root).containers.get('detached'); one.start(); one.wait()"
    python(starter, shared_root, busybox)
    assert one.log_text() == "again\nagain\nagain\n"


def test_its_launcher_dies(engine: ck.Engine, busybox: str) -> None:
    """It is lost, and says so; it can be started again."""
    one = engine.start(busybox, FOREVER, lifetime="detached")
    state = one._look().state
    assert state is not None
    [launcher] = launchers_of(state.launcher)
    pidfd = os.pidfd_open(launcher)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert one.wait(timeout=120) == ck.Exit(code=None, cause="lost")
    assert ends(pidfd)
    assert one.status == "stopped"
    engine.recover()
    assert one.exit == ck.Exit(code=None, cause="lost")
    assert one.finished is not None
    one.start()
    assert str(one.status) == "running"


def launchers_of(launcher: str) -> list[int]:
    """Return the processes that hold a launcher's record open."""
    found = set()
    for name in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):  # it has ended since
            for fd in os.listdir(f"/proc/{name}/fd"):
                with contextlib.suppress(OSError):  # that one was closed since
                    if os.readlink(f"/proc/{name}/fd/{fd}").endswith(f"/owners/{launcher}"):
                        found.add(int(name))
    return sorted(found)


# ---- restarts


def counted(one: ck.Container, count: int, *, seconds: float = 120) -> None:
    """Wait until its log has so many lines."""
    deadline = time.monotonic() + seconds
    while one.log_text().count("\n") < count:
        assert time.monotonic() < deadline, one.log_text()
        time.sleep(0.02)  # a restart has no descriptor to wait on


def test_restarts_with_python_gone(engine: ck.Engine, shared_root: Path, busybox: str) -> None:
    maker = """
engine = ck.Engine.open(root)
one = engine.start(image, ["sh", "-c", "echo up; exit 3"], name="again", lifetime="detached",
                   restart="always")
os.kill(os.getpid(), signal.SIGKILL)
"""
    python(maker, shared_root, busybox, check=False)
    one = engine.containers.get("again")
    counted(one, 4)
    until(lambda: one.restarts >= 3)  # it is in its record a moment later
    assert one.exit is None
    assert one.status in ("running", "restarting")
    one.stop()
    assert str(one.status) == "stopped"
    assert one.exit is not None


def test_on_failure_gives_up(engine: ck.Engine, busybox: str) -> None:
    one = engine.start(
        busybox,
        ["sh", "-c", "echo up; exit 3"],
        lifetime="detached",
        restart=ck.Restart("on-failure", max_retries=2),
    )
    assert one.wait(timeout=120) == ck.Exit(3)
    assert (one.restarts, one.log_text()) == (2, "up\n" * 3)


def test_on_failure_leaves_a_success_alone(engine: ck.Engine, busybox: str) -> None:
    one = engine.start(busybox, ["sh", "-c", "echo up"], lifetime="detached", restart="on-failure")
    assert one.wait(timeout=120).ok
    assert one.log_text() == "up\n"


def test_killing_it_is_no_reason_to_restart(engine: ck.Engine, busybox: str) -> None:
    one = engine.start(busybox, FOREVER, lifetime="detached", restart="unless-stopped")
    one.kill()
    assert one.wait(timeout=120) == ck.Exit.by_signal(signal.SIGKILL)
    one.start()
    assert str(one.status) == "running"


def test_restarts_need_a_detached_one(engine: ck.Engine, busybox: str) -> None:
    with pytest.raises(ck.ConfigError, match="detached"):
        engine.start(busybox, FOREVER, restart="always")
    with pytest.raises(ck.ConfigError, match="run"):
        engine.run(busybox, ["true"], lifetime="detached")


def test_a_failed_start_leaves_nothing(engine: ck.Engine, busybox: str) -> None:
    with pytest.raises(ck.CommandNotFound):
        engine.start(busybox, ["no-such-command"], lifetime="detached", name="failed")
    assert engine.containers.list() == ()
    assert directories(engine) == []
