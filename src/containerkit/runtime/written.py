"""What a container has written, as a layer: the tar of one overlay's upper directory.

Owns: the OCI form of what `compare` finds: whiteouts, owners as the container counts them, nothing of
overlayfs's own; and refusing what a layer can not say.  The same files give the same bytes.
Must not: decide what differs, or hold more than one piece of a file.
Neighbours: `commit` hands the pieces to `images.commit`; `archive` has the headers.

Spec: image-spec layer.md, Representing Changes; capabilities(7), "File capability extended attribute
versioning".
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
import tarfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from containerkit.errors import LIMIT_HINT, ArchiveError, FileError, MissingFeature
from containerkit.model.idmap import NOBODY, IdMap
from containerkit.runtime.archive import XATTR, end_piece, entry_pieces, has_entry, header
from containerkit.runtime.beneath import attempt, closing, write_all
from containerkit.runtime.compare import Comparison
from containerkit.runtime.copies import CHUNK
from containerkit.runtime.sameness import AS_THEY_ARE, Owners
from containerkit.state import cancel

if TYPE_CHECKING:
    from containerkit.runtime.compare import Found, Marks

WHITEOUT: Final = ".wh."
OPAQUE: Final = ".wh..wh..opq"

_CAPABILITY: Final = f"{XATTR}security.capability"
_REVISION_2: Final = 0x02000000
_REVISION_3: Final = 0x03000000
_REVISION_MASK: Final = 0xFF000000
_PLAIN: Final = (0o755, 0, 0)
"""What the root of a layer is when nobody says so."""


class Room(NamedTuple):
    """How much a layer may hold: entries, and bytes of files, holes included."""

    entries: int
    size: int


class Upper(NamedTuple):
    """One overlay of a container.

    Attributes:
        upper: the directory of what was written.
        lowers: the layers' directories, top first.
        target: where it is in the container.
        hidden: paths at which something else is mounted.
        marks: what overlayfs's own attributes begin with.
    """

    upper: str
    lowers: tuple[str, ...]
    target: str
    hidden: tuple[str, ...]
    marks: Marks

    def pieces(self, room: Room, owners: Owners = AS_THEY_ARE) -> Generator[bytes, None, None]:
        """Yield the pieces of a layer; see `layer_pieces`."""
        comparison = Comparison(
            self.target, frozenset(self.hidden), marks=self.marks, owners=owners, whole=True
        )
        found = comparison.run(Path(self.upper), [Path(lower) for lower in self.lowers])
        return layer_pieces(found, marks=self.marks, room=room, ids=owners.upper)


def layer_pieces(
    found: Generator[Found, None, None], *, marks: Marks, room: Room, ids: IdMap | None = None
) -> Generator[bytes, None, None]:
    """Yield the pieces of a layer; none at all when nothing differs.

    Args:
        found: what does; closed at the end.
        marks: what overlayfs's own attributes begin with.
        room: how much there may be.
        ids: the container's: owners are as it counts them, and nobody where it has no such id.

    Raises:
        FileError: a layer can not say what is there.
        ArchiveError: there is no room for it.
        MissingFeature: overlayfs keeps it in a form that only itself reads.
        OSError: something can not be read.
    """
    links: dict[tuple[int, int], str] = {}
    written = entries = size = 0
    with contextlib.closing(found):
        for one in found:
            for info in _entries(one, links, f"{marks}.overlay.", ids):
                entries, size = entries + 1, size + info.size
                _refuse_too_much(one, room, entries, size)
                for piece in entry_pieces(info, one.fd):
                    yield piece
                    written += len(piece)
    if written:
        yield end_piece(written)


def _entries(
    one: Found, links: dict[tuple[int, int], str], mark: str, ids: IdMap | None
) -> Iterator[tarfile.TarInfo]:
    path = one.path.strip("/")
    parent, _, name = path.rpartition("/")
    if name.startswith(WHITEOUT):
        raise FileError(
            f"a layer can not have a file called {name}: that would say that another is gone",
            errno=errno.EINVAL,
            hint="rename it, or remove it",
            path=one.path,
        )
    if one.status is None or not has_entry(one.status):
        if one.kind != "added":  # a socket in the place of something of the image's
            yield tarfile.TarInfo(f"{parent}/{WHITEOUT}{name}".lstrip("/"))
        return
    info = header(one.fd, one.status, path or ".", links)
    _refuse_unreadable(one, info, mark)
    _fit(info, ids)
    plain = (info.mode, info.uid, info.gid) == _PLAIN and not any(map(_is_xattr, info.pax_headers))
    if not path and one.kind == "above" and plain:
        return
    yield info
    if one.hides:
        yield tarfile.TarInfo(f"{path}/{OPAQUE}")


def _is_xattr(record: str) -> bool:
    return record.startswith(XATTR)


def _refuse_unreadable(one: Found, info: tarfile.TarInfo, mark: str) -> None:
    """Refuse what would come out as something else than the container sees."""
    if any("=" in name for name in info.pax_headers):
        raise FileError(
            f"a layer can not have the attributes of {one.path}: one has '=' in its name",
            errno=errno.EINVAL,
            path=one.path,
        )
    if info.type not in {tarfile.REGTYPE, tarfile.DIRTYPE}:
        return
    if _has_reference(one.fd, mark):
        raise MissingFeature(
            f"{one.path} is kept by overlayfs as a reference to what it was before",
            hint="as root: echo N > /sys/module/overlay/parameters/redirect_dir, and the same"
            " with metacopy; then with a new container",
            feature="overlay",
        )


def _has_reference(fd: int, mark: str) -> bool:
    try:
        names = os.listxattr(f"/proc/self/fd/{fd}")
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    return not {f"{mark}redirect", f"{mark}metacopy"}.isdisjoint(names)


def _refuse_too_much(one: Found, room: Room, entries: int, size: int) -> None:
    if entries > room.entries or size > room.size:
        raise ArchiveError(
            f"a layer of it would have over {room.entries} entries or {room.size} bytes",
            hint=LIMIT_HINT,
            entry=one.path,
        )


def _fit(info: tarfile.TarInfo, ids: IdMap | None) -> None:
    """Have an entry belong to whom the container sees as its owner."""
    _fit_capabilities(info, ids)
    if ids is None:
        return
    uid, gid = ids.uid_inside(info.uid), ids.gid_inside(info.gid)
    # Nobody's rights are nothing to take on.
    if uid is None:
        info.mode &= ~stat.S_ISUID
    if gid is None:
        info.mode &= ~stat.S_ISGID
    info.uid = NOBODY if uid is None else uid
    info.gid = NOBODY if gid is None else gid


def _fit_capabilities(info: tarfile.TarInfo, ids: IdMap | None) -> None:
    """Write a file's capabilities as those of root, whoever that is; others' mean nothing."""
    records = dict(info.pax_headers)
    text = records.pop(_CAPABILITY, None)
    if text is None:
        return
    info.pax_headers = records
    value = text.encode("utf-8", "surrogateescape")
    if len(value) == 24 and struct.unpack_from("<I", value)[0] & _REVISION_MASK == _REVISION_3:
        magic, root = struct.unpack_from("<I", value)[0], struct.unpack_from("<I", value, 20)[0]
        if ids is None or ids.uid_inside(root) != 0:
            return
        value = struct.pack("<I", magic & ~_REVISION_MASK | _REVISION_2) + value[4:20]
    records[_CAPABILITY] = value.decode("utf-8", "surrogateescape")


# ---- in an ordinary user's namespace


def pieces_inside(
    root: Path, upper: Upper, room: Room, ids: IdMap | None
) -> Generator[bytes, None, None]:
    """Yield a layer where the ids of an ordinary user's containers are there to be read.

    Args:
        root: the engine's root directory.
        upper: what to read.
        room: how much there may be.
        ids: by which owners in the upper are counted there.
    """
    from containerkit.state.inside import Inside

    end, out = os.pipe2(os.O_CLOEXEC)
    with closing(end):
        try:
            arguments = {
                "out": out,
                "upper": upper._asdict(),
                "room": room._asdict(),
                "ids": None if ids is None else [ids.uids, ids.gids],
            }
            inside = Inside(root, f"{__name__}:write_inside", arguments, fds=(out,))
        finally:
            os.close(out)
        with inside:
            while piece := os.read(end, CHUNK):
                cancel.check()
                yield piece
            inside.result()


def write_inside(
    out: int, upper: dict[str, Any], room: dict[str, int], ids: list[Any] | None
) -> None:
    """Write a layer to a pipe, within the namespace."""
    owners = Owners(None if ids is None else IdMap(*ids))
    with attempt("commit", "/"):
        for piece in Upper(**upper).pieces(Room(**room), owners):
            write_all(out, piece)
