"""Whatever an exec has started ends with it, however that ends; and nothing of it is left."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading

import pytest

import containerkit as ck
from containerkit.errors import InvalidStatus, LaunchError, Timeout
from tests.integration.exec.look import MARK, counts, launcher_of, sleepers
from tests.support.bomb import BOMB
from tests.support.patience import cut_short, until

TREE = f"setsid sleep {MARK} & (sleep {MARK} &); echo up; exec sleep {MARK}"
"""A session of its own, an orphan, and the first process itself; three that sleep."""


def test_what_daemonised_ends_with_the_first_process(box: ck.Container) -> None:
    result = box.exec(f"setsid sleep {MARK} >/dev/null 2>&1 & (sleep {MARK} &) ; echo done")
    assert (result.stdout, result.exit.ok) == (b"done\n", True)
    assert sleepers(box) == 0


def test_a_timeout_ends_the_whole_tree(box: ck.Container) -> None:
    error = cut_short(
        lambda seconds: box.exec(TREE, timeout=seconds), lambda error: error.result.stdout
    )
    assert "still ran after" in str(error)
    result = error.result
    assert (result.stdout, result.exit.cause, result.exit.signal) == (b"up\n", "timeout", 9)
    assert sleepers(box) == 0


def test_kill_ends_the_whole_tree(box: ck.Container) -> None:
    with box.popen(TREE) as process:
        assert next(process.stdout) == b"up\n"
        process.kill()
        assert process.wait(timeout=60) == ck.Exit.by_signal(9)
        assert sleepers(box) == 0


def test_nothing_else_ends_with_it(engine: ck.Engine, busybox: str) -> None:
    """Neither what the container has started itself, nor what another exec has."""
    script = f"(sleep {MARK} &); exec sleep 100000"
    with engine.start(busybox, ["sh", "-c", script]) as box:
        until(lambda: sleepers(box) == 1)
        with box.popen(TREE) as other:
            assert next(other.stdout) == b"up\n"
            box.exec(f"setsid sleep {MARK} & (sleep {MARK} &)", check=True)
            until(lambda: sleepers(box) == 4)
        assert sleepers(box) == 1


def test_another_signal_goes_to_the_first_process_alone(box: ck.Container) -> None:
    script = "trap 'echo got it; exit 5' USR1; echo up; while :; do read x; done"
    with box.popen(script, text=True) as process:
        assert process.stdout is not None
        assert next(process.stdout) == "up\n"
        process.send_signal(signal.SIGUSR1)
        process.stdin.close()
        assert process.stdout.read() == "got it\n"
        assert process.wait(timeout=60).code == 5


@pytest.mark.needs("control groups")
def test_a_group_within_its_own_holds_up_no_end(engine: ck.Engine, box: ck.Container) -> None:
    """Somebody with the right to has made a control group below that of an exec."""
    with box.popen(["sleep", MARK]) as process:
        (group,) = (
            path.parent
            for top in launcher_of(engine).group.paths
            for path in top.glob("*/x*/cgroup.procs")
        )
        (group / "more").mkdir()
        try:
            box.kill()
            assert box.wait(timeout=60).signal == signal.SIGKILL
            assert process.wait(timeout=60).signal == signal.SIGKILL
        finally:
            (group / "more").rmdir()
            group.rmdir()


def test_leaving_the_block_kills(box: ck.Container) -> None:
    with box.popen(TREE) as process:
        assert next(process.stdout) == b"up\n"
    assert process.exit is not None
    assert sleepers(box) == 0


def test_an_interrupted_exec_leaves_nothing(box: ck.Container) -> None:
    def interrupt(_line: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        box.exec(TREE, on_output=interrupt)
    assert sleepers(box) == 0


def test_a_dropped_process_ends(box: ck.Container) -> None:
    """Without a close: the end of its channel is the end of the exec."""
    process = box.popen(TREE)
    assert next(process.stdout) == b"up\n"
    pidfd = os.pidfd_open(process.pid)
    del process
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)


CALLER = """
import sys
import containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    process = engine.containers.get(sys.argv[2]).popen(sys.argv[3])
    print(next(process.stdout).decode(), process.pid, flush=True)
    sys.stdin.read()
"""


def test_it_ends_with_the_process_that_asked_for_it(engine: ck.Engine, box: ck.Container) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", CALLER, engine.root, box.id, TREE],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    ) as caller:  # fmt: skip
        assert caller.stdout is not None
        assert caller.stdout.readline() == "up\n"
        pidfd = os.pidfd_open(int(caller.stdout.readline()))
        caller.kill()
    assert select.select([pidfd], [], [], 60)[0]
    os.close(pidfd)
    until(lambda: sleepers(box) == 0)  # the rest of the tree a moment later


@pytest.mark.needs("control groups")
def test_a_fork_bomb_is_ended_by_its_timeout(python: ck.Container) -> None:
    with pytest.raises(Timeout) as caught:
        python.exec([sys.executable, "-c", BOMB], timeout=1)
    assert caught.value.result.exit.cause == "timeout"
    until(lambda: processes_in(python) == "3\n")  # until its init has reaped what was killed


def processes_in(box: ck.Container) -> str:
    """Count them from inside; "" while there is no room for another one."""
    try:
        return box.exec("set -- /proc/[0-9]*; echo $#", text=True).stdout
    except LaunchError as error:
        if error.errno != errno.EAGAIN:
            raise
        return ""


@pytest.mark.needs("control groups")
def test_too_much_memory_is_told(engine: ck.Engine) -> None:
    limits = ck.Limits(memory="48m", memory_swap="48m")
    with engine.start(None, ["sleep", "9999"], limits=limits) as box:
        eater = [sys.executable, "-c", "x = bytearray(200 << 20)"]
        assert box.exec(eater).exit == ck.Exit.by_signal(9, cause="oom")
        assert box.exec(["true"]).exit.ok
        assert box.status == "running"


EATER = """
import os, time
while not os.path.exists("/go"):
    time.sleep(0.01)
x = bytearray(200 << 20)
"""


@pytest.mark.needs("control groups")
def test_a_container_that_ends_for_memory_says_so(engine: ck.Engine) -> None:
    """Also when an exec, which the kernel kills with it, is seen to end first."""
    limits = ck.Limits(memory="48m", memory_swap="48m")
    with engine.start(None, [sys.executable, "-c", EATER], limits=limits) as box:
        with box.popen(["sleep", "9999"]) as process:
            box.exec("touch /go")
            assert process.wait(timeout=60).signal == 9
        assert box.wait(timeout=60) == ck.Exit.by_signal(9, cause="oom")


# ---- the container's own end


def test_execs_end_with_the_container(box: ck.Container) -> None:
    with box.popen(TREE) as first, box.popen(TREE) as second:
        assert next(first.stdout) == next(second.stdout) == b"up\n"
        box.kill()
        assert first.wait(timeout=60).signal == second.wait(timeout=60).signal == 9
    assert box.wait(timeout=60).signal == 9


def test_an_engine_that_closes_ends_its_execs(engine: ck.Engine, busybox: str) -> None:
    with ck.Engine.open(engine.root) as other:
        process = other.start(busybox, ["sleep", "9999"]).popen(TREE)
        assert next(process.stdout) == b"up\n"
    assert process.wait(timeout=60).signal == 9
    process.close()


def test_execs_into_an_ending_container(box: ck.Container) -> None:
    """Each comes to its end, was killed, or is refused: whatever the moment."""
    others: list[BaseException] = []
    begun = threading.Barrier(9)

    def repeat() -> None:
        begun.wait()
        try:
            while True:
                found = box.exec(["true"]).exit
                assert found.ok or found.signal == 9, found
        except InvalidStatus:
            pass
        except BaseException as error:
            others.append(error)

    threads = [threading.Thread(target=repeat) for _ in range(8)]
    for thread in threads:
        thread.start()
    begun.wait()
    box.exec(["true"])
    box.kill()
    for thread in threads:
        thread.join()
    assert not others
    assert box.wait(timeout=60).signal == 9


# ---- what stays


@pytest.mark.slow
def test_a_thousand_leave_nothing(engine: ck.Engine, box: ck.Container) -> None:
    box.exec(["true"])
    before = (*counts(engine), len(os.listdir("/proc/self/fd")))
    for _ in range(1000):
        assert box.exec(["true"]).exit.ok

    def more() -> int:
        after = (*counts(engine), len(os.listdir("/proc/self/fd")))
        return max(now - then for now, then in zip(after, before, strict=True))

    # A few come and go by themselves, as the launcher makes ready for starts.
    until(lambda: more() < 20, "something of each is left")
