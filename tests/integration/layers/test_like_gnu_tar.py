"""What GNU tar writes, in every format, is unpacked as GNU tar unpacks it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.tars import describe, unpack

pytestmark = pytest.mark.needs("owners")

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
"""security.capability, version 2: CAP_NET_BIND_SERVICE+ep."""

FORMATS = {
    "v7": ["--format=v7"],
    "ustar": ["--format=ustar"],
    "oldgnu": ["--format=oldgnu", "--sparse"],
    "gnu": ["--format=gnu", "--sparse"],
    "pax": ["--format=posix"],
    "pax sparse 0.0": ["--format=posix", "--sparse", "--sparse-version=0.0"],
    "pax sparse 0.1": ["--format=posix", "--sparse", "--sparse-version=0.1"],
    "pax sparse 1.0": ["--format=posix", "--sparse", "--sparse-version=1.0"],
    "pax with attributes": ["--format=posix", "--sparse", "--xattrs", "--xattrs-include=*"],
}


def write_sparse(path: Path, segments: int) -> None:
    """Data, hole, data, hole: more segments than fit one header of any format."""
    with path.open("wb") as file:
        for number in range(segments):
            file.seek(number * 65536)
            file.write(b"%07d\n" % number * 512)
        file.truncate(segments * 65536 + 12345)


def plant(top: Path) -> None:
    """Names and kinds that fit every format."""
    (top / "etc").mkdir(parents=True)
    (top / "etc/passwd").write_bytes(b"root:x:0:0::/:/bin/sh\n")
    (top / "empty").touch()
    (top / "large").write_bytes(os.urandom(3 << 20))
    (top / "bin").mkdir()
    (top / "bin/su").write_bytes(b"#!")
    os.link(top / "bin/su", top / "bin/sudo")
    os.chown(top / "bin/su", 0, 42)
    (top / "bin/su").chmod(0o6755)
    (top / "bin/readonly").write_bytes(b"r")
    (top / "bin/readonly").chmod(0o400)
    (top / "sh").symlink_to("bin/su")
    os.chown(top / "sh", 1000, 1000, follow_symlinks=False)
    (top / "dangling").symlink_to("/no/such")
    os.link(top / "dangling", top / "dangling too", follow_symlinks=False)
    (top / "mail").mkdir()
    (top / "mail/inbox").write_bytes(b"m")
    os.chown(top / "mail", 0, 8)
    (top / "mail").chmod(0o2775)
    (top / "tmp").mkdir()
    (top / "tmp").chmod(0o1777)
    (top / "closed").mkdir()
    (top / "closed/in").write_bytes(b"c")
    (top / "closed").chmod(0o000)
    (top / "gr\u00fc\u00dfe \n\t").write_bytes(b"u")
    Path(os.fsdecode(os.fsencode(top) + b"/not \xff utf-8")).write_bytes(b"b")


def plant_more(top: Path) -> None:
    """What only the younger formats hold."""
    long = top / "/".join(["d" * 60] * 9)
    long.mkdir(parents=True)
    (long / ("f" * 200)).write_bytes(b"long")
    os.link(long / ("f" * 200), top / "link to a long name")
    (top / "long link").symlink_to("../" * 60 + "x" * 120)
    os.chown(top / "long link", 3_000_000, 4_294_967_294, follow_symlinks=False)
    write_sparse(top / "sparse few", 3)
    write_sparse(top / "sparse many", 99)
    with (top / "all hole").open("wb") as file:
        file.truncate(10 << 20)


def plant_special(top: Path) -> None:
    """What v7 has no type for."""
    os.mkfifo(top / "fifo", 0o666)
    os.mknod(top / "null", 0o666 | 0o020000, os.makedev(1, 3))
    os.mknod(top / "disk", 0o660 | 0o060000, os.makedev(259, 65537))


def date(top: Path) -> None:
    for number, path in enumerate(sorted([top, *top.rglob("*")], key=os.fsencode, reverse=True)):
        seconds = -86400 if path.name == "all hole" else 1_600_000_000 + number * 1000
        os.utime(
            path, ns=(seconds * 10**9 + number, seconds * 10**9 + number * 7), follow_symlinks=False
        )


def put_attributes(top: Path) -> None:
    os.setxattr(top / "bin/su", "security.capability", CAPABILITY)
    os.setxattr(top / "large", "user.origin", b"here\0and there")
    os.setxattr(top / "etc", "user.colour", b"blue")


@pytest.mark.needs("tar")
@pytest.mark.parametrize("how", FORMATS)
@pytest.mark.parametrize("openat2", [True, False], ids=["openat2", "walk"])
def test_same_tree(how: str, openat2: bool, tmp_path: Path) -> None:
    source, theirs, ours = (tmp_path / name for name in ("source", "theirs", "ours"))
    for directory in (source, theirs, ours):
        directory.mkdir()
    plant(source)
    if how != "v7":
        plant_special(source)
    if how not in {"v7", "ustar"}:
        plant_more(source)
    if how == "pax with attributes":
        put_attributes(source)
    date(source)
    archive = subprocess.run(
        ["tar", *FORMATS[how], "-C", source, "-c", "."], stdout=subprocess.PIPE, check=True
    ).stdout
    subprocess.run(
        ["tar", "-x", "-p", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
        + ["-C", theirs],
        input=archive,
        check=True,
    )
    unpack(archive, ours, openat2=openat2, chunk=60_000)
    wanted = describe(theirs)
    assert len(wanted) > 15
    assert describe(ours) == wanted
    if "pax" in how:  # which holds all there is
        assert describe(ours) == describe(source)
    for name in ("sparse few", "sparse many", "all hole"):
        if "--sparse" in FORMATS[how]:
            assert (ours / name).stat().st_blocks <= (source / name).stat().st_blocks + 16
