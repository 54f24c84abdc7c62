"""Archives that readers could take differently are taken as others do, or refused."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from containerkit.errors import ArchiveError
from tests.support.tars import END, describe, entry, pax, unpack

HIDDEN = entry(b"hidden", data=b"only some see it") + END

SMUGGLED = {
    "file named as a directory": entry(b"d/", b"0", HIDDEN),
    "old file named as a directory": entry(b"d/", b"\0", HIDDEN),
    "contiguous file": entry(b"d/", b"7", HIDDEN),
    "named by a record": pax({"path": b"d/"}) + entry(b"f", b"0", HIDDEN),
    "size by a record": pax({"size": b"%d" % len(HIDDEN)}) + entry(b"d/", b"0", size=0) + HIDDEN,
    "directory": entry(b"d/", b"5", HIDDEN),
    "symlink": entry(b"l", b"2", HIDDEN, link=b"x"),
    "fifo": entry(b"p", b"6", HIDDEN),
    "NUL in a key": pax([("path\0x", b"hidden")]) + entry(b"seen", data=b"x"),
}
PLAIN = {
    "file": entry(b"f", b"0", HIDDEN),
    "directory without a slash": entry(b"d", b"5") + entry(b"d/f", data=b"x"),
    "old directory": entry(b"d/", b"\0") + entry(b"d/f", data=b"x"),
    "named by a record": pax({"path": b"g"}) + entry(b"f", b"0", HIDDEN),
    "hard link": entry(b"f", data=b"x") + entry(b"h", b"1", link=b"f"),
}


def seen_here(data: bytes, place: Path) -> set[str]:
    place.mkdir()
    unpack(data, place)
    return set(describe(place)) - {"."}


@pytest.mark.parametrize("archive", SMUGGLED.values(), ids=SMUGGLED)
def test_what_is_read_in_two_ways_is_refused(archive: bytes, tmp_path: Path) -> None:
    place = tmp_path / "here"
    with pytest.raises(ArchiveError, match=r"only a file has data|malformed"):
        seen_here(archive + END, place)
    assert not (place / "hidden").exists()


@pytest.mark.parametrize("archive", PLAIN.values(), ids=PLAIN)
def test_all_see_the_same(archive: bytes, tmp_path: Path) -> None:
    data = archive + END
    here = seen_here(data, tmp_path / "here")
    said = subprocess.run(["tar", "-tf", "-"], input=data, capture_output=True, check=True).stdout
    assert {name.strip("/") for name in said.decode().splitlines()} == here
    with tarfile.open(fileobj=io.BytesIO(data)) as opened:
        assert {name.strip("/") for name in opened.getnames()} == here


ACL = b"user::rw-\nuser:1000:rw-\ngroup::---\nmask::rw-\nother::r--\n"
NAMED = ACL.replace(b"1000", b"nobody")
BINARY = (
    b"\2\0\0\0"
    b"\1\0\6\0\xff\xff\xff\xff\2\0\6\0\xe8\3\0\0\4\0\0\0\xff\xff\xff\xff"
    b"\x10\0\6\0\xff\xff\xff\xff\x20\0\4\0\xff\xff\xff\xff"
)


@pytest.mark.parametrize("kind", [b"0", b"5", b"6"], ids=["file", "directory", "fifo"])
@pytest.mark.parametrize(
    ("record", "mode"),
    [
        ({}, 0o664),  # the control
        ({"SCHILY.acl.access": ACL}, 0o604),
        ({"SCHILY.acl.access": NAMED}, 0o604),
        ({"SCHILY.xattr.system.posix_acl_access": BINARY}, 0o604),
        ({"SCHILY.acl.access": b"what is this"}, 0o600),
        ({"SCHILY.acl.default": ACL}, 0o664),
    ],
    ids=["none", "text", "names", "attribute", "nonsense", "default only"],
)
def test_an_acl_leaves_no_mode_that_is_wider(
    kind: bytes, record: dict[str, bytes], mode: int, tmp_path: Path
) -> None:
    head = pax(record) if record else b""
    (tmp_path / "here").mkdir()
    unpack(head + entry(b"x", kind, mode=0o664) + END, tmp_path / "here")
    found = (tmp_path / "here/x").stat().st_mode & 0o777
    assert found == mode | (0o700 if kind == b"5" and found & 0o100 else 0)


@pytest.mark.parametrize(("said", "found"), [(0o700, 0o755), (0o1777, 0o1777), (0o2711, 0o2755)])
def test_a_user_can_enter_the_root_of_any_layer(said: int, found: int, tmp_path: Path) -> None:
    """As ``tar -C $(mktemp -d) .`` makes one; a directory within keeps its mode: the control."""
    (tmp_path / "here").mkdir()
    unpack(entry(b"./", b"5", mode=said) + entry(b"d", b"5", mode=0o700) + END, tmp_path / "here")
    assert (tmp_path / "here").stat().st_mode & 0o7777 == found
    assert (tmp_path / "here/d").stat().st_mode & 0o7777 == 0o700
