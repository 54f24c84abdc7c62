"""Threads, forks and other processes beside running containers."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import InvalidStatus
from tests.support import leaks

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
        held = descriptors_of(launcher.pid)
        for number in range(RUNS):
            assert engine.run(busybox, ["true"]).exit.ok, number
        assert descriptors_of(launcher.pid) <= held + READY
        left = [line.split()[0] for line in leaks.settle(before, seconds=0)]
        assert set(left) <= {"process", "cgroup"}  # of the next start
        assert left.count("process") <= 1
        engine.run(busybox, ["sleep", "0.2"])  # it clears away meanwhile
        groups = [path for path in launcher.group.paths[0].iterdir() if path.is_dir()]
        assert len(groups) <= READY


def descriptors_of(pid: int) -> int:
    """Count those that are no network namespace: the pool of these empties and fills, meanwhile too."""
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            links.append(os.readlink(entry))
    return sum(not link.startswith("net:") for link in links)


def test_a_launcher_at_rest_uses_no_time(engine: ck.Engine, busybox: str) -> None:
    """Also while a caller holds on to a container that has ended."""
    with engine.start(busybox, ["true"]) as one, engine.start(busybox, ["sleep", "1000"]) as other:
        one.wait(timeout=60)
        launcher, _ = engine._runner.launcher()
        engine.run(busybox, ["sleep", "0.2"])  # it prepares for the next start meanwhile
        before = ticks(launcher.pid)
        engine.run(busybox, ["sleep", "1"])
        assert ticks(launcher.pid) - before < 30
        assert (one.status, other.status) == ("stopped", "running")


def ticks(pid: int) -> int:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


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
            one.wait(timeout=60)
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
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("done\n", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_holds_nothing_open(engine: ck.Engine, busybox: str) -> None:
    """It outlives the run, which sees the end of its streams and of its input all the same."""
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
        busybox, ["sh", "-c", "echo go; wc -c"], input=b"y" * 500_000, on_output=fork, timeout=30
    )
    os.close(inside)
    os.close(outside)
    for pid in forked:
        os.waitpid(pid, 0)
    assert result.stdout == b"go\n500000\n"
    assert result.duration < 20


FORKER = """
import os, sys, containerkit as ck
engine = ck.Engine.open(sys.argv[1])
one = engine.start(sys.argv[2], ["sleep", "1000"])
if os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print(one.pid, flush=True)
os.kill(os.getpid(), 9)
"""


def test_a_child_that_lives_on_keeps_nothing_alive(shared_root: Path, busybox: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FORKER, str(shared_root), busybox],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        inside = os.pidfd_open(int(owner.stdout.readline()))
        assert is_over(inside)
        os.close(inside)
        assert owner.stdin is not None


def is_over(pidfd: int) -> bool:
    import select

    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(30_000))


# ---- interrupted


def interrupt_after(seconds: float) -> threading.Timer:
    main = threading.main_thread().ident
    timer = threading.Timer(seconds + 0.001, signal.pthread_kill, (main, signal.SIGINT))
    timer.start()
    return timer


@pytest.mark.parametrize("seconds", [0, 0.01, 0.1])
def test_an_interrupted_run_leaves_nothing(engine: ck.Engine, busybox: str, seconds: float) -> None:
    """When it raises, all is gone: nothing has to be waited for."""
    timers: list[threading.Timer] = []
    with pytest.raises(KeyboardInterrupt):
        engine.run(
            busybox,
            ["sh", "-c", "echo; sleep 1000 & exec sleep 1000"],
            on_output=lambda _: timers.append(interrupt_after(seconds)),
        )
    assert not [name for name in os.listdir(engine.root / "containers") if name[0] != "."]
    timers[0].join()
    assert engine.run(busybox, ["true"]).exit.ok


INTERRUPTED = """
import os, signal, sys, threading
import containerkit as ck
with ck.Engine.open(sys.argv[1]) as engine:
    engine.run(sys.argv[2], ["true"])
    for number in range(20):
        timer = threading.Timer(0.001 + number / 1000, os.kill, (os.getpid(), signal.SIGINT))
        try:
            timer.start()
            while True:
                engine.run(sys.argv[2], ["sleep", "0.002"])
                engine.start(sys.argv[2], ["sleep", "1000"]).remove(force=True)
        except KeyboardInterrupt:
            pass
        for one in engine.containers.list():  # interrupted before it was handed over
            one.remove(force=True)
        engine.recover()  # interrupted while it was removed
        for _ in range(200):  # what was interrupted before anybody knew it ends in the background
            left = [name for name in os.listdir(engine.root / "containers") if name[0] != "."]
            if not left:
                break
            engine.run(sys.argv[2], ["true"])
        assert not left, (number, left)
"""


def test_an_interrupted_start_leaves_nothing(shared_root: Path, busybox: str) -> None:
    """In a process of its own: an exception between two instructions may cost a descriptor."""
    command = [sys.executable, "-c", INTERRUPTED, str(shared_root), busybox]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


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
        timeout=60,
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
        [sys.executable, "-c", code, str(shared_root), busybox], check=False, timeout=60
    )
    assert done.returncode == 7
