"""Bounded blocking work of the asyncio face, in a few threads.

Owns: the threads of one engine, and what cancelling means for work that is under way: it is waited
for, then undone.  Must not: be given work that may wait for ever; `stdio.aiodrive` waits.
Neighbour: `aio` sends every blocking call of the core here.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

from containerkit.errors import HostError, refusals
from containerkit.state.cancel import CancelEvent, set_current

T = TypeVar("T")

MOST = 16
"""Threads at most; each is made when it is first needed."""


_living: weakref.WeakSet[Workers] = weakref.WeakSet()


class Workers:
    """Threads for bounded work; made on first use, a forked child makes its own.

    Args:
        most: pieces of work at a time.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._own_nothing()
        _living.add(self)

    def _own_nothing(self) -> None:
        """Begin without threads: at first, and in a forked child."""
        self._guard = threading.Lock()
        self._pool: ThreadPoolExecutor | None = None
        self._under_way: set[Future[Any]] = set()

    async def call(
        self,
        work: Callable[[], T],
        *,
        undo: Callable[[T], object] | None = None,
    ) -> T:
        """Do *work* in a thread and return its value.

        Cancelled before it has begun, it never does.  Cancelled later, *work* is told (see
        `state.cancel`) and waited for, and *undo* after it, before `CancelledError` goes on: what
        was cancelled has no effect later.

        Args:
            work: is called with this task's context variables.
            undo: called in a thread with the value that nobody will get.
        """
        cancelled = CancelEvent()
        future = self._submit(work, cancelled)
        waiter = asyncio.wrap_future(future)
        try:
            return await asyncio.shield(waiter)
        except asyncio.CancelledError:
            if future.cancel():
                raise
            cancelled.set()
            await _end_of(waiter)
            if undo is not None and waiter.exception() is None:
                value = waiter.result()
                await _end_of(asyncio.wrap_future(self._submit(lambda: undo(value), None)))
            raise
        except GeneratorExit:
            # The loop was closed over us: nobody waits any more, but it is undone all the same.
            if not future.cancel():
                cancelled.set()
                if undo is not None:
                    future.add_done_callback(lambda done: _undo(done, undo))
            raise

    def _submit(self, work: Callable[[], T], cancelled: CancelEvent | None) -> Future[T]:
        context = contextvars.copy_context()
        if cancelled is not None:
            context.run(set_current, cancelled)
        future: Future[T] = Future()
        with self._guard:
            first = self._pool is None
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._most, thread_name_prefix="containerkit-aio")
            try:
                with refusals("start a thread"):
                    self._pool.submit(context.run, _do, work, future)
            except HostError:
                # It is queued all the same: one of the threads that are there comes to it.
                if first:
                    self._pool = None
                    raise
            self._under_way.add(future)
        future.add_done_callback(self._under_way.discard)
        return future

    async def close(self) -> None:
        """Wait for what is under way, and end the threads."""
        with self._guard:
            pool, self._pool = self._pool, None
        if pool is not None:
            for future in list(self._under_way):
                await _end_of(asyncio.wrap_future(future))
            pool.shutdown()  # they are idle


def _do(work: Callable[[], T], future: Future[T]) -> None:
    if future.set_running_or_notify_cancel():
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)
            del future  # no cycle through its trace


async def _end_of(future: asyncio.Future[Any]) -> None:
    """Wait for a future whatever is cancelled meanwhile; its error is nobody's any more."""
    while not future.done():
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait([future])
    if not future.cancelled():
        future.exception()


def _undo(done: Future[T], undo: Callable[[T], object]) -> None:
    if done.exception() is None:
        undo(done.result())


def _forked() -> None:
    for workers in list(_living):
        workers._own_nothing()


os.register_at_fork(after_in_child=_forked)
