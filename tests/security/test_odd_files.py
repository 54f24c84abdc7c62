"""Files that a container made to be looked at: as long as a disk can not be, named like nothing else, in
trees that cost it next to nothing.

Who reads, copies, archives or compares them gets a bounded answer or a typed error.  No container
runs here: the files are those that `Files` and `Container.diff` find there.
"""

from __future__ import annotations

import io
import itertools
import lzma
import os
import socket
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

import pytest

from containerkit.errors import ArchiveError, FileError, FileTooLarge, HostError
from containerkit.runtime import changes, copies, export, trees
from containerkit.runtime.archive import tar_pieces
from containerkit.runtime.fileinfo import FileInfo
from containerkit.runtime.files import Files
from containerkit.runtime.rootplan import RootPlan, Stack
from containerkit.state import cancel

HUGE = 1 << 36


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "root" / "t").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def files(top: Path) -> Files:
    @contextmanager
    def reach() -> Iterator[int]:
        fd = os.open(top, os.O_PATH)
        try:
            yield fd
        finally:
            os.close(fd)

    return Files(reach)


def piece_after_piece(top: Path) -> Iterator[bytes]:
    fd = os.open(top, os.O_PATH)
    try:
        yield from tar_pieces(fd, "")
    finally:
        os.close(fd)


# ---- holes


@pytest.fixture
def hole(top: Path) -> Path:
    with open(top / "t/hole", "wb") as file:
        file.seek(HUGE // 2)
        file.write(b"middle")
        try:
            file.truncate(HUGE)
        except OSError:
            pytest.skip("no file of this file system is that long")
    return top / "t/hole"


def test_it_is_not_read_into_memory(files: Files, hole: Path) -> None:
    with pytest.raises(FileTooLarge):
        files.read_bytes("/t/hole")
    with pytest.raises(FileTooLarge):
        files.read_text("/t/hole")
    assert hole.stat().st_size == HUGE  # the control: there it is
    os.truncate(hole, 10)
    assert files.read_bytes("/t/hole") == bytes(10)


def test_a_tar_of_it_is_given_up(files: Files, hole: Path) -> None:
    with files.archive("/t", max_size="1GiB") as tar, pytest.raises(FileTooLarge):
        for _ in tar:
            pass
    with files.archive("/t", max_size=HUGE) as tar:  # the control
        assert next(iter(tar))


def test_a_tar_of_it_takes_no_disk(top: Path, hole: Path, tmp_path: Path) -> None:
    export._write(tmp_path / "tar", piece_after_piece(top))
    assert os.stat(tmp_path / "tar").st_size > HUGE
    assert os.stat(tmp_path / "tar").st_blocks < 1 << 16
    with tarfile.open(tmp_path / "tar") as tar, open(tmp_path / "tar", "rb") as data:
        [member] = [one for one in tar if one.isreg()]
        assert member.size == HUGE
        data.seek(member.offset_data + HUGE // 2 - 1)
        assert data.read(8) == b"\0middle\0"


def test_a_tar_of_it_ends_with_its_task(top: Path, hole: Path) -> None:
    with cancel.cancellable() as event:
        pieces = piece_after_piece(top)
        next(pieces)
        event.set()
        with pytest.raises(HostError, match="cancelled"):
            for _ in itertools.islice(pieces, 100):
                pass


def own(name: str) -> tarfile.TarInfo:
    """Return a member that belongs to who extracts it."""
    info = tarfile.TarInfo(name)
    info.uid, info.gid = os.geteuid(), os.getegid()
    return info


def sparse(*, extent: str = f"{HUGE - 1}\n1\n") -> bytes:
    """Return a tar of one huge file, with a byte at its end; GNU's format 1.0 of holes."""
    described = own("hole")
    described.size = 513
    described.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "hole",
        "GNU.sparse.realsize": str(HUGE),
    }
    head = described.tobuf(tarfile.PAX_FORMAT)
    return head + f"1\n{extent}".encode().ljust(512, b"\0") + b"x".ljust(512, b"\0") + bytes(1024)


def test_one_of_a_tar_stays_a_hole(files: Files, top: Path) -> None:
    assert files.extract("/t", sparse()).size == HUGE
    status = os.stat(top / "t/hole")
    assert (status.st_size, status.st_blocks < 100) == (HUGE, True)
    with open(top / "t/hole", "rb") as file:
        file.seek(-1, os.SEEK_END)
        assert file.read() == b"x"
    with pytest.raises(FileTooLarge):
        files.extract("/t", sparse(), max_size="1GiB")


# ---- names, and how many


def test_an_attribute_that_is_no_text(files: Files, top: Path) -> None:
    """A pax record has a key in UTF-8: what has none is left out, and the rest is there."""
    path = os.fsencode(top / "t/file")
    (top / "t/file").write_bytes(b"x")
    try:
        os.setxattr(path, b"user.\xff\xfe", b"odd")
    except OSError:
        pytest.skip("no attributes here")
    os.setxattr(path, b"user.good", b"y")
    with files.archive("/t") as stream:
        content = stream.read()
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        found = tar.getmember("t/file").pax_headers
    assert {name for name in found if "xattr" in name} == {"SCHILY.xattr.user.good"}


@pytest.mark.parametrize("mtime", [2.0**62, -(2.0**62), float("inf"), float("nan")])
def test_a_time_that_is_none(mtime: float) -> None:
    info = FileInfo("x", "file", 0, 0o644, 0, 0, mtime)
    assert info.modified.year in {1, 9999}


def test_more_names_than_fit_into_memory(
    files: Files, top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(50):
        (top / "t" / str(number)).touch()
    assert len(files.list("/t")) == 50  # the control
    monkeypatch.setattr(trees, "NAMES", 49)
    for attempt in (
        lambda: files.list("/t"),
        lambda: files.get("/t", tmp_path / "got"),
        lambda: list(files.archive("/t")),
        lambda: files.remove("/t", recursive=True),
        lambda: changes_in(top),
    ):
        with pytest.raises((FileError, OSError), match="more than 49 names"):
            attempt()


def test_a_name_that_comes_twice_is_one(top: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a listing may show what is replaced meanwhile: first as a link, then as a directory."""
    (top / "t/name").touch()
    scandir = os.scandir

    class Twice:
        def __init__(self, directory: Any) -> None:
            with scandir(directory) as entries:
                self.found = list(entries) * 2

        def __enter__(self) -> Any:
            return iter(self.found)

        def __exit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(os, "scandir", Twice)
    fd = os.open(top / "t", os.O_RDONLY)
    assert trees.names_of(fd) == ["name"]
    os.close(fd)


def nested(top: Path, depth: int, name: str) -> int:
    """Return the last of directories with long names below each other."""
    here = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=here)
        there = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = there
    return here


def changes_in(upper: Path) -> Any:
    plan = RootPlan((Stack("/", (), str(upper)),), frozenset(), frozenset())
    return changes.changes_of(plan, upper, upper)


def test_paths_that_fill_memory(files: Files, top: Path, tmp_path: Path) -> None:
    """Each name in a deep directory is as long as the path to it: a container has those for nothing."""
    os.close(nested(top / "t", 80, "n" * 250))
    with pytest.raises(FileError, match="too long"):
        files.get("/t", tmp_path / "got")
    with pytest.raises(FileError, match="too long"), files.archive("/t") as tar:
        for _ in tar:
            pass


def test_a_comparison_has_no_paths_that_nobody_can_open(top: Path) -> None:
    os.close(nested(top / "t", 20, "n" * 250))
    with pytest.raises(HostError, match="too deep"):
        changes_in(top / "t")
    os.close(nested(top, 15, "n" * 250))
    assert len(changes_in(top / ("n" * 250))) == 14  # the control


def test_hard_links_at_the_end_of_a_long_path_are_copied(
    files: Files, top: Path, tmp_path: Path
) -> None:
    deep = nested(top / "t", 18, "n" * 250)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, 0o644, dir_fd=deep))
    os.link("file", "again", src_dir_fd=deep, dst_dir_fd=deep)
    os.close(deep)
    assert files.get("/t", tmp_path / "got").entries == 21


def test_sockets_of_many_names(
    files: Files, top: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = os.getcwd()
    os.chdir(top / "t")
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind("first")
    finally:
        os.chdir(here)
    for number in range(9):
        os.link(top / "t/first", top / "t" / str(number))
    assert len(files.get("/t", tmp_path / "got").left_out) == 10  # the control
    monkeypatch.setattr(copies, "NAMED", 4)
    assert len(files.get("/t", tmp_path / "got").left_out) == 4


# ---- tars


def member(name: str, kind: bytes, size: int = 0) -> bytes:
    info = own(name)
    info.type, info.size = kind, size
    return info.tobuf(tarfile.GNU_FORMAT)


def record(kind: bytes, key: bytes, value: bytes) -> bytes:
    length = len(key) + len(value) + 3
    while len(b"%d %s=%s\n" % (length, key, value)) != length:
        length += 1
    body = b"%d %s=%s\n" % (length, key, value)
    return member("pax", kind, len(body)) + body + bytes(-len(body) % 512)


MEGABYTE = b"v" * 1_000_000


def one_after_another() -> Iterator[bytes]:
    while True:
        yield record(tarfile.XHDTYPE, b"a", b"b")


def for_all() -> Iterator[bytes]:
    """Headers for all that follows, which are remembered."""
    for number in itertools.count():
        yield record(tarfile.XGLTYPE, b"k%d" % number, MEGABYTE)
        yield member(f"m{number}", tarfile.REGTYPE)


def together() -> Iterator[bytes]:
    for number in itertools.count():
        yield record(tarfile.XGLTYPE, b"k%d" % number, MEGABYTE)


def a_map() -> Iterator[bytes]:
    """Of holes, in more blocks than there are."""
    head = tarfile.TarInfo("x")
    head.size = 1 << 30
    head.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": "0",
    }
    yield head.tobuf(tarfile.PAX_FORMAT) + b"400000000\n"
    while True:
        yield b"0\n" * 500_000


@pytest.mark.parametrize("bomb", [one_after_another, for_all, together, a_map])
def test_headers_without_an_end(bomb: Any, files: Files) -> None:
    with pytest.raises(ArchiveError):
        files.extract("/t", bomb())


ODD: dict[str, dict[str, Any]] = {
    "a time that is none": {"pax_headers": {"mtime": "foo"}},
    "a time of many digits": {"pax_headers": {"mtime": "1" * 300}},
    "a time of more digits": {"pax_headers": {"mtime": "1" * 5000}},
    "no number": {"pax_headers": {"mtime": "nan"}},
    "an attribute with a NUL": {"pax_headers": {"SCHILY.xattr.user.\0x": "a"}},
    "a large user": {"uid": 1 << 40},
    "a larger user": {"pax_headers": {"uid": str(1 << 70)}},
}


@pytest.mark.parametrize("kind", [tarfile.DIRTYPE, tarfile.REGTYPE])
@pytest.mark.parametrize("odd", ODD)
def test_a_member_that_can_not_be(odd: str, kind: bytes, files: Files) -> None:
    info = own("x")
    info.type = kind
    for name, value in ODD[odd].items():
        setattr(info, name, value)
    with pytest.raises(ArchiveError):
        files.extract("/t", info.tobuf(tarfile.PAX_FORMAT) + bytes(1024))


class Trickle(io.RawIOBase):
    """Bytes one by one."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self._data = io.BytesIO(data)

    def read(self, size: int = 1) -> bytes:
        return self._data.read(min(size, 1))


def test_a_tar_that_wants_gigabytes_to_be_unpacked(files: Files) -> None:
    """As a window of what went before: it needs none, and says so in a byte of its header."""
    plain = member("x", tarfile.REGTYPE) + bytes(1024)
    packed = bytearray(lzma.compress(plain))
    assert files.extract("/t", bytes(packed)).entries == 1  # the control
    assert files.extract("/t", cast("IO[bytes]", Trickle(bytes(packed)))).entries == 1
    packed[16] = 40  # of the first block's header, which ends in its checksum
    end = 12 + packed[12] * 4
    packed[end : end + 4] = zlib.crc32(packed[12:end]).to_bytes(4, "little")
    for source in (bytes(packed), cast("IO[bytes]", Trickle(bytes(packed)))):
        with pytest.raises(ArchiveError, match="limit exceeded"):
            files.extract("/t", source)
