"""Followers that another thread or task ends while somebody waits in them, and their timeouts."""

from __future__ import annotations

import asyncio
import os
import select
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from containerkit import aio
from containerkit.aio.stream import Stream
from containerkit.errors import Timeout
from containerkit.model.coding import UTF8
from containerkit.runtime.stats import Watch
from containerkit.state import events
from containerkit.stdio.events import Events
from containerkit.stdio.logs import Logs
from containerkit.stdio.pipes import Reader, Writer
from containerkit.stdio.waiting import Waiting, until_readable


class Life:
    """Somebody who writes for ever, and is readable by a pipe of its own."""

    def __init__(self) -> None:
        self.waited = threading.Event()
        self.ours, self.theirs = os.pipe()

    def over(self) -> bool:
        return False

    def fileno(self) -> int:
        self.waited.set()  # asked before each wait
        return self.ours

    def close(self) -> None:
        fd, self.ours = self.ours, -1
        if fd >= 0:
            os.close(fd)


@pytest.fixture
def life() -> Iterator[Life]:
    life = Life()
    yield life
    life.close()
    os.close(life.theirs)


def followers(directory: Path, life: Life) -> list[Callable[[], Any]]:
    def until_ended(_deadline: float) -> Waiting[bool]:
        return (yield from until_readable(life.fileno()))

    def no_reading() -> Any:
        raise AssertionError

    return [
        lambda: Logs(directory, follow=life),
        lambda: Events(directory, follow=True),
        lambda: Watch(no_reading, until_ended, life.close, 1000),
    ]


def waits(thread: threading.Thread) -> bool:
    """Whether the thread is in poll(2)."""
    path = Path(f"/proc/self/task/{thread.native_id}/syscall")
    return path.read_text().split()[0] in ("7", "271", "73", "168")  # poll, ppoll


@pytest.mark.parametrize("which", range(3), ids=["logs", "events", "stats"])
def test_another_thread_ends_it(tmp_path: Path, life: Life, which: int) -> None:
    (tmp_path / "log").touch()
    before = set(os.listdir("/proc/self/fd"))
    follower = followers(tmp_path, life)[which]()
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(list(follower)), daemon=True)
    thread.start()
    while not waits(thread):
        assert thread.is_alive()
        os.sched_yield()
    follower.close()
    taken = [os.dup(0) for _ in range(8)]  # numbers that it might wait on if it closed them
    try:
        thread.join(20)
        assert found == [[]]
        assert list(follower) == []
    finally:
        for fd in taken:
            os.close(fd)
    assert set(os.listdir("/proc/self/fd")) - before == set()


@pytest.mark.parametrize("which", range(3), ids=["logs", "events", "stats"])
def test_another_task_ends_it(tmp_path: Path, life: Life, which: int) -> None:
    (tmp_path / "log").touch()

    async def ended() -> list[object]:
        stream: Stream[object] = Stream(followers(tmp_path, life)[which]())

        async def everything() -> list[object]:
            return [each async for each in stream]

        task = asyncio.create_task(everything())
        await asyncio.sleep(0)  # it runs until it waits
        assert not task.done()
        await stream.aclose()
        return await asyncio.wait_for(task, 20)

    assert asyncio.run(ended()) == []


def test_nothing_is_lost_by_a_timeout(tmp_path: Path, life: Life) -> None:
    with Events(tmp_path, follow=True, timeout=0.01) as found:
        with pytest.raises(Timeout, match="an event"):
            next(found)
        events.append(tmp_path, "start", "x")
        assert next(found).kind == "start"
    (tmp_path / "log").touch()
    with Logs(tmp_path, follow=life, timeout=0.01) as logs, pytest.raises(Timeout):
        next(logs)


def test_a_line_that_does_not_come(tmp_path: Path) -> None:
    ours, theirs = os.pipe()
    reader: Reader[str] = Reader(ours, UTF8)
    os.write(theirs, b"half")
    with pytest.raises(Timeout):
        reader.readline(timeout=0.01)
    os.write(theirs, b" a line\n")
    assert reader.readline(timeout=100) == "half a line\n"
    os.close(theirs)
    assert reader.readline(timeout=100) == ""
    reader.close()


READS = ["read", "read1", "readline", "readlines"]


@pytest.mark.parametrize("what", READS)
def test_another_thread_closes_a_stream(what: str) -> None:
    before = set(os.listdir("/proc/self/fd"))
    ours, theirs = os.pipe()
    reader: Reader[str] = Reader(ours, UTF8)
    found: list[object] = []

    def read() -> None:
        with pytest.raises(ValueError, match="closed stream"):
            getattr(reader, what)()
        found.append("told")

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    while not waits(thread):
        assert thread.is_alive()
        os.sched_yield()
    closer = threading.Thread(target=reader.close, daemon=True)
    closer.start()
    thread.join(20)
    assert found == ["told"]
    closer.join(20)
    with pytest.raises(ValueError, match="closed stream"):
        getattr(reader, what)()
    with pytest.raises(BrokenPipeError):
        os.write(theirs, b"x")
    os.close(theirs)
    assert set(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("what", READS)
def test_another_task_closes_a_stream(what: str) -> None:
    before = set(os.listdir("/proc/self/fd"))
    ours, theirs = os.pipe()

    async def closed() -> None:
        reader: aio.Reader[str] = aio.Reader(Reader(ours, UTF8))
        task = asyncio.create_task(getattr(reader, what)())
        await asyncio.sleep(0)  # it runs until it waits
        assert not task.done()
        reader.close()
        with pytest.raises(ValueError, match="closed stream"):
            await asyncio.wait_for(task, 20)
        with pytest.raises(ValueError, match="closed stream"):
            await getattr(reader, what)()

    asyncio.run(closed())
    with pytest.raises(BrokenPipeError):
        os.write(theirs, b"x")
    os.close(theirs)
    assert set(os.listdir("/proc/self/fd")) == before


def test_another_task_closes_what_is_written_to() -> None:
    ours, theirs = os.pipe()

    async def closed() -> None:
        writer: aio.Writer[bytes] = aio.Writer(Writer(theirs, None))
        task = asyncio.create_task(writer.write(bytes(1 << 20)))  # more than a pipe holds
        for _ in range(1000):
            await asyncio.sleep(0)  # it fills the pipe, and waits
        assert not task.done()
        assert not select.select([], [theirs], [], 0)[1]
        writer.close()
        with pytest.raises(ValueError, match="closed stream"):
            await asyncio.wait_for(task, 20)

    asyncio.run(closed())
    with open(ours, "rb") as left:
        assert 0 < len(left.read()) < 1 << 20  # and then its end


def test_a_signal_handler_closes_what_is_read() -> None:
    ours, theirs = os.pipe()
    reader: Reader[bytes] = Reader(ours, None)
    thread = threading.Thread(target=interrupt_once_it_waits, args=(threading.main_thread(),))
    previous = signal.signal(signal.SIGUSR1, lambda *_: reader.close())
    try:
        thread.start()
        with pytest.raises(ValueError, match="closed stream"):
            reader.readline()
    finally:
        thread.join()
        signal.signal(signal.SIGUSR1, previous)
        os.close(theirs)


def interrupt_once_it_waits(thread: threading.Thread) -> None:
    while not waits(thread):
        os.sched_yield()
    os.kill(os.getpid(), signal.SIGUSR1)
