"""The handle of a container, whole.

Its parts, each a module: `handle` looks, `verbs` change it, `inside` talks with what runs in it,
`observed` is what is seen from outside.
"""

from __future__ import annotations

from typing import Self

from containerkit.runtime.observed import Observed
from containerkit.surface import present


class Container(Observed):
    """A container that was created or started; made by the engine, never by hand.

    It is equal to every other handle of the same container, in any process; a pickle of it is its
    root and id.  Properties are live.  Leaving a ``with`` block undoes what the call did that made
    the handle: a start or a create is undone by removing the container, unless it is detached; `get`
    and `list` have done nothing.

    Attributes:
        id: 64 hexadecimal digits.
    """

    __slots__ = ()

    def __enter__(self) -> Self:  # here, so that tools which read only this know what it is
        return self


present(Container)
