"""What the fuzzer starts from: the golden plans, and an archive of each kind that tests make."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterator
from pathlib import Path

from containerkit.model.healthcheck import Healthcheck
from containerkit.model.options import ContainerOptions
from tests.support.tars import END, entry, long_name, pax
from tests.unit.launch import test_execute, test_golden
from tests.unit.launch.plans import compiled


def plans() -> Iterator[bytes]:
    for options, changes in test_golden.CASES.values():
        yield compiled(options, **changes).encode()
    for choices in test_execute.CASES.values():
        yield test_execute.planned(**choices).encode()


SPARSE = {"GNU.sparse.major": b"1", "GNU.sparse.minor": b"0", "GNU.sparse.realsize": b"1000"}
ARCHIVES = {
    "kinds": [
        entry(b"d/", b"5", mode=0o755),
        entry(b"d/f", data=b"x" * 700, mode=0o4755, uid=1, gid=2),
        entry(b"l", b"2", link=b"d"),
        entry(b"h", b"1", link=b"d/f"),
        entry(b"l/x", data=b"through a link"),
        entry(b"fifo", b"6"),
        entry(b"null", b"3", device=(1, 3)),
        entry(b"loop", b"4", device=(7, 0)),
        entry(b"d", data=b"instead of a directory"),
    ],
    "whiteouts": [
        entry(b"d/.wh.gone"),
        entry(b"d/.wh..wh..opq"),
        entry(b".wh..wh.plnk/x", data=b"x"),
        entry(b"e/.wh.f"),
        entry(b"e/f/", b"5"),
    ],
    "pax": [
        pax({"path": b"new/name", "SCHILY.xattr.user.a": b"\0b", "mtime": b"-1.5", "uid": b"7"}),
        entry(b"old", data=b"0123456789"),
        pax({"linkpath": b"new/name"}),
        entry(b"link", b"2", link=b"cut"),
        pax({"size": b"5"}),
        entry(b"sized", data=b"01234"),
        pax({"comment": b"of all"}, b"g"),
        entry(b"f", data=b"x"),
    ],
    "gnu": [
        long_name(b"n" * 200),
        entry(b"cut", data=b"x"),
        long_name(b"a/" * 60 + b"target", b"K"),
        entry(b"l", b"2", link=b"cut", uid=b"\x80" + bytes(6) + b"\1", magic=b"ustar  \0"),
    ],
    "sparse 1.0": [
        pax(SPARSE),
        entry(b"s", data=b"2\n0\n5\n100\n5\n".ljust(512, b"\0") + b"0123456789"),
    ],
    "sparse 0.1": [
        pax({"GNU.sparse.size": b"1000", "GNU.sparse.map": b"0,5,100,5", "GNU.sparse.name": b"t"}),
        entry(b"s", data=b"0123456789"),
    ],
    "old sparse": [
        entry(
            b"s",
            b"S",
            b"0123456789",
            magic=b"ustar  \0",
            tail=bytes(41)
            + b"".join(b"%011o\0%011o\0" % pair for pair in ((0, 5), (100, 5), (0, 0), (0, 0)))
            + b"\0%011o\0" % 1000,
        )
    ],
    "out": [
        entry(b"l", b"2", link=b"../../victim"),
        entry(b"l/file", data=b"x"),
    ],
    "absolute": [
        entry(b"l", b"2", link=b"/mnt/victim"),
        entry(b"l/", b"5", mode=0o777),
        entry(b"h", b"1", link=b"l/file"),
    ],
}


def archives() -> Iterator[bytes]:
    """Archives, each with the byte of options that the targets take off the end."""
    for parts in ARCHIVES.values():
        yield b"".join(parts) + END + b"\2"
    for kind in (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT):
        file = io.BytesIO()
        with tarfile.open(fileobj=file, mode="w", format=kind) as tar:
            for name in ("a", "d" * 90 + "/" + "e" * 60):
                member = tarfile.TarInfo(name)
                member.size = 5
                tar.addfile(member, io.BytesIO(b"01234"))
        yield file.getvalue()[: 512 * 10] + b"\7"


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


CLOSED, REPORT, REQUEST, DIED = 0x31, 0x11, 0x09, 0x71
"""Events of a descriptor, as fuzz_launcher.c reads them; the next byte says of which."""
WORLD, LATER = 0x06, 0xFF
"""Other events: the next byte says what the world is like; some minutes have passed."""
CHILD = (10, 21, 32, 43, 65, 120, 153)
"""Worlds in which a clone returns in the child."""


def scripts() -> Iterator[bytes]:
    """Scripts for the launcher: a container, its start, a request about it, its end."""
    starting = [compiled(options, **c).encode() for options, c in test_golden.CASES.values()]
    checked: ContainerOptions = {
        "healthcheck": Healthcheck("true", interval=1),
        "restart": "always",
        "lifetime": "detached",
        "stdin_open": True,
    }
    kept = compiled(checked, ephemeral=False, kept=True).encode()
    execs = [test_execute.planned(**choices).encode() for choices in test_execute.CASES.values()]
    for number, plan in enumerate([*starting, kept]):
        for world in (number, *CHILD):
            yield bytes([world, 0, 1]) + _sized(plan)
        yield bytes([1, LATER, WORLD, 10, LATER]) + _sized(b"x") + _sized(plan)
        for which in range(3, 7):
            about = bytes([REPORT, which, 1, 0, 58, 0, 0])
            start = bytes([number, 0, 1]) + _sized(plan)
            yield start + about + bytes([CLOSED, which, DIED, 3, CLOSED, 3, CLOSED, 0])
    for which in range(3, 7):
        running = bytes([REPORT, which, 1, 0, 58, 0, 0, CLOSED, which, CLOSED, 2])
        for connection in (3, 4, 5):
            for request in _requests(execs):
                yield b"".join(
                    [
                        bytes([1, 0, 1]),
                        _sized(kept),
                        running,
                        bytes([REQUEST, connection]) + request,
                        bytes([LATER, DIED, 3, DIED, 4, LATER, DIED, 5, LATER, CLOSED, 0]),
                    ]
                )

    for which in range(3, 7):
        for report in range(4, 9):
            yield b"".join(
                [
                    bytes([1, 0, 1]),
                    _sized(kept),
                    bytes([REPORT, which, 1, 0, 58, 0, 0, CLOSED, which, CLOSED, 2]),
                    bytes([REQUEST, 4, 1, 0, 4 if report % 2 else 12]),
                    _sized(execs[report % len(execs)]),
                    bytes([REPORT, report, 1, 0, 0, 0, 1, REPORT, report, 1, 0, 58, 0, 0]),
                    bytes([CLOSED, report, WORLD, 0xF0, DIED, report, DIED, report + 1, LATER]),
                    bytes([WORLD, 4, CLOSED, 2, REQUEST, 5, 4, 1, 0, 0, LATER, LATER]),
                    bytes([CLOSED, 5, DIED, 3, DIED, 4, LATER, CLOSED, 0]),
                ]
            )


def _requests(execs: list[bytes]) -> Iterator[bytes]:
    update = struct.pack("<I", 3) + b"pids\0pids.max\0007\0"
    for kind in (0, 3, 4, 5, 6, 7, 8):
        yield bytes([kind, 9]) + _sized(update)
    for plan in execs:
        yield bytes([1, 0, 1]) + _sized(plan)
        # as the agent, and the process that it makes, see it
        yield (
            bytes([1, 0, 1])
            + _sized(plan)
            + bytes([WORLD, 10, REQUEST, 4, 1, 0, 1])
            + (_sized(plan) * 2)
        )


SEEDS = {"plan": plans, "tar": archives, "apply": archives, "launcher": scripts}


def write(target: str, folder: Path) -> None:
    """Put the seeds of a target into a folder, one file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(SEEDS[target]()):
        (folder / f"{number:03}").write_bytes(data)
