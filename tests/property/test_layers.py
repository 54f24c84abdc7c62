"""Whatever the tar stream, the tree is what a model says, or the error is typed; nothing outside moves."""

from __future__ import annotations

import io
import itertools
import shutil
import stat
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from containerkit.errors import ArchiveError, CorruptContent, HostError
from tests.support.tars import END, Place, describe, entry, unpack

pytestmark = pytest.mark.needs("host root")  # owners and devices of every kind

FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}
OPAQUE = (("trusted.overlay.opaque", b"y"),)

KINDS = {
    tarfile.REGTYPE: stat.S_IFREG,
    tarfile.DIRTYPE: stat.S_IFDIR,
    tarfile.SYMTYPE: stat.S_IFLNK,
    tarfile.CHRTYPE: stat.S_IFCHR,
    tarfile.BLKTYPE: stat.S_IFBLK,
    tarfile.FIFOTYPE: stat.S_IFIFO,
}


@contextmanager
def place() -> Iterator[Place]:
    """On tmpfs: the rules are the kernel's, the file system should not matter here."""
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="layers-") as top:
        yield Place(Path(top))


# ---- the model ---------------------------------------------------------------------------------


@attrs.define
class Node:
    """What stands at one or more paths."""

    info: tarfile.TarInfo | None  # None: a directory that no entry names
    data: bytes = b""
    opaque: bool = False
    whiteout: bool = False

    @property
    def is_directory(self) -> bool:
        return not self.whiteout and (self.info is None or self.info.isdir())


class Refused(Exception):
    """The model says: this archive has no meaning."""


class Model:
    """A layer as a mapping of paths; entries are applied as the image-spec and tar say."""

    def __init__(self) -> None:
        self.nodes: dict[str, Node] = {"": Node(None)}

    def enter(self, info: tarfile.TarInfo, data: bytes) -> None:
        parent, _, leaf = info.name.rpartition("/")
        self._make_parents(parent)
        if leaf == ".wh..wh..opq":
            self.nodes[parent].opaque = True
            return
        if leaf.startswith(".wh."):
            self._hide(parent, leaf.removeprefix(".wh."))
            return
        before = self.nodes.get(info.name)
        if info.isdir():
            replaces = before is not None and not before.is_directory
            opaque = before is not None and (replaces or before.opaque)
            if before is None or replaces:
                self._remove(info.name)
                before = self.nodes[info.name] = Node(info)
            before.info, before.opaque = info, opaque
        elif info.islnk():
            source = self.nodes.get(info.linkname)
            if source is None or source.is_directory or source.whiteout:
                raise Refused
            if info.linkname.startswith(f"{info.name}/"):  # it would go with what it replaces
                raise Refused
            if source is not before:
                self._remove(info.name)
                self.nodes[info.name] = source
        else:
            self._remove(info.name)
            self.nodes[info.name] = Node(info, data)

    def _make_parents(self, path: str) -> None:
        at = ""
        for name in path.split("/") if path else ():
            at = f"{at}/{name}" if at else name
            node = self.nodes.setdefault(at, Node(None))
            if node.whiteout:
                self.nodes[at] = Node(None, opaque=True)
            elif not node.is_directory:
                raise Refused

    def _hide(self, parent: str, name: str) -> None:
        path = f"{parent}/{name}" if parent else name
        node = self.nodes.get(path)
        if node is None:
            self.nodes[path] = Node(None, whiteout=True)
        elif node.is_directory:
            node.opaque = True

    def _remove(self, path: str) -> None:
        for other in [p for p in self.nodes if p == path or p.startswith(f"{path}/")]:
            del self.nodes[other]

    def tree(self) -> dict[str, Any]:
        first: dict[int, str] = {}
        ordered = sorted(self.nodes.items())
        return {
            path: self._described(node, first.setdefault(id(node), path)) for path, node in ordered
        }

    def _described(self, node: Node, first: str) -> tuple[Any, ...]:
        if node.whiteout:
            return (stat.S_IFCHR, None, (0, 0), (), first)
        attributes = OPAQUE if node.opaque else ()
        info = node.info
        if info is None:
            return (stat.S_IFDIR, None, None, attributes, first)
        content: object = None
        if info.isreg():
            content = len(node.data)
        elif info.issym():
            content = info.linkname
        elif info.ischr() or info.isblk():
            content = (info.devmajor, info.devminor)
        mode = 0o777 if info.issym() else info.mode
        owned = (mode, info.uid, info.gid, int(info.mtime))
        return (KINDS[info.type], owned, content, attributes, first)


def observed(root: Path, model: dict[str, Any]) -> dict[str, Any]:
    """The tree on disk in the model's terms: no owner and time where no entry gave one."""
    seen: dict[str, Any] = {}
    for name, (kind, mode, uid, gid, mtime, content, attributes, first) in describe(root).items():
        path = "" if name == "." else name
        owned: object = (mode, uid, gid, mtime // 10**9)
        if path in model and model[path][1] is None:
            owned = None
        size = content[0] if kind == stat.S_IFREG else content
        seen[path] = (kind, owned, size, attributes, "" if first == "." else first)
    return seen


# ---- strategies --------------------------------------------------------------------------------

NAMES = st.sampled_from(["a", "b", "c", "name with \u00fc", "n" * 90])
DIRECTORIES = st.lists(NAMES, max_size=3).map("/".join)


@st.composite
def members(draw: st.DrawFn) -> tuple[tarfile.TarInfo, bytes]:
    kind = draw(st.sampled_from([*KINDS, tarfile.LNKTYPE, b"whiteout"]))
    parent = draw(DIRECTORIES)
    # Links have names of their own: what lies behind a link is another test's subject.
    leaf = draw(st.sampled_from(["l1", "l2"]) if kind == tarfile.SYMTYPE else NAMES)
    if kind == b"whiteout":
        leaf = f".wh.{leaf}"
    info = tarfile.TarInfo(f"{parent}/{leaf}" if parent else leaf)
    info.type = tarfile.REGTYPE if kind == b"whiteout" else kind
    info.mode = draw(st.integers(0, 0o7777))
    info.uid, info.gid = draw(st.tuples(st.integers(0, 70_000), st.integers(0, 2_000_000)))
    info.mtime = draw(st.integers(0, 2**33 - 1))
    data = b""
    if kind == tarfile.REGTYPE:
        data = draw(st.binary(max_size=30)) * draw(st.sampled_from([1, 17, 400]))
        info.size = len(data)
    elif kind == tarfile.SYMTYPE:
        info.linkname = draw(st.sampled_from(["a", "/etc", "../../victim", "t" * 100]))
    elif kind == tarfile.LNKTYPE:
        target = draw(DIRECTORIES)
        name = draw(NAMES)
        info.linkname = f"{target}/{name}" if target else name
    else:
        info.devmajor, info.devminor = draw(st.tuples(st.integers(1, 4095), st.integers(0, 255)))
    return info, data


def archive_of(entries: list[tuple[tarfile.TarInfo, bytes]], kind: str) -> bytes | None:
    """The archive, or None when the format has no room for a name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=FORMATS[kind]) as archive:
        for info, data in entries:
            try:
                archive.addfile(info, io.BytesIO(data))
            except ValueError:
                return None
    return file.getvalue()


ARCHIVES = st.lists(members(), max_size=12)
CHUNKS = st.sampled_from([1, 3, 511, 512, 513, 5000, 1 << 20])


# ---- properties --------------------------------------------------------------------------------


def compare(
    entries: list[tuple[tarfile.TarInfo, bytes]], kind: str, chunk: int, openat2: bool
) -> None:
    data = archive_of(entries, kind)
    if data is None:
        return
    model = Model()
    refused = False
    try:
        for info, content in entries:
            model.enter(info, content)
    except Refused:
        refused = True
    with place() as here:
        if refused:
            with pytest.raises(ArchiveError):
                unpack(data, here.destination, chunk=chunk, openat2=openat2)
        else:
            count, size = unpack(data, here.destination, chunk=chunk, openat2=openat2)
            assert count == len(entries)
            assert size == sum(len(content) for _, content in entries)
            tree = model.tree()
            assert observed(here.destination, tree) == tree
        assert not here.touched


@given(ARCHIVES, st.sampled_from(sorted(FORMATS)), CHUNKS, st.booleans())
def test_the_tree_is_the_models(
    entries: list[tuple[tarfile.TarInfo, bytes]], kind: str, chunk: int, openat2: bool
) -> None:
    compare(entries, kind, chunk, openat2)


def member(kind: bytes, name: str = "a", link: str = "") -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode = kind, link, 0o755
    return info, b""


ABOUT_ONE_NAME = [
    *(member(kind) for kind in (tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE)),
    member(tarfile.REGTYPE, ".wh.a"),
    member(tarfile.REGTYPE, "a/b"),
    member(tarfile.REGTYPE, "a/.wh..wh..opq"),
    member(tarfile.LNKTYPE, "a", "c"),
    member(tarfile.LNKTYPE, "a", "a/b"),
    member(tarfile.REGTYPE, "c"),
    member(tarfile.REGTYPE, ".wh.c"),
]


@pytest.mark.parametrize("first", ABOUT_ONE_NAME, ids=lambda one: one[0].name + str(one[0].type))
def test_all_that_three_entries_can_do_with_one_name(first: tuple[tarfile.TarInfo, bytes]) -> None:
    """What random archives seldom have."""
    for rest in itertools.product(ABOUT_ONE_NAME, repeat=2):
        compare([first, *rest], "gnu", 1 << 20, openat2=True)


@given(
    st.binary(min_size=1, max_size=200).filter(lambda raw: b"\0" not in raw),
    st.sampled_from([b"0", b"1", b"2", b"5", b"6"]),
    st.binary(max_size=100).filter(lambda raw: b"\0" not in raw),
)
def test_any_name_stays_inside(name: bytes, kind: bytes, link: bytes) -> None:
    names = [name, b"../" + name, name + b"/../" + name, b"/" + name, b".wh." + name]
    for each in names:
        data = entry(b"l", b"2", link=b"../../victim") + entry(each, kind, link=link)
        with place() as here:
            try:
                unpack(data + entry(each + b"/x") + entry(b"l/" + each) + END, here.destination)
            except CorruptContent:
                pass
            assert not here.touched


@given(st.data())
def test_damaged_archives_fail_typed_and_stay_inside(data: st.DataObject) -> None:
    raw = archive_of(data.draw(ARCHIVES), data.draw(st.sampled_from(sorted(FORMATS))))
    damaged = bytearray(raw or END)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        how = data.draw(st.sampled_from(["byte", "checksummed", "cut", "twice", "zeros"]))
        if how in {"byte", "checksummed"}:
            damaged[at] = data.draw(st.integers(0, 255))
        if how == "checksummed":  # so that the damage gets past the checksum
            start = at - at % 512
            block = damaged[start : start + 512]
            if len(block) == 512:
                block[148:156] = b" " * 8
                damaged[start + 148 : start + 156] = b"%06o\0 " % sum(block)
        elif how == "cut":
            del damaged[at:]
        elif how == "twice":
            damaged += damaged[at - at % 512 :]
        elif how == "zeros":
            damaged[at : at + 8] = bytes(8)
        if not damaged:
            damaged = bytearray(END)
    with place() as here:
        try:
            unpack(bytes(damaged), here.destination, chunk=data.draw(CHUNKS))
        except (CorruptContent, HostError):
            pass
        assert not here.touched
        shutil.rmtree(here.destination)


@given(st.binary(max_size=3000))
def test_random_bytes_fail_typed(raw: bytes) -> None:
    with place() as here:
        try:
            unpack(raw, here.destination)
        except CorruptContent:
            pass
        assert not here.touched
