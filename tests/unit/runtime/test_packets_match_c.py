"""Packets have the layout and the numbers of ck_wire.h."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from containerkit.launch import ops
from containerkit.runtime import packets

HEADER = Path(__file__).parents[3] / "src" / "_native" / "ck_wire.h"
TEXT = re.sub(r"/\*.*?\*/", "", HEADER.read_text(encoding="utf-8"), flags=re.DOTALL)


def enum(name: str) -> dict[str, int]:
    """Return the members of a C enum, in order."""
    match = re.search(rf"enum\s*{name}\s*\{{(.*?)\}}", TEXT, flags=re.DOTALL)
    assert match
    found: dict[str, int] = {}
    following = 0
    for member in filter(None, (part.strip() for part in match[1].split(","))):
        key, equals, value = (part.strip() for part in member.partition("="))
        following = int(value, 0) if equals else following
        found[key] = following
        following += 1
    return found


def size_of(name: str) -> int:
    match = re.search(rf"_Static_assert\(sizeof\(struct {name}\) == (\d+)", TEXT)
    assert match
    return int(match[1])


@pytest.mark.parametrize("name", list(enum("ck_packet_kind")))
def test_kinds(name: str) -> None:
    assert getattr(packets, name.removeprefix("CK_")) == enum("ck_packet_kind")[name]


def test_constants() -> None:
    plain = enum("")
    assert plain["CK_WIRE_MAGIC"] == packets.MAGIC
    assert plain["CK_WIRE_VERSION"] == packets.VERSION
    assert plain["CK_CONTROLLERS"] == packets.CONTROLLERS_MAX
    assert plain["CK_FDS_MAX"] == ops.SLOTS + 2
    assert packets.PLAN_INLINE == ops.PLAN_INLINE
    assert enum("ck_signal_flag") == {"CK_STOP_ASKED": packets.STOP_ASKED}
    assert enum("ck_hello_flag") == {
        "CK_CLASSIC_OVERLAY": packets.CLASSIC_OVERLAY,
        "CK_OUTSIDE": packets.OUTSIDE,
        "CK_LONE": packets.LONE,
        "CK_USER_MARKS": packets.USER_MARKS,
        "CK_BARE": packets.BARE,
        "CK_SPARES": packets.SPARES,
    }


def test_sizes() -> None:
    assert packets.PACKET.size == size_of("ck_packet")
    assert packets.REQUEST.size == size_of("ck_request")
    assert (
        len(packets.request(packets.SIGNAL, "ab" * 32, values=(15, 0, 1))) == packets.REQUEST.size
    )
    assert packets.EVENT.size == size_of("ck_event")
    data = packets.hello(
        launcher_id="ab",
        controllers=["pids"],
        n_common=1,
        root=b"/r",
        root_key=(1, 2),
        netns_pool=3,
        idle_ms=20,
    )
    assert len(data) == size_of("ck_hello")
    assert packets.PACKET.unpack(data[:16])[3] == len(data) - 16


def test_causes() -> None:
    """In the order of their numbers; C abbreviates some."""
    causes = enum("ck_cause")
    assert list(causes.values()) == list(range(len(packets.CAUSES)))
    for name, word in zip(causes, packets.CAUSES, strict=True):
        assert word.startswith(name.removeprefix("CK_CAUSE_").lower()[:4])


def test_events() -> None:
    """Every field comes back where it was put."""
    numbers = (packets.EXITED, 1, 2, 3, 4, -5, 6, 7, 2, 9, 10, 11, 12, 13)
    kind, *fields = numbers
    head = (packets.MAGIC, packets.VERSION, kind, packets.EVENT.size - 16, 0)
    data = packets.EVENT.pack(*head, *fields)
    assert packets.parse_event(data) == packets.Event(*numbers)
    assert packets.parse_event(data[:-1]) is None
    assert packets.parse_event(b"") is None
    assert packets.parse_event(b"\0" * packets.EVENT.size) is None
