"""`Workers`: blocking work of the asyncio face, and what cancelling it means."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from containerkit.errors import HostError
from containerkit.state.cancel import current
from containerkit.stdio.threads import Workers
from tests.support import refused

T = TypeVar("T")


def with_workers(main: Callable[[Workers], Awaitable[T]], most: int = 4) -> T:
    async def run() -> T:
        workers = Workers(most)
        try:
            return await main(workers)
        finally:
            await workers.close()

    before = threading.active_count()
    value = asyncio.run(run())
    assert threading.active_count() == before
    return value


def test_the_value_and_the_context() -> None:
    name = contextvars.ContextVar[str]("name")

    async def main(workers: Workers) -> tuple[str, bool]:
        name.set("of the task")
        here = threading.get_ident()
        return await workers.call(lambda: (name.get(), threading.get_ident() != here))

    assert with_workers(main) == ("of the task", True)


def test_an_error_comes_back() -> None:
    async def main(workers: Workers) -> None:
        def fail() -> None:
            raise LookupError("gone")

        with pytest.raises(LookupError, match="gone"):
            await workers.call(fail)

    with_workers(main)


def test_without_a_thread_it_fails_and_has_no_effect() -> None:
    done: list[str] = []

    async def main(workers: Workers) -> None:
        with refused.threads(), pytest.raises(HostError, match="start a thread"):
            await workers.call(lambda: done.append("refused"))
        await workers.call(lambda: done.append("later"))

    with_workers(main)
    assert done == ["later"]


def test_without_another_thread_those_that_are_there_do_it() -> None:
    both = threading.Event()

    async def main(workers: Workers) -> None:
        first = asyncio.ensure_future(workers.call(both.wait))
        await asyncio.sleep(0)
        with refused.threads():
            second = asyncio.ensure_future(workers.call(both.is_set))
            await asyncio.sleep(0)
        both.set()
        assert all(await asyncio.gather(first, second))

    with_workers(main)


def test_cancelled_work_is_waited_for_and_undone() -> None:
    began, go_on = threading.Event(), threading.Event()
    undone: list[str] = []

    def work() -> str:
        began.set()
        assert go_on.wait(120)
        return "made"

    async def main(workers: Workers) -> None:
        task = asyncio.ensure_future(workers.call(work, undo=undone.append))
        assert await asyncio.to_thread(began.wait, 120)
        for _ in range(3):  # cancelled again, it still waits
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert undone == ["made"]

    with_workers(main)


def test_work_is_told_that_it_was_cancelled() -> None:
    began = threading.Event()
    undone: list[str] = []

    def work() -> str:
        began.set()
        event = current()
        assert event is not None
        assert event.wait(120)
        raise OSError("stopped early")

    async def main(workers: Workers) -> None:
        task = asyncio.ensure_future(workers.call(work, undo=undone.append))
        assert await asyncio.to_thread(began.wait, 120)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not undone

    with_workers(main)


def test_work_that_had_not_begun_never_does() -> None:
    go_on = threading.Event()
    did: list[str] = []

    async def main(workers: Workers) -> None:
        first = asyncio.ensure_future(workers.call(lambda: go_on.wait(120)))
        await asyncio.sleep(0)
        second = asyncio.ensure_future(workers.call(lambda: did.append("second")))
        await asyncio.sleep(0)
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        go_on.set()
        assert await first

    with_workers(main, most=1)
    assert not did


def test_a_forked_child_has_threads_of_its_own() -> None:
    async def ask(workers: Workers) -> int:
        return await workers.call(os.getpid)

    async def main(workers: Workers) -> Workers:
        assert await ask(workers) == os.getpid()
        return workers

    workers = Workers(1)
    asyncio.run(main(workers))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        with asyncio.Runner() as runner:
            os.write(writer, b"%d" % runner.run(ask(workers)))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        assert int(answer.read()) == child
    os.waitpid(child, 0)
    asyncio.run(workers.close())
