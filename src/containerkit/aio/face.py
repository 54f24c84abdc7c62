"""What the classes of the asyncio face share: their documentation, and handles to come.

Owns: `face_of`, which completes docstrings from the blocking twin's, and `Eventual`.  Must not:
make the methods themselves: they are written by hand, so that every type checker reads them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, Generic, Protocol, Self, TypeVar

if TYPE_CHECKING:
    from types import TracebackType

C = TypeVar("C", bound=type)
F = TypeVar("F", bound=Callable[..., Any])


class Entered(Protocol):
    """What can be entered with ``async with``."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> object: ...


H = TypeVar("H", bound=Entered)


class Eventual(Awaitable[H], contextlib.AbstractAsyncContextManager[H], Generic[H]):
    """A handle that is yet to come: ``await`` it, or enter it with ``async with``.

    Nothing is done before that; leaving the block does what leaving the handle's own block does.
    """

    __slots__ = ("_handle", "_make")

    def __init__(self, make: Callable[[], Coroutine[Any, Any, H]]) -> None:
        self._make = make
        self._handle: H | None = None

    def __await__(self) -> Generator[Any, Any, H]:
        """Make the handle and return it."""
        return self._make().__await__()

    async def __aenter__(self) -> H:
        """Make the handle and enter it."""
        self._handle = await self._make()
        return await self._handle.__aenter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leave the handle."""
        assert self._handle is not None
        await self._handle.__aexit__(kind, error, trace)


class face_of:  # noqa: N801 -- used as a function; tools that only read see through this form
    """Let a class of this face, and its members, have the whole docstrings of their twins.

    What stands in the source is the summary line, which a test compares.
    """

    def __init__(self, blocking: type) -> None:
        self._blocking = blocking

    def __call__(self, own: C) -> C:
        """Complete a class, and return it."""
        own.__doc__ = self._blocking.__doc__
        for name, member in vars(own).items():
            twin = getattr(self._blocking, name, None)
            if not name.startswith("_") and twin is not None:
                _document(member, twin)
        return own


def like(blocking: Callable[..., Any]) -> Callable[[F], F]:
    """Do the same for a function."""

    def complete(own: F) -> F:
        own.__doc__ = blocking.__doc__
        return own

    return complete


def _document(member: Any, twin: Any) -> None:
    if isinstance(member, property):
        assert member.fget is not None
        # A property keeps the docstring it was made with, and that can be set.
        member.__doc__ = twin.__doc__
    elif callable(member) or isinstance(member, classmethod):  # no slot
        getattr(member, "__func__", member).__doc__ = twin.__doc__
