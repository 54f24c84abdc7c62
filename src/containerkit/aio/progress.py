"""Progress of a pull in a thread, told to a callback on the event loop.

Owns: the way of an event from one to the other, and of the callback's error back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from containerkit.state.cancel import current

if TYPE_CHECKING:
    from containerkit.model.progress import Progress
    from containerkit.state.cancel import CancelEvent
    from containerkit.stdio.threads import Workers

T = TypeVar("T")

Tell = Callable[["Progress"], object]


async def with_progress(
    workers: Workers,
    work: Callable[[Tell | None], T],
    tell: Tell | None,
    *,
    undo: Callable[[T], object] | None = None,
) -> T:
    """Do *work*, which may pull, in a thread; call *tell* on the running loop.

    What *tell* raises ends the pull and is raised here, with nothing left.
    """
    if tell is None:
        return await workers.call(lambda: work(None), undo=undo)
    relay = _Relay(tell)
    try:
        value = await workers.call(lambda: work(relay.event), undo=undo)
    except Exception as error:
        if relay.error is not None and error is not relay.error:
            raise relay.error from error
        raise
    if relay.error is not None:
        if undo is not None:
            await workers.call(lambda: undo(value))
        raise relay.error
    return value


class _Relay:
    """Takes events in one thread and hands them to a callback on the loop."""

    __slots__ = ("_loop", "_tell", "error")

    def __init__(self, tell: Tell) -> None:
        self._tell = tell
        self._loop = asyncio.get_running_loop()
        self.error: BaseException | None = None

    def event(self, progress: Progress) -> None:
        """Take an event, in the thread that pulls."""
        if self.error is not None:
            raise self.error
        self._loop.call_soon_threadsafe(self._deliver, progress, current())

    def _deliver(self, progress: Progress, cancelled: CancelEvent | None) -> None:
        if self.error is not None:
            return
        try:
            self._tell(progress)
        except BaseException as error:
            self.error = error
            if cancelled is not None:
                cancelled.set()
            if not isinstance(error, Exception):
                raise
