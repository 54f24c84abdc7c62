"""What is iterated with ``async for``: entries of a log, events, statistics.

Owns: the asynchronous iterator over an object of the blocking face that is iterated there.  The
next value is waited for on the loop; cancelling that wait loses nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Protocol, Self, TypeVar

from containerkit.stdio.aiodrive import adrive

if TYPE_CHECKING:
    from types import TracebackType

    from containerkit.stdio.waiting import Waiting

T_co = TypeVar("T_co", covariant=True)


class Source(Protocol[T_co]):
    """An iterator of the blocking face, as drivers of waits see it."""

    def _take(self) -> Waiting[T_co | None]:
        """Return the next value; None after the last one."""

    def close(self) -> None:
        """End it; harmless when repeated."""


class Stream(AsyncIterator[T_co]):
    """An asynchronous iterator; leaving its ``async with`` block, or its end, closes it."""

    __slots__ = ("_source",)

    def __init__(self, source: Source[T_co]) -> None:
        self._source = source

    async def __anext__(self) -> T_co:
        value = await adrive(self._source._take())
        if value is None:
            raise StopAsyncIteration
        return value

    async def aclose(self) -> None:
        """End it: there is no next value; harmless when repeated."""
        self._source.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._source.close()
