"""Starts that repeat: one compilation serves all that differ in nothing but the container's id.

Owns the memory of compiled plans.  A plan is remembered when it depends on its request alone: what
looks at the host (mounts, secrets, its network) is compiled each time.  The id appears in a plan
as itself and, in its first 12 digits, as the host name, always at the same length, so that the
encoded plan of one start becomes that of the next by replacing it.

Neighbours: `runner` asks here before it compiles.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.runtime.starts import Startable

STAND_IN: Final = os.urandom(32).hex()
"""The id that remembered plans are compiled with; no other text in them can hold it."""

_STAND_IN: Final = STAND_IN.encode()
_SHORT: Final = 12
_MOST: Final = 64

_PURE: Final = frozenset(
    {
        "entrypoint",
        "env",
        "hostname",
        "init",
        "labels",
        "limits",
        "log",
        "network",
        "platform",
        "pull",
        "security",
        "stdin_open",
        "tty",
        "user",
        "workdir",
    }
)


class Repeats:
    """Plans by request; usable from several threads, since a lost entry is only compiled again."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[Hashable, tuple[Plan, bytes]] = {}

    def find(self, key: Hashable, identity: str) -> tuple[Plan, bytes] | None:
        """Return the plan, with the stand-in as its id, and its bytes with *identity*."""
        known = self._known.get(key)
        if known is None:
            return None
        new = identity.encode()
        data = known[1].replace(_STAND_IN, new).replace(_STAND_IN[:_SHORT], new[:_SHORT])
        return known[0], data

    def remember(self, key: Hashable, plan: Plan) -> None:
        """Keep a plan that was compiled with the stand-in."""
        if len(self._known) >= _MOST:
            self._known.clear()
        self._known[key] = plan, plan.encode()

    def clear(self) -> None:
        """Forget everything: the facts about the host may be others now."""
        self._known.clear()


def key_of(
    image: Startable,
    command: Command | None,
    options: ContainerOptions,
    streams: tuple[str, ...],
) -> Hashable | None:
    """Return what a plan depends on, None when that is more than its request."""
    if not options.keys() <= _PURE or options.get("network") == "host":
        return None
    if getattr(options.get("limits"), "io", ()):  # devices may have other numbers next time
        return None
    given = tuple((name, _told_apart(value)) for name, value in options.items())
    words = command if command is None or isinstance(command, str) else tuple(command)
    key = (image.digest, image._rootfs, words, given, streams)
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _told_apart(value: object) -> object:
    """Return a value that equals no other kind's: False is not 0, which as a user means root."""
    if isinstance(value, Mapping):
        return tuple((name, _told_apart(one)) for name, one in value.items())
    return type(value), value
