"""One container for several processes: the first starts it, the last to leave or die ends it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from pathlib import Path

import pytest

import containerkit as ck
from tests.integration.handles.support import FOREVER, directories, ends, line, process

USER = """
engine = ck.Engine.open(root)
one = engine.containers.shared("service", image, ["sleep", "1000"], env={"A": "1"})
print(one.id, one.pid, flush=True)
sys.stdin.readline()
one.__exit__(None, None, None)
print("left", flush=True)
sys.stdin.readline()
"""


def leave(user: subprocess.Popen[str]) -> None:
    assert user.stdin is not None
    user.stdin.write("\n")
    user.stdin.flush()
    assert line(user) == "left"


def test_four_processes_and_one_is_killed(
    engine: ck.Engine, shared_root: Path, busybox: str
) -> None:
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(process(USER, shared_root, busybox)) for _ in range(4)]
        said = {line(user) for user in users}
        assert len(said) == 1
        identity, pid = said.pop().split()
        pidfd = os.pidfd_open(int(pid))
        one = engine.containers.get(identity)
        users[0].kill()  # one of them, perhaps the one that has started it
        users[0].wait()
        engine.recover()
        leave(users[1])
        assert one.status == "running"
        leave(users[2])
        assert one.status == "running"
        leave(users[3])
        assert ends(pidfd)
        assert str(one.status) == "removed"
        assert directories(engine) == []


@pytest.mark.parametrize("first", [0, 1])
def test_all_of_them_die(engine: ck.Engine, shared_root: Path, busybox: str, first: int) -> None:
    """Its processes end at once; the next to ask for the key gets another."""
    with contextlib.ExitStack() as stack:
        users = [stack.enter_context(process(USER, shared_root, busybox)) for _ in range(2)]
        identity, pid = {line(user) for user in users}.pop().split()
        pidfd = os.pidfd_open(int(pid))
        users[first].kill()
        users[first].wait()
        one = engine.containers.get(identity)
        assert one.status == "running"
        users[1 - first].kill()
        assert ends(pidfd)
        with engine.containers.shared("service", busybox, FOREVER) as other:
            assert other != one
            assert other.status == "running"
        assert str(one.status) == "removed"


def test_in_one_process(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.shared("key", busybox, FOREVER, labels={"a": "b"}) as one:
        with engine.containers.shared("key", busybox, tuple(FOREVER), labels={"a": "b"}) as two:
            assert one == two
        assert one.status == "running"
        with engine.containers.shared("other", busybox, FOREVER) as three:
            assert three != one
    assert str(one.status) == "removed"
    assert directories(engine) == []


def test_other_options_under_the_same_key(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.shared("key", busybox, FOREVER, env={"A": "1"}) as one:
        for command, options in (
            (FOREVER, {}),
            (FOREVER, {"env": {"A": "2"}}),
            (["sleep", "7"], {"env": {"A": "1"}}),
        ):
            different: ck.ContainerOptions = options  # type: ignore[assignment]
            with pytest.raises(ck.Conflict, match="other options"):
                engine.containers.shared("key", busybox, command, **different)
        with pytest.raises(ck.Conflict):
            engine.containers.shared("key", None, FOREVER, env={"A": "1"})
        assert one.status == "running"


@pytest.mark.parametrize("options", [{"lifetime": "detached"}, {"restart": "always"}])
def test_options_without_meaning(
    engine: ck.Engine, busybox: str, options: ck.ContainerOptions
) -> None:
    with pytest.raises(ck.ConfigError):
        engine.containers.shared("key", busybox, FOREVER, **options)


def test_many_at_once(engine: ck.Engine, busybox: str) -> None:
    """From threads: they wait for the one that starts it, and never see half of it."""
    seen: set[str] = set()
    failures: list[BaseException] = []

    def use() -> None:
        try:
            for _ in range(3):
                with engine.containers.shared("busy", busybox, FOREVER) as one:
                    assert one.status == "running"
                    seen.add(one.id)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=use) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert seen
    assert directories(engine) == []


def test_one_that_has_ended_is_started_again(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.shared("key", busybox, FOREVER) as one:
        one.kill()
        one.wait()
        with engine.containers.shared("key", busybox, FOREVER) as two:
            assert two == one
            assert one.status == "running"


def test_closing_the_engine_is_leaving(engine: ck.Engine, shared_root: Path, busybox: str) -> None:
    with ck.Engine.open(shared_root) as other:
        one = other.containers.shared("key", busybox, FOREVER)
        with engine.containers.shared("key", busybox, FOREVER):
            other.close()
            assert one.status == "running"
    assert str(one.status) == "removed"


def test_a_fork_is_no_user(engine: ck.Engine, busybox: str) -> None:
    one = engine.containers.shared("key", busybox, FOREVER)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            one.__exit__(None, None, None)
            code = 0 if one.status == "running" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert one.status == "running"
    one.__exit__(None, None, None)
    assert str(one.status) == "removed"


def test_a_failed_start_leaves_nothing(engine: ck.Engine, busybox: str) -> None:
    with pytest.raises(ck.CommandNotFound):
        engine.containers.shared("key", busybox, ["no-such-command"])
    assert directories(engine) == []
    with engine.containers.shared("key", busybox, FOREVER):
        pass


def test_one_that_has_ended_stays_while_it_is_used(engine: ck.Engine, busybox: str) -> None:
    """Its log can be read, though its launcher is gone and somebody opens the root."""
    with engine.containers.shared("service", busybox, ["sh", "-c", "echo words; exit 3"]) as one:
        assert one.wait(timeout=120).code == 3
        engine.recover()
        assert one.status == "stopped"
        assert one.log_text() == "words\n"
    assert str(one.status) == "removed"
    assert directories(engine) == []
