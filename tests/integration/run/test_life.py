"""`Engine.start` and its handle; and who outlives whom."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import InvalidStatus, Timeout
from tests.support.patience import ends, until


def test_a_started_container(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", "echo hello; echo there >&2; exec sleep 1000"]) as one:
        assert str(one.status) == "running"
        assert len(one.id) == 64
        assert not one.exit
        assert Path(f"/proc/{one.pid}/root").exists()
        with pytest.raises(Timeout):
            one.wait(timeout=0.05)
        until(lambda: one.log_text() == "hello\nthere\n")
        one.kill("TERM")  # process 1 of a namespace has no default action
        one.kill()
        assert one.wait() == ck.Exit.by_signal(signal.SIGKILL)
        assert not one.pid
        assert one.log_text() == "hello\nthere\n"
        with pytest.raises(InvalidStatus):
            one.kill()
    assert one.status == "removed"
    assert not (engine.root / "containers" / one.id).exists()


def test_its_own_end(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh", "-c", "echo bye; exit 7"]) as one:
        assert one.wait(timeout=120).code == 7
        assert one.log_text(tail=1) == "bye\n"


def test_a_running_one_is_not_removed_by_chance(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as one:
        with pytest.raises(InvalidStatus):
            one.remove()
        assert one.status == "running"
        one.remove(force=True)
        one.remove()


def test_closing_the_engine_ends_what_it_started(engine_root: Path, busybox: str) -> None:
    with ck.Engine.open(engine_root) as engine:
        one = engine.start(busybox, ["sleep", "1000"])
        pid = one.pid
    assert one.status == "removed"
    assert not os.path.exists(f"/proc/{pid}")
    assert not (engine_root / "containers" / one.id).exists()


def test_a_failed_start_leaves_no_directory(engine: ck.Engine, busybox: str) -> None:
    before = os.listdir(engine.root / "containers")
    with pytest.raises(ck.CommandNotFound):
        engine.start(busybox, ["no-such-command"])
    after = os.listdir(engine.root / "containers")
    assert [name for name in after if not name.startswith(".")] == [
        name for name in before if not name.startswith(".")
    ]


OWNER = """
import sys, containerkit as ck
engine = ck.Engine.open(sys.argv[1])
one = engine.start(sys.argv[2], ["sh", "-c", "trap '' TERM; sleep 1000 & sleep 1000"])
print(one.pid, flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_owner_dies(shared_root: Path, busybox: str, how: signal.Signals) -> None:
    """However the process ends, its containers end with it; the leak check looks for the rest."""
    with subprocess.Popen(
        [sys.executable, "-c", OWNER, str(shared_root), busybox],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        inside = os.pidfd_open(int(owner.stdout.readline()))
        owner.send_signal(how)
        owner.wait()
        assert ends(inside)
        os.close(inside)
    with ck.Engine.open(shared_root) as engine:
        assert engine.run(busybox, ["true"]).exit.ok


def test_the_launcher_dies(engine: ck.Engine, busybox: str) -> None:
    """Its containers end with it; the engine starts another, and clears away what is left."""
    one = engine.start(busybox, ["sleep", "1000"])
    launcher, _ = engine._runner.launcher()
    pidfd = os.pidfd_open(launcher.pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    assert one.wait(timeout=120).cause in ("lost", "owner-died")
    assert ends(pidfd)
    os.close(pidfd)
    one.remove()
    assert engine.run(busybox, ["true"]).exit.ok


def test_a_forked_child_owns_nothing(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as one:
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                code = 0 if engine.run(busybox, ["true"]).exit.ok else 2
                engine.close()
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert one.status == "running"


WAITER = """
import os, sys, containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine, engine.start(sys.argv[2], ["true"]) as one:
    one.wait()
    try:
        print(os.waitpid(-1, os.WNOHANG)[0])
    except ChildProcessError:
        print("no child")
"""


def test_the_callers_waitpid_sees_no_container(shared_root: Path, busybox: str) -> None:
    """Neither a container nor the launcher: a program that waits for all its children ends."""
    done = subprocess.run(
        [sys.executable, "-c", WAITER, str(shared_root), busybox],
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stdout == "no child\n"
