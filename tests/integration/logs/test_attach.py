"""attach: output from now on, input, the window, letting go; and logs by the public handle."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

import containerkit as ck
from containerkit import aio
from containerkit.errors import ConfigError, InvalidStatus, Timeout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from containerkit.engine import Engine
    from containerkit.runtime.process import Process


def lines(process: Process[bytes]) -> Iterator[bytes]:
    assert process.stdout is not None
    return iter(process.stdout)


def test_cat(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, ["cat"], stdin_open=True) as container:
        with container.attach() as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(b"hello\n")
            assert process.stdout.readline() == b"hello\n"
            assert process.pid == container.pid
            assert process.poll() is None
            process.stdin.close()
            assert process.wait(timeout=120).code == 0
            assert process.stdout.read() == b""
            assert process.returncode == 0
        assert container.status == "stopped"


def test_before_the_start_nothing_is_lost(engine: Engine, busybox: str) -> None:
    script = "read x; echo got $x; echo err >&2; exit 5"
    with engine.containers.create(busybox, script, stdin_open=True) as container:
        with container.attach() as process:
            assert process.stdin is not None
            process.stdin.write(b"early\n")
            container.start()
            result = process.communicate(timeout=120)
        assert result.stdout == b"got early\n"
        assert result.stderr == b"err\n"
        assert result.exit.code == 5


def test_communicate(engine: Engine, busybox: str) -> None:
    data = os.urandom(1 << 20)
    with engine.containers.create(busybox, ["cat"], stdin_open=True) as container:
        with container.attach() as process:
            container.start()
            result = process.communicate(data, timeout=120)
        assert result.stdout == data
        assert result.exit.ok
        assert result.duration > 0


def test_only_what_comes_from_now_on(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, "echo one; read x; echo two", stdin_open=True) as container:
        with container.logs(follow=True) as logs:
            assert next(logs).data == b"one\n"
        with container.attach() as process:
            assert process.communicate(b"\n", timeout=120).stdout == b"two\n"


def test_letting_go_ends_nothing(engine: Engine, busybox: str) -> None:
    before = threading.active_count()
    with engine.start(busybox, ["cat"], stdin_open=True) as container:
        for text in (b"one\n", b"two\n"):
            with container.attach() as process:
                assert process.stdin is not None
                process.stdin.write(text)
                assert next(lines(process)) == text
        assert container.status == "running"
        with container.attach():
            pass
        assert container.status == "running"
        assert threading.active_count() <= before


def test_what_was_written_before_letting_go_arrives(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, ["cat"], stdin_open=True) as container:
        for number in range(3):
            with container.attach() as process:
                process.stdin.write(b"%d\n" % number)
        with container.attach() as process:
            process.stdin.write(b"last")
            process.stdin.close()
        assert container.wait(timeout=120).ok
        assert container.log_text() == "0\n1\n2\nlast"


def test_two_at_once(engine: Engine, busybox: str) -> None:
    with (
        engine.start(busybox, ["cat"], stdin_open=True) as container,
        container.attach() as first,
        container.attach() as second,
    ):
        assert first.stdin is not None
        first.stdin.write(b"hello\n")
        assert next(lines(first)) == next(lines(second)) == b"hello\n"


def test_an_unread_one_stalls_nothing(engine: Engine, busybox: str) -> None:
    with (
        engine.containers.create(busybox, "seq 1 200000; exit 3") as container,
        container.attach() as process,
    ):
        assert process.stdin is None
        container.start()
        assert container.wait(timeout=120).code == 3
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"


def test_input_that_nobody_reads(engine: Engine, busybox: str) -> None:
    """Writing it waits; letting go does not."""
    with engine.start(busybox, "sleep 1000", stdin_open=True) as container:
        with container.attach() as process:
            assert process.stdin is not None
            os.set_blocking(process.stdin.fileno(), False)
            with pytest.raises(BlockingIOError):
                while True:
                    process.stdin.write(b"x" * 4096)
        assert container.status == "running"


def test_a_terminal(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, ["sh"], tty=True) as container:
        with container.attach() as process:
            assert process.stdin is not None
            assert process.stderr is None
            process.resize(33, 99)
            process.stdin.write(b"stty size\n")
            for line in lines(process):
                if line == b"33 99\r\n":
                    break
        assert container.status == "running"
        with container.attach() as process:
            result = process.communicate(b"echo $((6*7)); exit 4\n", timeout=120)
        assert b"42\r\n" in result.stdout
        assert result.exit.code == 4


def test_a_terminal_before_the_start(engine: Engine, busybox: str) -> None:
    """What is typed early is not lost while the terminal is being made."""
    for _ in range(5):
        with (
            engine.containers.create(busybox, "read x; echo got $x", tty=True) as container,
            container.attach() as process,
        ):
            assert process.stdin is not None
            process.stdin.write(b"early\n")
            container.start()
            result = process.communicate(timeout=120)
            assert b"got early\r\n" in result.stdout


def test_what_can_not_be_attached_to(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, ["true"]) as container:
        container.wait(timeout=120)
        with pytest.raises(InvalidStatus, match="stopped"):
            container.attach()
    with pytest.raises(InvalidStatus, match="removed"):
        container.attach()
    with engine.start(busybox, "sleep 1000") as container, container.attach() as process:
        with pytest.raises(ConfigError, match="no terminal"):
            process.resize(10, 10)
        with pytest.raises(Timeout):
            process.wait(timeout=0.05)
        with pytest.raises(Timeout):
            process.communicate(timeout=0.05)
        process.kill()
        assert process.wait(timeout=120).signal == 9
        process.kill()


ELSEWHERE = """
import pickle, sys
container = pickle.load(sys.stdin.buffer)
with container.attach() as process:
    process.stdin.write(b"from elsewhere\\n")
    print(next(iter(process.stdout)).decode(), end="")
"""


def test_from_another_process(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, ["cat"], stdin_open=True) as container, container.attach() as here:
        said = subprocess.run(
            [sys.executable, "-c", ELSEWHERE],
            input=pickle.dumps(container),
            capture_output=True,
            check=True,
            timeout=120,
        )
        assert (said.stdout, said.stderr) == (b"from elsewhere\n", b"")
        assert next(lines(here)) == b"from elsewhere\n"


def _attach(container: ck.Container, writer: Any) -> None:
    with container.attach() as process:
        assert process.stdin is not None
        process.stdin.write(b"from a fork\n")
        writer.send(next(lines(process)))


def test_from_a_fork(engine: Engine, busybox: str) -> None:
    """The parent's goes on, the child may have its own."""
    context = multiprocessing.get_context("fork")
    reader, writer = context.Pipe(duplex=False)
    with engine.start(busybox, ["cat"], stdin_open=True) as container, container.attach() as here:
        process = context.Process(target=_attach, args=(container, writer))
        process.start()
        writer.close()
        assert reader.poll(120)
        assert reader.recv() == b"from a fork\n"
        reader.close()
        process.join()
        process.close()
        assert next(lines(here)) == b"from a fork\n"


def test_on_an_event_loop(engine: Engine, busybox: str) -> None:
    """The same streams, awaited; letting go ends nothing."""

    async def talk() -> None:
        async with (
            aio.Engine.open(engine.root) as opened,
            opened.start(busybox, ["cat"], stdin_open=True) as container,
        ):
            async with container.attach() as process:
                assert process.stdin is not None
                assert process.stdout is not None
                await process.stdin.write(b"hello\n")
                assert await process.stdout.readline() == b"hello\n"
            assert container.status == "running"
            process = await container.attach()
            result = await process.communicate(b"more\n", timeout=120)
            await process.close()
            assert result.stdout == b"more\n"
            assert [entry.data async for entry in container.logs(follow=True)] == [
                b"hello\n",
                b"more\n",
            ]

    asyncio.run(talk())


# ---- logs


def test_logs_of_a_container(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, "echo one; echo two >&2; sleep 1000") as container:
        with container.logs(follow=True) as logs:
            found = {(entry.stream, entry.data) for entry in (next(logs), next(logs))}
            assert found == {("stdout", b"one\n"), ("stderr", b"two\n")}
        assert [e.data for e in container.logs(stderr=False)] == [b"one\n"]
        assert not list(container.logs(until=timedelta(hours=1)))
        assert container.log_text(tail=1) in ("one\n", "two\n")
    with pytest.raises(InvalidStatus):
        container.logs()


def test_following_waits_for_a_start_and_ends(engine: Engine, busybox: str) -> None:
    found: list[bytes] = []

    def follow() -> None:
        with container.logs(follow=True) as logs:
            found.extend(entry.data for entry in logs)

    with engine.containers.create(busybox, "echo one; exit 1") as container:
        thread = threading.Thread(target=follow)
        thread.start()
        container.start()
        thread.join()
    assert found == [b"one\n"]


def test_following_ends_with_a_removal(engine: Engine, busybox: str) -> None:
    with (
        engine.start(busybox, "echo one; sleep 1000") as container,
        container.logs(follow=True) as logs,
    ):
        next(logs)
        container.remove(force=True)
        assert not list(logs)


def test_the_log_of_several_runs(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, "echo again") as container:
        container.wait(timeout=120)
        container.start()
        container.wait(timeout=120)
        assert container.log_text() == "again\nagain\n"


def test_options_that_are_none(engine: Engine, busybox: str) -> None:
    wrong: list[Any] = [{"log": "file"}, {"tty": 1}, {"init": "yes"}, {"stdin_open": 0}]
    for options in wrong:
        with pytest.raises(ConfigError):
            engine.run(busybox, ["true"], **options)
    with pytest.raises(ConfigError, match="max_size"):
        ck.Log(max_size=1000)
    with pytest.raises(ConfigError, match="max_files"):
        ck.Log(max_files=0)
    assert ck.Log.none().max_size == 0


def test_how_much_is_kept_is_an_option(engine: Engine, busybox: str) -> None:
    with engine.start(busybox, "seq 1 100000", log=ck.Log("128k", 2)) as container:
        container.wait(timeout=120)
        assert container.config.options.get("log") == ck.Log("128k", 2)
        assert container.log_text(tail=1) == "100000\n"
        assert len(container.log_text()) < 256 << 10
    with engine.start(busybox, "seq 1 100000; sleep 1000", log=False) as container:
        assert container.log_text() == ""
        with pytest.raises(ConfigError, match="kept nowhere"):
            container.attach()
