"""Programs of every kind with containers in them: what they did before still works, nothing leaks.

Most run as processes of their own, since it is the whole process that counts: its children, its
exit, its warnings.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

import containerkit as ck

SECONDS = 250


def program(script: str, root: Path, image: str, *flags: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, *flags, "-c", textwrap.dedent(script), str(root), image],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(script: str, root: Path, image: str, *flags: str) -> str:
    """Run a program to its end; it says nothing on standard error."""
    with program(script, root, image, *flags) as process:
        try:
            said, errors = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
        assert (process.returncode, errors) == (0, "")
    return said


def nothing_is_left(root: Path) -> None:
    assert os.listdir(root / "owners") == []
    assert os.listdir(root / "containers") == []


@pytest.fixture
def root(engine_root: Path, busybox: str) -> Path:
    with ck.Engine.open(engine_root) as engine:
        engine.images.pull(busybox)
    return engine_root


# ---- children of the program


def test_waitpid_of_any_child_never_sees_a_container(root: Path, busybox: str) -> None:
    """Neither the launcher nor what runs in it is anybody's child to wait for."""
    run(
        """
        import os, sys, containerkit as ck

        def no_child():
            try:
                os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return True
            return False

        with ck.Engine.open(sys.argv[1]) as engine:
            assert engine.run(sys.argv[2], ["true"]).exit.ok
            assert no_child()
            with engine.start(sys.argv[2], ["sleep", "1000"]) as container:
                assert container.exec(["sh", "-c", "exit 3"]).returncode == 3
                assert no_child()
                container.stop()
                assert no_child()
                own = os.posix_spawn("/bin/true", ["true"], {})
                assert os.waitpid(-1, 0) == (own, 0)
        assert no_child()
        """,
        root,
        busybox,
    )


def test_subprocess_beside_containers(root: Path, busybox: str) -> None:
    """Children of the program inherit nothing of ours, and their ends are the program's."""
    said = run(
        """
        import os, subprocess, sys, containerkit as ck

        with ck.Engine.open(sys.argv[1]) as engine, engine.start(sys.argv[2], ["sleep", "99"]) as c:
            children = [subprocess.Popen(["sh", "-c", f"exit {n}"]) for n in range(8)]
            results = [engine.run(sys.argv[2], ["sh", "-c", f"exit {n}"]) for n in range(8)]
            assert [child.wait() for child in children] == list(range(8))
            assert [result.returncode for result in results] == list(range(8))
            print(subprocess.run(["ls", "/proc/self/fd"], close_fds=False, capture_output=True,
                                 text=True).stdout.split())
        """,
        root,
        busybox,
    )
    assert said.split() == ["['0',", "'1',", "'2',", "'3']"]


# ---- forks


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(root: Path, busybox: str, tmp_path: Path, method: str) -> None:
    """Each worker has its own engine; a handle sent to it is of the same container."""
    path = tmp_path / "program.py"
    path.write_text(
        textwrap.dedent(
            """
            import multiprocessing, sys, containerkit as ck

            def work(root, image, container, number):
                with ck.Engine.open(root) as engine:
                    said = engine.run(image, ["echo", str(number)], text=True).stdout
                inside = container.exec(["echo", "x"], text=True).stdout
                return int(said), inside, container.status

            if __name__ == "__main__":
                root, image, method = sys.argv[1:]
                context = multiprocessing.get_context(method)
                with ck.Engine.open(root) as engine:
                    with engine.start(image, ["sleep", "1000"]) as container:
                        with context.Pool(3) as pool:
                            given = [(root, image, container, number) for number in range(6)]
                            found = pool.starmap(work, given)
                            pool.close()
                            pool.join()
                        assert found == [(n, "x\\n", "running") for n in range(6)], found
                        assert container.status == "running", "it is this process's"
                        assert engine.run(image, ["true"]).exit.ok
            """
        )
    )
    done = subprocess.run(
        [sys.executable, str(path), str(root), busybox, method],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    with ck.Engine.open(root):
        nothing_is_left(root)


def test_a_forked_child_that_uses_the_parents_engine(root: Path, busybox: str) -> None:
    """It has a launcher of its own, and its end takes nothing of the parent's along."""
    run(
        """
        import os, sys, containerkit as ck

        engine = ck.Engine.open(sys.argv[1])
        container = engine.start(sys.argv[2], ["sleep", "1000"])
        child = os.fork()
        if child == 0:
            assert engine.run(sys.argv[2], ["true"]).exit.ok
            assert container.status == "running"
            own = engine.start(sys.argv[2], ["sleep", "1000"])
            assert own.status == "running"
            engine.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert container.status == "running"
        assert [one.id for one in engine.containers.list()] == [container.id]
        assert container.exec(["true"]).exit.ok
        engine.close()
        """,
        root,
        busybox,
    )
    nothing_is_left(root)


def test_a_fork_among_many_threads(root: Path, busybox: str) -> None:
    """Locks that other threads hold at that moment, SQLite's among them, do not hang the child."""
    run(
        """
        import os, sys, threading, containerkit as ck

        engine = ck.Engine.open(sys.argv[1])
        stop = threading.Event()

        def work():
            while not stop.is_set():
                assert engine.run(sys.argv[2], ["true"]).exit.ok

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for _ in range(5):
            child = os.fork()
            if child == 0:
                assert engine.run(sys.argv[2], ["true"]).exit.ok
                engine.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        stop.set()
        for thread in threads:
            thread.join()
        engine.close()
        """,
        root,
        busybox,
        "-W",
        "ignore::DeprecationWarning",  # Python 3.12 and later warn of such forks
    )
    nothing_is_left(root)


# ---- threads


def test_sixteen_threads_start_at_once(root: Path, busybox: str) -> None:
    run(
        """
        import sys, threading, containerkit as ck

        engine = ck.Engine.open(sys.argv[1])
        together = threading.Barrier(16)
        failures = []

        def work(number):
            try:
                together.wait()
                with engine.start(sys.argv[2], ["sleep", "1000"]) as container:
                    assert container.exec(["echo", str(number)], text=True).stdout == f"{number}\\n"
                    assert engine.run(sys.argv[2], ["true"]).exit.ok
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures, failures
        assert engine.containers.list() == ()
        engine.close()
        """,
        root,
        busybox,
    )


def test_an_interpreter_in_a_thread_with_its_own_loop(root: Path, busybox: str) -> None:
    """What a notebook's kernel is: cells run one after the other, while a loop runs elsewhere."""
    run(
        """
        import asyncio, code, sys, threading, containerkit as ck

        cells = [
            "import containerkit as ck",
            "engine = ck.Engine.open(root)",
            "container = engine.start(image, ['sleep', '1000'])",
            "result = container.exec(['echo', 'hi'], text=True).stdout",
            "from containerkit import aio",
            "async def both():\\n"
            "    async with aio.Engine.open(root) as own:\\n"
            "        return (await own.run(image, ['echo', 'ho'], text=True)).stdout\\n\\n",
            "other = asyncio.run_coroutine_threadsafe(both(), loop).result(200)",
            "engine.close()",
        ]
        loop = asyncio.new_event_loop()
        names = {"root": sys.argv[1], "image": sys.argv[2], "asyncio": asyncio, "loop": loop}
        kernel = code.InteractiveInterpreter(names)
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        cell_thread = threading.Thread(
            target=lambda: [kernel.runsource(cell, symbol="exec") for cell in cells]
        )
        cell_thread.start()
        cell_thread.join()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
        assert (names["result"], names["other"]) == ("hi\\n", "ho\\n"), names
        """,
        root,
        busybox,
    )
    nothing_is_left(root)


# ---- the end of the program

RUNNING = """
import sys, containerkit as ck
engine = ck.Engine.open(sys.argv[1])
kept = [engine.start(sys.argv[2], ["sh", "-c", "sleep 1000 & sleep 1000"]) for _ in range(20)]
"""


@pytest.mark.parametrize(
    "end",
    [
        "",
        "sys.exit(0)",
        "del kept, engine; import gc; gc.collect()",
        "import atexit; atexit.register(lambda: engine.run(sys.argv[2], ['true']).check())",
        "kept.append(kept)",  # a cycle, collected at the very end or never
    ],
    ids=["end", "exit", "collected", "atexit", "cycle"],
)
def test_the_interpreter_exits_with_containers_running(root: Path, busybox: str, end: str) -> None:
    """Nobody closed anything; they end with the process, and the next open finds nothing."""
    run(f"{RUNNING}{end}\n", root, busybox)
    with ck.Engine.open(root) as engine:
        nothing_is_left(root)
        assert engine.run(busybox, ["true"]).exit.ok


@pytest.mark.parametrize("busy", ["engine.run", "kept[0].exec", "engine.start"])
def test_control_c(root: Path, busybox: str, busy: str, tmp_path: Path) -> None:
    """KeyboardInterrupt comes out of whatever waits, and nothing is left of it.

    It comes when there is something to be left: what was started has said so.
    """
    told = tmp_path / "told"
    os.mkfifo(told)
    call = {
        "engine.run": "engine.run(sys.argv[2], ['sh', '-c', 'echo begun; sleep 1000'], on_output=say)",
        "kept[0].exec": "kept[0].exec(['sh', '-c', 'echo begun; sleep 1000'], on_output=say)",
        "engine.start": (
            f"engine.start(sys.argv[2], ['sleep', '1000'], mounts=[ck.Mount.bind('{tmp_path}', '/x')],"
            " ready=ck.Ready(command='echo begun > /x/told; sleep 1000'), timeout=1000)"
        ),
    }[busy]
    script = f"""
import sys, containerkit as ck
engine = ck.Engine.open(sys.argv[1])
say = lambda entry: open({str(told)!r}, "w").write(entry.data.decode())
kept = [engine.start(sys.argv[2], ["sleep", "1000"])]
before = len(kept[0].top())
try:
    {call}
except KeyboardInterrupt:
    pass
else:
    sys.exit("not interrupted")
assert len(kept[0].top()) == before
assert [one.id for one in engine.containers.list()] == [kept[0].id]
engine.close()
"""
    with program(script, root, busybox) as process:
        assert told.read_text() == "begun\n"
        os.kill(process.pid, signal.SIGINT)
        said, errors = process.communicate(timeout=SECONDS)
        assert (process.returncode, said, errors) == (0, "", "")
    nothing_is_left(root)


def test_control_c_at_any_moment_of_asyncio(root: Path, busybox: str) -> None:
    """`asyncio.run` turns it into a cancellation of the main task."""
    script = """
import asyncio, sys
from containerkit import aio

async def main():
    async with aio.Engine.open(sys.argv[1]) as engine:
        async with engine.start(sys.argv[2], ["sleep", "1000"]) as container:
            print("begun", flush=True)
            await asyncio.gather(
                container.wait(), engine.run(sys.argv[2], ["sleep", "1000"]),
                container.exec(["sleep", "1000"]),
            )

try:
    asyncio.run(main())
except KeyboardInterrupt:
    pass
else:
    sys.exit("not interrupted")
"""
    for pause in (0.0, 0.005, 0.02, 0.2):
        with program(script, root, busybox) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            time.sleep(pause)
            os.kill(process.pid, signal.SIGINT)
            _, errors = process.communicate(timeout=SECONDS)
            assert (process.returncode, errors) == (0, "")
        nothing_is_left(root)


def test_nothing_is_warned_of(root: Path, busybox: str) -> None:
    """`-X dev` sees descriptors that nobody closed, coroutines that nobody awaited, and more."""
    run(
        """
        import asyncio, gc, sys, containerkit as ck
        from containerkit import aio

        with ck.Engine.open(sys.argv[1]) as engine:
            engine.run(sys.argv[2], ["echo", "hi"], on_output=lambda _: None)
            with engine.start(sys.argv[2], ["sleep", "1000"]) as container:
                container.exec(["true"])
                with container.popen(["cat"]) as process:
                    process.communicate(b"x")
                for entry in container.logs():
                    pass
                next(container.watch_stats())
                container.stop(grace=0)
                container.log_text()
            engine.check()
            engine.probe()

        async def main():
            async with aio.Engine.open(sys.argv[1]) as engine:
                await engine.run(sys.argv[2], ["true"])
                async with engine.start(sys.argv[2], ["sleep", "1000"]) as container:
                    await container.exec(["true"])
                    async with container.popen(["cat"]) as process:
                        await process.communicate(b"x")
                    async for entry in container.logs():
                        pass

        asyncio.run(main())
        engine = ck.Engine.open(sys.argv[1])
        engine.run(sys.argv[2], ["true"])
        del engine
        gc.collect()
        """,
        root,
        busybox,
        "-X",
        "dev",
        "-W",
        "error",
    )
