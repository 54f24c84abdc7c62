"""The asyncio driver of waits: runs the generators that `waiting.drive` runs, on an event loop.

Owns: an epoll instance for each generator that it drives.  The loop watches that one descriptor,
so it does not matter which of the others it watches already, and hang-ups are seen as poll(2)
tells them on every loop that can watch a descriptor, uvloop included.  Must not: start threads,
read or write the descriptors.
Neighbours: `stdio.threads` does the bounded work of the asyncio face; `aio` uses both.
"""

from __future__ import annotations

import asyncio
import errno
import select
import time
from typing import Final, TypeVar

from containerkit.errors import refusals
from containerkit.stdio.waiting import Interest, Ready, Wait, Waiting, drive

T = TypeVar("T")

_INVALID: Final = select.POLLNVAL


async def adrive(waiting: Waiting[T]) -> T:
    """Run a generator of waits to its end on the running loop and return its value.

    Cancelling raises `CancelledError` inside the generator, at its yield, as Ctrl-C raises
    KeyboardInterrupt there in the blocking driver.  What it waits for to clean up is then waited
    for, whatever is cancelled again meanwhile: a generator's cleanup must be bounded.
    """
    watch = _Watch(asyncio.get_running_loop())
    cancelled: asyncio.CancelledError | None = None
    try:
        wait = next(waiting)
        while True:
            try:
                ready = await watch.ready(wait)
            except asyncio.CancelledError as error:
                if cancelled is None:
                    cancelled = error
                    wait = waiting.throw(error)
            except GeneratorExit as error:
                # The loop was closed over us, and nobody will resume: clean up here and now.
                watch.close()
                drive(_thrown(waiting, error))
                raise
            except BaseException as error:
                wait = waiting.throw(error)
            else:
                wait = waiting.send(ready)
    except StopIteration as stop:
        if cancelled is not None:
            raise cancelled from None
        value: T = stop.value
        return value
    finally:
        watch.close()


def _thrown(waiting: Waiting[T], error: BaseException) -> Waiting[None]:
    """Raise *error* inside a generator, and let it wait for what its cleanup waits for."""
    try:
        wait = waiting.throw(error)
        while True:
            wait = waiting.send((yield wait))
    except (StopIteration, type(error)):
        return


class _Watch:
    """The descriptors one generator waits for, behind one that the loop watches."""

    __slots__ = ("_always", "_epoll", "_interest", "_loop", "_woken")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._epoll: select.epoll | None = None
        self._interest: Interest = ()
        self._always: Ready = []
        self._woken: asyncio.Future[None] | None = None

    async def ready(self, wait: Wait) -> Ready:
        """Return what is ready; nothing when the deadline passed.

        Everything else that the loop has to do gets its turn, even if something is ready at once.
        """
        if self._epoll is None or wait.interest is not self._interest:
            self._register(wait.interest)
        assert self._epoll is not None
        if self._always:
            await asyncio.sleep(0)
            return self._always + self._epoll.poll(0)
        while True:
            await self._wake(wait.deadline)
            found = self._epoll.poll(0)
            # Woken for nothing: somebody else read it, or the loop's clock is a coarse one.
            if found or (wait.deadline is not None and time.monotonic() >= wait.deadline):
                return found

    async def _wake(self, deadline: float | None) -> None:
        self._woken = self._loop.create_future()
        timer = None
        if deadline is not None:
            # Bounded: a loop may keep milliseconds in an integer.
            delay = min(max(0.0, deadline - time.monotonic()), 1e6)
            timer = self._loop.call_later(delay, self._something)
        try:
            await self._woken
        finally:
            self._woken = None
            if timer is not None:
                timer.cancel()

    def _something(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)

    def _register(self, interest: Interest) -> None:
        """Watch these; a new instance each time, since a closed descriptor lingers in an old one."""
        self.close()
        self._interest = interest
        self._always = []
        with refusals("watch descriptors"):
            epoll = select.epoll()
        events = dict(interest)  # of two for one descriptor the later one, as in poll objects
        try:
            for fd, mask in events.items():
                try:
                    epoll.register(fd, mask)
                except OSError as error:
                    # As poll(2) has it: a regular file is always ready, a closed one invalid.
                    if error.errno not in (errno.EPERM, errno.EBADF):
                        raise
                    self._always.append((fd, mask if error.errno == errno.EPERM else _INVALID))
            self._loop.add_reader(epoll.fileno(), self._something)
        except BaseException:
            epoll.close()
            raise
        self._epoll = epoll

    def close(self) -> None:
        """Stop watching."""
        epoll, self._epoll = self._epoll, None
        if epoll is not None:
            if not self._loop.is_closed():
                self._loop.remove_reader(epoll.fileno())
            epoll.close()
