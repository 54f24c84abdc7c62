"""Tar archives byte by byte, and trees as values: what tests of the layers compare.

`entry` writes what no tar program would; `describe` reads a tree back; `attacked` is a place with
something to lose beside a destination.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from containerkit._native.applier import Applier

BLOCK = 512
END = bytes(2 * BLOCK)
TAR = "application/vnd.oci.image.layer.v1.tar"


def octal(value: int, width: int) -> bytes:
    return b"%0*o\0" % (width - 1, value)


def base256(value: int, width: int) -> bytes:
    """A number in GNU's binary form, the mark bit set."""
    raw = bytearray((value % (1 << (8 * width))).to_bytes(width, "big"))
    raw[0] |= 0x80
    return bytes(raw)


def checksummed(header: bytes) -> bytes:
    """The header with its checksum put right."""
    blank = header[:148] + b" " * 8 + header[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


def header(
    name: bytes,
    kind: bytes = b"0",
    *,
    size: int | bytes = 0,
    link: bytes = b"",
    mode: int = 0o644,
    uid: int | bytes = 0,
    gid: int | bytes = 0,
    mtime: int | bytes = 0,
    device: tuple[int, int] = (0, 0),
    magic: bytes = b"ustar\x0000",
    tail: bytes = b"",
) -> bytes:
    """One header block; numbers given as bytes stand in their field as they are."""

    def number(value: int | bytes, width: int) -> bytes:
        return value.ljust(width, b"\0") if isinstance(value, bytes) else octal(value, width)

    return checksummed(
        b"".join(
            [
                name[:100].ljust(100, b"\0"),
                octal(mode, 8),
                number(uid, 8),
                number(gid, 8),
                number(size, 12),
                number(mtime, 12),
                b" " * 8,
                kind,
                link[:100].ljust(100, b"\0"),
                magic,
                bytes(64),
                octal(device[0], 8),
                octal(device[1], 8),
                tail.ljust(167, b"\0"),
            ]
        )
    )


def entry(name: bytes, kind: bytes = b"0", data: bytes = b"", **fields: Any) -> bytes:
    """A header with its data; fields as for `header`."""
    return header(name, kind, **{"size": len(data), **fields}) + padded(data)


def records(fields: Mapping[str, bytes] | Iterable[tuple[str, bytes]]) -> bytes:
    """PAX records."""
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    done = b""
    for key, value in pairs:
        body = b" " + key.encode() + b"=" + value + b"\n"
        length = len(body)
        while length != len(b"%d" % length + body):
            length = len(b"%d" % length + body)
        done += b"%d" % length + body
    return done


def pax(fields: Mapping[str, bytes] | Iterable[tuple[str, bytes]], kind: bytes = b"x") -> bytes:
    """An extended header for the entry that follows."""
    return entry(b"pax", kind, records(fields))


def long_name(name: bytes, kind: bytes = b"L") -> bytes:
    """GNU's header for a long path (L) or link (K)."""
    return entry(b"././@LongLink", kind, name + b"\0", magic=b"ustar  \0")


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


# ---- applying --------------------------------------------------------------------------------


def unpack(
    data: bytes,
    destination: Path,
    *,
    chunk: int = 1 << 20,
    openat2: bool = True,
    user_xattrs: bool = bool(os.geteuid()),
    limits: Mapping[str, int] | None = None,
) -> tuple[int, int]:
    """Feed a tar stream to an applier, in a thread as its rules want; returns entries and bytes.

    For an ordinary user, as for one with no other ids: every file is its own.
    """
    options: dict[str, Any] = {
        "max_entries": 10_000,
        "max_bytes": 64 << 20,
        "max_depth": 64,
        "max_xattr_bytes": 1 << 16,
        "max_meta_bytes": 1 << 20,
    }

    def run() -> tuple[int, int]:
        directory = os.open(destination, os.O_RDONLY | os.O_DIRECTORY)
        try:
            applier = Applier(
                directory,
                openat2=openat2,
                user_xattrs=user_xattrs,
                own_ids=os.geteuid() != 0,
                **(options | dict(limits or {})),
            )
        finally:
            os.close(directory)
        with applier:
            for piece in pieces(data, chunk):
                applier.feed(piece)
            return applier.finish()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


def as_this_user(root: Path) -> dict[str, Any]:
    """Return by which options of `apply_layer` this user unpacks, in whose root that is."""
    if os.geteuid() == 0:
        return {}
    root.mkdir(exist_ok=True)
    return {"namespace_of": root, "whiteout_format": "overlay-user"}


# ---- trees -------------------------------------------------------------------------------------


def describe(root: Path, *, times: bool = True) -> dict[str, tuple[Any, ...]]:
    """Everything below root (root itself is "."), as comparable values.

    Each is (kind, mode, uid, gid, mtime in ns, what it holds, xattrs, first path of the same inode).
    """
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[int, str] = {}
    for path in [root, *sorted(root.rglob("*"), key=os.fsencode)]:
        status = path.lstat()
        name = os.fsdecode(os.path.relpath(path, root))
        content: object = None
        if stat.S_ISREG(status.st_mode):
            content = (status.st_size, hashlib.sha256(path.read_bytes()).hexdigest())
        elif stat.S_ISLNK(status.st_mode):
            content = str(path.readlink())
        elif stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
            content = (os.major(status.st_rdev), os.minor(status.st_rdev))
        found[name] = (
            stat.S_IFMT(status.st_mode),
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns if times else None,
            content,
            xattrs(path),
            name if path.is_dir() else first.setdefault(status.st_ino, name),
        )
    return found


def xattrs(path: Path) -> tuple[tuple[str, bytes], ...]:
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)


class Place:
    """A destination and, beside it, a victim that nothing may touch."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.destination = top / "layers" / "destination"
        self.destination.mkdir(parents=True)
        victim = top / "victim"
        victim.mkdir()
        (victim / "file").write_bytes(b"precious")
        (victim / "directory").mkdir()
        (victim / "directory" / "inner").write_bytes(b"precious too")
        (top / "layers" / "file").write_bytes(b"beside")
        for path in top.rglob("*"):
            os.utime(path, (1, 1))
        self._before = self._outside()

    def _outside(self) -> dict[str, tuple[Any, ...]]:
        inside = os.path.relpath(self.destination, self.top)
        found = describe(self.top)
        return {
            name: (*seen, (self.top / name).lstat().st_nlink)
            for name, seen in found.items()
            if name != inside and not name.startswith(f"{inside}/")
        }

    @property
    def touched(self) -> bool:
        """Whether anything outside of the destination is other than it was."""
        return self._outside() != self._before
