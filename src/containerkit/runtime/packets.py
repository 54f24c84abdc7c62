"""Packets between this process and its launcher, as `struct` formats of ``ck_wire.h``.

Owns the layout, both ways, and nothing else: no sockets, no decisions.  A test compares sizes and
numbers with the C header.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

MAGIC: Final = 0x57504B43
VERSION: Final = 1
CONTROLLERS_MAX: Final = 16
PLAN_INLINE: Final = 60 << 10

HELLO: Final = 1
START: Final = 2
LEAVE: Final = 3
KILL: Final = 8
WATCH: Final = 16
EXEC: Final = 17
SIGNAL: Final = 18
FREEZE: Final = 19
THAW: Final = 20
ATTACH: Final = 22
CLOSE_INPUT: Final = 23
READY: Final = 64
STARTED: Final = 65
FAILED: Final = 66
EXITED: Final = 67
DONE: Final = 68

STOP_ASKED: Final = 1
"""With SIGNAL: the container is not restarted any more."""

CLASSIC_OVERLAY: Final = 1
"""Overlays are made by mount(2), as before Linux 6.5."""

USER_MARKS: Final = 8
"""Overlays mark what is removed by user.* attributes."""

BARE: Final = 16
"""There are no namespaces to be had: containers are processes beside their launcher."""

SPARES: Final = 32
"""A child is kept parked for the next start."""

OUTSIDE: Final = 2
LONE: Final = 4
"""Where control groups are of version 2, the launcher lives in its group, not in its owner's."""

PACKET: Final = struct.Struct("<IHHII")
_HELLO: Final = struct.Struct(f"<32s{16 * CONTROLLERS_MAX}sQQIIII4096s")
REQUEST: Final = struct.Struct("<IHHII 64s 4I")
EVENT: Final = struct.Struct("<IHHII HHHHi 44x iiI 4x QQ 24x QQQ 8x")
"""A header, the report of a step, and of the container's record what tells an end."""

CAUSES: Final = (
    "exited",
    "signal",
    "oom",
    "timeout",
    "output",
    "owner-died",
    "removed",
    "lost",
    "pids",
)
"""Names of ``enum ck_cause``, by number."""


class Event(NamedTuple):
    """What the launcher says on a request's channel; the fields of another kind are 0."""

    kind: int
    section: int
    step: int
    code: int
    errnum: int
    aux: int
    exit_code: int
    signal: int
    cause: int
    started_ns: int
    finished_ns: int
    user_us: int
    system_us: int
    max_rss_kib: int


def packet(kind: int, *, size: int = 0, value: int = 0) -> bytes:
    """Return the header of a packet with *size* bytes behind it."""
    return PACKET.pack(MAGIC, VERSION, kind, size, value)


def hello(
    *,
    launcher_id: str,
    controllers: Sequence[str],
    n_common: int,
    root: bytes,
    root_key: tuple[int, int],
    netns_pool: int,
    idle_ms: int,
    flags: int = 0,
) -> bytes:
    """Return the packet that sets a fresh launcher up.

    Args:
        launcher_id: at most 31 ASCII characters; names its cgroup and its file in ``owners/``.
        controllers: in the order of the cgroup directories that travel with it.
        n_common: the first of them: every container has a group of each.
        root: path of the engine's root directory.
        root_key: device and inode of it.
        netns_pool: network namespaces kept ready.
        idle_ms: pause after which it prepares for the next start while others still run.
        flags: `CLASSIC_OVERLAY`, `SPARES`, `OUTSIDE`, `LONE`.
    """
    names = b"".join(name.encode("ascii").ljust(16, b"\0") for name in controllers)
    body = _HELLO.pack(
        launcher_id.encode("ascii"), names, *root_key, netns_pool, n_common, idle_ms, flags, root
    )
    return packet(HELLO, size=len(body)) + body


def request(
    kind: int, container_id: str, *, values: Sequence[int] = (), body: bytes = b""
) -> bytes:
    """Return a request about a kept container, the first packet of a connection.

    Args:
        kind: `WATCH`, `EXEC`, `SIGNAL`, …
        container_id: 64 hexadecimal digits.
        values: SIGNAL: signal or 0, number of the cause, `STOP_ASKED` or 0.  EXEC: 1 when the plan is
            a memfd.  FREEZE: 1 to thaw at the connection's end.
        body: EXEC: the plan.
    """
    size = REQUEST.size - PACKET.size + len(body)
    padded = (*values, 0, 0, 0, 0)[:4]
    head = REQUEST.pack(MAGIC, VERSION, kind, size, 0, container_id.encode("ascii"), *padded)
    return head + body


def parse_event(data: bytes) -> Event | None:
    """Return the event in a packet, None when it is none."""
    if len(data) != EVENT.size:
        return None
    magic, version, kind, _size, _value, *fields = EVENT.unpack(data)
    if magic != MAGIC or version != VERSION:
        return None
    return Event(kind, *fields)
