"""A copy of layers is what an overlay of them shows, tree for tree; with other ids, but for these."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import resource
import stat
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from containerkit.errors import CorruptContent, HostError, PermissionDenied
from containerkit.model.idmap import IdMap
from containerkit.snapshots.copy import Merged, merge

pytestmark = pytest.mark.needs("host root")  # mounts, owners, and devices of every kind

IDS = IdMap.of_range(1 << 30)
CAPABILITY = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # net_bind_service, effective
MARKS = {"trusted": "", "user": "userxattr,"}

libc = ctypes.CDLL(None, use_errno=True)


# ---- layers ------------------------------------------------------------------------------------


@attrs.frozen
class Node:
    """What stands at a path of a layer; a directory has others in it."""

    kind: str
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    data: bytes = b""
    attribute: str = ""
    opaque: bool = False
    within: Mapping[str, Node] = attrs.Factory(dict)


NAMES = st.sampled_from(["a", "b", "c", "e"])
KINDS = ["file", "file", "file", "symlink", "whiteout", "whiteout", "fifo", "socket", "device"]
IDENTITIES = st.sampled_from([0, 1, 1000, 65534, 65535, 65536, 4000000000])
MODES = st.sampled_from([0o644, 0o755, 0o4755, 0o2711, 0o1777, 0o000, 0o6750])
COMMON: dict[str, Any] = {
    "mode": MODES,
    "uid": IDENTITIES,
    "gid": IDENTITIES,
    "mtime": st.integers(0, 1 << 33),
    "attribute": st.sampled_from(["", "", "user.x", "security.capability"]),
}
LEAVES = st.builds(
    Node, kind=st.sampled_from([*KINDS, "link"]), data=st.binary(max_size=3), **COMMON
)


def directories(within: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    inner = st.dictionaries(NAMES, within, max_size=4)
    opaque = st.integers(0, 2).map(lambda number: number == 0)
    return st.builds(Node, kind=st.just("directory"), opaque=opaque, within=inner, **COMMON)


TREES = directories(st.recursive(LEAVES, directories, max_leaves=6))
LAYERS = st.lists(TREES, min_size=2, max_size=4)


def build(node: Node, place: Path, marks: str, made: list[Path]) -> None:
    """Make a node of a layer; links are to what was made before in it, if anything was."""
    path = str(place)
    if node.kind == "directory":
        place.mkdir(exist_ok=True)
        for name, inner in node.within.items():
            build(inner, place / name, marks, made)
        if node.opaque:
            os.setxattr(path, f"{marks}.overlay.opaque", b"y")
    elif node.kind == "whiteout":
        os.mknod(path, stat.S_IFCHR, 0)
        return
    elif node.kind == "link" and made:
        os.link(made[len(node.data) % len(made)], path, follow_symlinks=False)
        return
    elif node.kind == "symlink":
        place.symlink_to("/etc/" + node.data.hex())
    elif node.kind == "fifo":
        os.mkfifo(path)
    elif node.kind == "socket":
        os.mknod(path, stat.S_IFSOCK)
    elif node.kind == "device":
        os.mknod(path, stat.S_IFBLK, os.makedev(7, len(node.data)))
    else:
        place.write_bytes(node.data)
    if node.kind != "directory":
        made.append(place)
    os.chown(path, node.uid, node.gid, follow_symlinks=False)
    if node.kind in ("file", "directory") and node.attribute == "user.x":
        os.setxattr(path, "user.x", b"value")
    if node.kind == "file" and node.attribute == "security.capability":
        os.setxattr(path, "security.capability", CAPABILITY)
    if node.kind != "symlink":
        os.chmod(path, node.mode)
    os.utime(path, ns=(1, node.mtime * 1000 + 7), follow_symlinks=False)


@contextmanager
def place() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/dev/shm", prefix="copies-") as top:
        (Path(top) / "copy").mkdir()
        (Path(top) / "merged").mkdir()
        yield Path(top)


@contextmanager
def overlay(lowers: list[Path], target: Path, marks: str) -> Iterator[Path]:
    options = f"{MARKS[marks]}lowerdir={':'.join(map(str, lowers))}".encode()
    if libc.mount(b"overlay", bytes(target), b"overlay", 0, options):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    try:
        yield target
    finally:
        assert libc.umount2(bytes(target), 0) == 0


def described(top: Path) -> dict[str, tuple[Any, ...]]:
    """Everything below a directory that can be looked up: an overlay lists some whiteouts too."""
    found: dict[str, tuple[Any, ...]] = {}
    first: dict[int, str] = {}
    pending = [top]
    while pending:
        path = pending.pop()
        try:
            status = path.lstat()
        except FileNotFoundError:
            continue
        name = os.path.relpath(path, top)
        content: object = None
        attributes: list[tuple[str, bytes]] = []
        if stat.S_ISDIR(status.st_mode):
            pending += sorted(path.iterdir(), reverse=True)
        elif stat.S_ISREG(status.st_mode):
            content = hashlib.sha256(path.read_bytes()).hexdigest(), status.st_size
        elif stat.S_ISLNK(status.st_mode):
            content = os.readlink(path)
        else:
            content = status.st_rdev
        if stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode):
            attributes = [(one, os.getxattr(path, one)) for one in sorted(os.listxattr(path))]
        same = name if stat.S_ISDIR(status.st_mode) else first.setdefault(status.st_ino, name)
        owner = status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)
        kind = stat.S_IFMT(status.st_mode)
        found[name] = kind, owner, status.st_mtime_ns, content, tuple(attributes), same
    return found


def shifted(seen: dict[str, tuple[Any, ...]], ids: IdMap) -> dict[str, tuple[Any, ...]]:
    """What a description becomes for the root of a user namespace, as the host sees it."""
    found = {}
    for name, (kind, (uid, gid, mode), mtime, content, attributes, same) in seen.items():
        new = ids.uid_outside(uid), ids.gid_outside(gid)
        lost = (0o4000 if new[0] is None else 0) | (0o2000 if new[1] is None else 0)
        owner = *(65534 if one is None else one for one in new), mode & ~lost
        root = struct.pack("<I", ids.uid_outside(0) or 0)
        rewritten = struct.pack("<I", 0x03000001) + CAPABILITY[4:] + root
        others = tuple(
            (one, rewritten if one == "security.capability" else value) for one, value in attributes
        )
        found[name] = kind, owner, mtime, content, others, same
    return found


def copied(lowers: list[Path], target: Path, **how: Any) -> Merged:
    done = merge(lowers, target, **how)
    assert done.entries == len(described(target))
    assert not done.left_out
    return done


# ---- tests -------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(LAYERS, st.sampled_from(["trusted", "user"]))
def test_a_copy_is_what_an_overlay_shows(layers: list[Node], marks: str) -> None:
    with place() as top:
        lowers = [top / str(number) for number in range(len(layers))]
        for node, lower in zip(layers, lowers, strict=True):
            build(node, lower, marks, [])
        with overlay(lowers, top / "merged", marks) as merged:
            expected = described(merged)
        copied(lowers, top / "copy")
        assert described(top / "copy") == expected
        (top / "other").mkdir()
        copied(lowers, top / "other", ids=IDS)
        assert described(top / "other") == shifted(expected, IDS)


def test_an_opaque_directory_and_a_whiteout_hide(tmp_path: Path) -> None:
    """By hand, so that both sides of the comparison can not be wrong together."""
    within = {"f": Node("file"), "d": Node("directory", within={"x": Node("file")})}
    for name, node in (
        ("0", Node("directory", within={"f": Node("whiteout")})),
        ("1", Node("directory", within={"d": Node("directory", opaque=True)})),
        ("2", Node("directory", within=within)),
    ):
        build(node, tmp_path / name, "user", [])
    for lowers, left in (
        ("2", {".", "f", "d", "d/x"}),
        ("12", {".", "f", "d"}),
        ("02", {".", "d", "d/x"}),
    ):
        (tmp_path / f"of-{lowers}").mkdir()
        copied([tmp_path / name for name in lowers], tmp_path / f"of-{lowers}")
        assert set(described(tmp_path / f"of-{lowers}")) == left


def test_a_whiteout_by_an_attribute(tmp_path: Path) -> None:
    """As overlayfs has them where it may not make devices."""
    top, low, copy = (tmp_path / name for name in ("top", "low", "copy"))
    for path in (top, low, copy):
        path.mkdir()
    for name in ("gone", "stays"):
        (low / name).write_bytes(b"low")
        (top / name).touch()
    (top / "stays").write_bytes(b"!")
    for name in ("gone", "stays"):
        os.setxattr(top / name, "user.overlay.whiteout", b"y")
    os.setxattr(top, "user.overlay.opaque", b"x")
    merge([top, low], copy)
    assert {path.name: path.read_bytes() for path in copy.iterdir()} == {"stays": b"!"}
    assert os.listxattr(copy / "stays") == []


@pytest.mark.parametrize("refused", [(), ("FICLONE",), ("FICLONE", "copy_file_range")], ids=len)
def test_holes_stay(
    tmp_path: Path, refused: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(22, "refused")

    if "FICLONE" in refused:
        monkeypatch.setattr(fcntl, "ioctl", refuse)
    if "copy_file_range" in refused:
        monkeypatch.setattr(os, "copy_file_range", refuse)
    (tmp_path / "low").mkdir()
    (tmp_path / "copy").mkdir()
    with open(tmp_path / "low" / "sparse", "wb") as file:
        for at in (0, 5 << 20, 9 << 20):
            file.seek(at)
            file.write(b"data" * 1024)
        file.truncate(1 << 30)
    assert merge([tmp_path / "low"], tmp_path / "copy").size == 1 << 30
    after = (tmp_path / "copy" / "sparse").stat()
    assert (after.st_size, after.st_blocks * 512 < 64 << 20) == (1 << 30, True)
    with open(tmp_path / "copy" / "sparse", "rb") as made:
        for at in (0, 5 << 20, 9 << 20):
            made.seek(at)
            assert made.read(8192) == b"data" * 1024 + bytes(4096)


def test_trees_deeper_than_paths_and_descriptors(tmp_path: Path) -> None:
    lowers = [tmp_path / "0", tmp_path / "1"]
    here = os.getcwd()
    try:
        for lower in lowers:
            lower.mkdir()
            os.chdir(lower)
            for _ in range(300):
                os.mkdir("d" * 30)
                os.chdir("d" * 30)
            Path(lower.name).touch()
    finally:
        os.chdir(here)
    (tmp_path / "copy").mkdir()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    few = max(map(int, os.listdir("/proc/self/fd"))) + 40
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(few, before[0]), before[1]))
        done = merge(lowers, tmp_path / "copy")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert done.entries == 303


def test_devices_that_may_not_be_made_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = os.mknod

    def refuse(path: str, mode: int, device: int = 0, *, dir_fd: int | None = None) -> None:
        if device:
            raise PermissionError(1, "refused")
        make(path, mode, device, dir_fd=dir_fd)

    within = {"null": Node("device"), "fifo": Node("fifo")}
    dev = Node("directory", within={"dev": Node("directory", within=within)})
    build(dev, tmp_path / "low", "user", [])
    (tmp_path / "copy").mkdir()
    monkeypatch.setattr(os, "mknod", refuse)
    done = merge([tmp_path / "low"], tmp_path / "copy")
    assert (done.left_out, done.told, done.entries) == (1, ("/dev/null",), 3)


def test_without_owners_all_is_ours(tmp_path: Path) -> None:
    file = Node("file", uid=5, gid=6, attribute="security.capability", mode=0o755)
    build(Node("directory", uid=7, within={"f": file}), tmp_path / "low", "user", [])
    (tmp_path / "copy").mkdir()
    merge([tmp_path / "low"], tmp_path / "copy", owners=False)
    status = (tmp_path / "copy" / "f").stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o7777) == (0, 0, 0o755)
    assert os.listxattr(tmp_path / "copy" / "f") == []


def test_what_is_refused_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    low, copy = tmp_path / "low", tmp_path / "copy"
    copy.mkdir()
    with pytest.raises(HostError, match="low"):
        merge([low], copy)
    low.symlink_to("copy")
    with pytest.raises(HostError, match="low"):
        merge([low], copy)
    low.unlink()
    within = {"d": Node("directory", within={"f": Node("file", data=b"1")})}
    build(Node("directory", within=within), low, "user", [])

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fchown", refuse)
        with pytest.raises(PermissionDenied, match="/d/f") as caught:
            merge([low], copy)
        assert caught.value.errno == 1

    stat_of = os.stat

    def swapped(name: Any, **how: Any) -> os.stat_result:
        found = stat_of(name, **how)
        if name == "f":
            os.unlink(name, dir_fd=how["dir_fd"])
            os.mkfifo(name, dir_fd=how["dir_fd"])
        return found

    (tmp_path / "again").mkdir()
    monkeypatch.setattr(os, "stat", swapped)
    with pytest.raises(CorruptContent, match="f"):
        merge([low], tmp_path / "again")
