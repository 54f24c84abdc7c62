"""Threads, forks and other processes beside running containers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import InvalidStatus
from tests.support import leaks
from tests.support.patience import descriptors_of, ends, state_of, until

RUNS = 200
READY = 8
"""At most so many of anything does a launcher keep for the next starts."""


def test_many_runs_leave_nothing(engine: ck.Engine, busybox: str) -> None:
    """Counts stay where they were, in this process, on the host and in the launcher."""
    launcher, _ = engine._runner.launcher()
    with engine.start(busybox, ["sleep", "1000"]):
        for _ in range(10):
            engine.run(busybox, ["true"])
        before = leaks.take()
        held = few(launcher.pid)
        for number in range(RUNS):
            assert engine.run(busybox, ["true"]).exit.ok, number
        until(lambda: few(launcher.pid) <= held + READY, "descriptors of the launcher are left")
        until(lambda: is_only_of_the_next_start(leaks.settle(before, seconds=0)))
        # It clears away when nothing else is going on.
        until(lambda: groups_in(launcher.group.paths) <= READY, "groups are left")


def groups_in(paths: Sequence[Path]) -> int:
    """Count the groups of containers, in one hierarchy; there is none for who may make no groups."""
    return sum(path.is_dir() for place in paths[:1] for path in place.iterdir())


def is_only_of_the_next_start(left: list[str]) -> bool:
    """Whether there is no more than what the launcher makes ready: a child and its groups."""
    kinds = [line.split()[0] for line in left]
    return set(kinds) <= {"process", "cgroup"} and kinds.count("process") <= 1


def few(pid: int) -> int:
    """Count descriptors but for network namespaces: the pool of these empties and fills."""
    return sum(not link.startswith("net:") for link in descriptors_of(pid))


def test_a_launcher_at_rest_uses_no_time(engine: ck.Engine, busybox: str) -> None:
    """Also while a caller holds on to a container that has ended."""
    with engine.start(busybox, ["true"]) as one, engine.start(busybox, ["sleep", "1000"]) as other:
        one.wait(timeout=120)
        launcher, _ = engine._runner.launcher()
        # It prepares for the next start first.
        until(lambda: rests(launcher.pid), "it never comes to rest")
        assert (one.status, other.status) == ("stopped", "running")


def rests(pid: int) -> bool:
    """Whether a process sleeps, and was not even woken, for half a second."""
    before = turns(pid)
    time.sleep(0.5)  # nothing is waited for: nothing is to happen
    return turns(pid) == before and state_of(pid) == "S"


def turns(pid: int) -> list[str]:
    """Return how often a process has given up its processor, and has lost it."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return [line.split()[1] for line in lines if "ctxt_switches" in line]


def test_threads(engine: ck.Engine, busybox: str) -> None:
    def one(number: int) -> bytes:
        return engine.run(busybox, ["sh", "-c", f"cat; echo {number}"], input=b"in ").stdout

    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(one, range(160)))
    assert said == [f"in {number}\n".encode() for number in range(160)]


def use(
    one: ck.Container, number: int, begin: threading.Barrier, wrong: list[BaseException]
) -> None:
    begin.wait()
    try:
        for _ in range(5):
            one.pid, one.status, one.exit  # noqa: B018
        if number % 2:
            one.remove(force=True)
        else:
            one.kill()
            one.wait(timeout=120)
    except InvalidStatus:
        pass
    except BaseException as error:
        wrong.append(error)


def test_threads_on_one_handle(engine: ck.Engine, busybox: str) -> None:
    """All of them see it end, one of them removes it, and none meets a descriptor of another."""
    for _ in range(10):
        one = engine.start(busybox, ["sleep", "1000"])
        wrong: list[BaseException] = []
        begin = threading.Barrier(8)

        threads = [
            threading.Thread(target=use, args=(one, number, begin, wrong)) for number in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert one.status == "removed"


WORKERS = """
import multiprocessing, subprocess, sys, threading
import containerkit as ck

def work(number):
    return number * number

def keep_running(engine, said):
    while not stop.is_set():
        said.add(engine.run(sys.argv[2], ["cat"], input=b"x" * 1000).stdout)
        assert subprocess.run(["true"]).returncode == 0

if __name__ == "__main__":
    said, stop = set(), threading.Event()
    context = multiprocessing.get_context(sys.argv[3])
    with ck.Engine.open(sys.argv[1]) as engine:
        runner = threading.Thread(target=keep_running, args=(engine, said))
        runner.start()
        for _ in range(3):
            with context.Pool(2) as pool:
                assert pool.map(work, range(4)) == [0, 1, 4, 9]
        stop.set()
        runner.join()
    assert said == {b"x" * 1000}
    print("done")
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_worker_processes(shared_root: Path, busybox: str, tmp_path: Path, method: str) -> None:
    """Neither sees the other's children, and containers see the end of their input."""
    program = tmp_path / "workers.py"
    program.write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, str(program), str(shared_root), busybox, method],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_holds_nothing_open(engine: ck.Engine, busybox: str) -> None:
    """It outlives the run, which sees the end of its streams and of its input all the same.

    Did the run wait for the child, which goes on until the run is over, it would wait in vain.
    """
    inside, outside = os.pipe()
    forked: list[int] = []

    def fork(_entry: ck.LogEntry) -> None:
        pid = os.fork()
        if pid == 0:
            os.close(outside)
            os.read(inside, 1)
            os._exit(0)
        forked.append(pid)

    result = engine.run(
        busybox, ["sh", "-c", "echo go; wc -c"], input=b"y" * 500_000, on_output=fork, timeout=120
    )
    os.close(inside)
    os.close(outside)
    for pid in forked:
        os.waitpid(pid, 0)
    assert result.stdout == b"go\n500000\n"


FORKER = """
import os, sys, containerkit as ck
engine = ck.Engine.open(sys.argv[1])
one = engine.start(sys.argv[2], ["sleep", "1000"])
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(one.pid, flush=True)
os.read(int(sys.argv[3]), 1)  # until somebody has it in sight
os.kill(os.getpid(), 9)
"""


def test_a_child_that_lives_on_keeps_nothing_alive(shared_root: Path, busybox: str) -> None:
    told, telling = os.pipe()
    with subprocess.Popen(
        [sys.executable, "-c", FORKER, str(shared_root), busybox, str(told)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        pass_fds=[told],
    ) as owner:
        os.close(told)
        assert owner.stdout is not None
        inside = os.pidfd_open(int(owner.stdout.readline()))
        os.close(telling)
        assert ends(inside)
        os.close(inside)


# ---- interrupted


def interrupter(seconds: float) -> threading.Timer:
    """Make a timer that interrupts the main thread; it may do so before its `start` returns."""
    main = threading.main_thread().ident
    return threading.Timer(seconds + 0.001, signal.pthread_kill, (main, signal.SIGINT))


@pytest.mark.parametrize("seconds", [0, 0.01, 0.1])
def test_an_interrupted_run_leaves_nothing(engine: ck.Engine, busybox: str, seconds: float) -> None:
    """When it raises, all is gone: nothing has to be waited for."""
    timer = interrupter(seconds)
    with pytest.raises(KeyboardInterrupt):
        engine.run(
            busybox,
            ["sh", "-c", "echo; sleep 1000 & exec sleep 1000"],
            on_output=lambda _: timer.start(),
        )
    assert not [name for name in os.listdir(engine.root / "containers") if name[0] != "."]
    timer.join()
    assert engine.run(busybox, ["true"]).exit.ok


INTERRUPTED = """
import os, signal, sys, threading, time
import containerkit as ck

came, armed = [], []

def interrupt(*_):
    came.append(True)
    if armed:
        raise KeyboardInterrupt

# Where nothing can be raised, in a destructor say, Python drops it and says so.
sys.unraisablehook = lambda what: (
    None if what.exc_type is KeyboardInterrupt else sys.__unraisablehook__(what)
)
signal.signal(signal.SIGINT, interrupt)
with ck.Engine.open(sys.argv[1]) as engine:
    engine.run(sys.argv[2], ["true"])
    for number in range(20):
        timer = threading.Timer(0.001 + number / 1000, os.kill, (os.getpid(), signal.SIGINT))
        try:
            armed.append(True)
            timer.start()
            while len(came) == number:
                engine.run(sys.argv[2], ["sleep", "0.002"])
                engine.start(sys.argv[2], ["sleep", "1000"]).remove(force=True)
        except KeyboardInterrupt:
            pass
        armed.clear()
        timer.join()
        for one in engine.containers.list():  # interrupted before it was handed over
            one.remove(force=True)
        engine.recover()  # interrupted while it was removed
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:  # what nobody knew of ends in the background
            left = [name for name in os.listdir(engine.root / "containers") if name[0] != "."]
            if not left:
                break
            engine.run(sys.argv[2], ["true"])
        assert not left, (number, left)
"""


def test_an_interrupted_start_leaves_nothing(shared_root: Path, busybox: str) -> None:
    """In a process of its own: an exception between two instructions may cost a descriptor."""
    command = [sys.executable, "-c", INTERRUPTED, str(shared_root), busybox]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


AT_EACH_CALL = """
import os, sys
import containerkit as ck
from tests.support.interrupts import at_each_call

sys.unraisablehook = lambda what: (
    None if what.exc_type is KeyboardInterrupt else sys.__unraisablehook__(what)
)
with ck.Engine.open(sys.argv[1]) as engine:
    steps = {
        "run": (5, lambda: engine.run(sys.argv[2], ["true"])),
        "start": (23, lambda: engine.start(sys.argv[2], ["sleep", "1000"]).remove(force=True)),
    }
    step, operation = steps[sys.argv[3]]
    operation()
    points = 0
    for where in at_each_call(operation, step=step):
        points += 1
        for one in engine.containers.list():
            one.remove(force=True)
        engine.recover()
        assert engine.run(sys.argv[2], ["true"]).exit.ok, where
    assert points > 20, points
left = [name for name in os.listdir(sys.argv[1] + "/containers") if name[0] != "."]
assert not left, left
"""


@pytest.mark.parametrize("what", ["run", "start"])
def test_an_interrupt_after_any_call_leaves_nothing(
    shared_root: Path, busybox: str, what: str
) -> None:
    """A sample of the points at which a signal's handler may raise, each hit for sure."""
    done = subprocess.run(
        [sys.executable, "-c", AT_EACH_CALL, str(shared_root), busybox, what],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr


# ---- the end of the interpreter

ENDS = {
    "falling off the end": "",
    "exit": "sys.exit(0)",
    "an error": "raise SystemExit(0)",
    "threads at work": "ran = threading.Event(); threading.Thread(target=lambda: ck.run(IMAGE,"
    " ['sh', '-c', 'echo; sleep 1000'], on_output=lambda _: ran.set()), daemon=True).start();"
    " ran.wait()",
}
ENDING = """
import sys, threading
import containerkit as ck
IMAGE = sys.argv[1]
print(ck.run(IMAGE, ["echo", "ran"], text=True).stdout, end="")
kept = [ck.start(IMAGE, ["sleep", "1000"]) for _ in range(5)]
{end}
"""


@pytest.mark.parametrize("how", ENDS)
def test_the_interpreter_ends(shared_root: Path, busybox: str, how: str) -> None:
    """Quietly, with every warning an error; the leak check looks for what is left."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", ENDING.format(end=ENDS[how]), busybox],
        env={**os.environ, "CONTAINERKIT_ROOT": str(shared_root)},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
    assert not [name for name in os.listdir(shared_root / "containers") if name[0] != "."]


def test_closed_standard_streams(shared_root: Path, busybox: str) -> None:
    """The launcher's descriptors may get the numbers 0 to 2, and nothing is lost by that."""
    code = (
        "import os, sys; os.closerange(0, 3); import containerkit as ck;"
        "e = ck.Engine.open(sys.argv[1]); r = e.run(sys.argv[2], ['echo', 'out']); e.close();"
        "os._exit(7 if r.stdout == b'out\\n' else 1)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(shared_root), busybox], check=False, timeout=250
    )
    assert done.returncode == 7
