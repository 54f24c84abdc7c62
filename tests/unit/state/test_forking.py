"""A fork finds no thread inside, and afterwards they go on, in the parent and in the child."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import threading
import warnings

from containerkit.state.forking import no_fork


def fork() -> int:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads, from 3.12 on
        return os.fork()


def forked(exit_code: int = 0) -> int:
    child = fork()
    if child == 0:
        with no_fork:
            os._exit(exit_code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_fork_waits_for_who_is_inside() -> None:
    inside, leave = threading.Event(), threading.Event()
    order: list[str] = []

    def work() -> None:
        with no_fork:
            inside.set()
            assert leave.wait(120)
            order.append("left")

    thread = threading.Thread(target=work)
    thread.start()
    assert inside.wait(120)
    timer = threading.Timer(0.05, leave.set)
    timer.start()
    assert forked(3) == 3
    order.append("forked")
    thread.join()
    timer.join()
    assert order == ["left", "forked"]
    with no_fork:
        pass


def test_a_thread_that_is_inside_itself_forks() -> None:
    with no_fork, no_fork:
        assert forked() == 0
    assert forked() == 0


def test_many_threads_go_on() -> None:
    stop = threading.Event()
    rounds = [0] * 4

    def work(number: int) -> None:
        while not stop.is_set():
            with no_fork:
                rounds[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        assert forked() == 0
    before = list(rounds)
    while any(now == then for now, then in zip(rounds, before, strict=True)):
        threading.Event().wait(0.001)
    stop.set()
    for thread in threads:
        thread.join()


def test_a_thread_that_imports_and_then_goes_inside_is_waited_for() -> None:
    """The fork has begun, and waits for the import; what comes after it is not met either.

    Whether that comes before the fork or waits for it is the scheduler's to say.
    """
    program = """
        import importlib.abc, os, sys, threading, time

        def forking():  # registered first, so called last
            spec = getattr(sys.modules.get("containerkit.state.catalog"), "__spec__", None)
            imported = spec is not None and not spec._initializing
            order.append("forked" if imported else "forked too early")

        os.register_at_fork(before=forking)
        import containerkit.engine
        assert "containerkit.state.catalog" not in sys.modules

        begun, order = threading.Event(), []

        class Slow(importlib.abc.MetaPathFinder):
            def find_spec(self, name, path=None, target=None):
                if name == "containerkit.state.catalog":
                    begun.set()
                    time.sleep(0.2)

        sys.meta_path.insert(0, Slow())

        def work():
            from containerkit.state import catalog
            with catalog.no_fork:
                order.append("entered")
                time.sleep(0.2)
                order.append("left")

        thread = threading.Thread(target=work)
        thread.start()
        begun.wait()
        child = os.fork()
        if child == 0:
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        thread.join()
        print(*order)
        """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    assert done.stderr == ""
    assert done.stdout in ("entered left forked\n", "forked entered left\n")
