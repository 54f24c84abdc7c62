"""What a container, or a tar, does to be read or written elsewhere than it says.

Each attack has a control: the same on the way that does not look, where it works.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import (
    ArchiveError,
    CorruptContent,
    FileError,
    FileNotFound,
    NotADirectory,
    SpecialFile,
    UnsafePath,
)
from containerkit.runtime.files import Files
from tests.support import ocibuild, tars
from tests.support.ocibuild import Entry

SECRET = "outside"


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that nothing may read or change."""
    top = tmp_path / "canary"
    (top / "sub").mkdir(parents=True)
    (top / "secret").write_text(SECRET)
    (top / "sub/secret").write_text(SECRET)
    for path in (top / "secret", top / "sub/secret", top / "sub", top):
        os.utime(path, (1, 1))
    before = tars.describe(top)
    yield top
    assert tars.describe(top) == before


def inside(box: ck.Container, path: str = "") -> Path:
    """The container's file, reached the naive way."""
    return Path(f"/proc/{box.pid}/root{path}")


# ---- links


WAYS = {
    "absolute": "{}",
    "dots": "../../../../../../../../../../..{}",
    "dots from the root": "/../../..{}",
    "own root": "/proc/self/root{}",
    "root of the first process": "/proc/1/root{}",
    "working directory": "/proc/self/cwd/../../../../..{}",
    "through another": "/by{}",
}


@pytest.mark.usefixtures("resolved")
@pytest.mark.parametrize("way", WAYS)
def test_links_do_not_lead_out(
    box: ck.Container, files: Files, canary: Path, tmp_path: Path, way: str
) -> None:
    target = WAYS[way].format(canary)
    os.symlink("/", inside(box, "/by"))
    os.symlink(target, inside(box, "/tmp/dir"))
    os.symlink(f"{target}/secret", inside(box, "/tmp/file"))
    if way == "absolute":
        assert inside(box, "/tmp/file").read_text() == SECRET  # the control
    (tmp_path / "put").write_text("put")
    tar = ocibuild.tar({"x": "x"}.items())
    for attempt in (
        lambda: files.read_text("/tmp/file"),
        lambda: files.open("/tmp/file", "r+"),
        lambda: files.list("/tmp/dir"),
        lambda: files.stat("/tmp/dir/secret"),
        lambda: files.remove("/tmp/dir/secret"),
        lambda: files.rename("/tmp/dir/secret", "/tmp/stolen"),
        lambda: files.mkdir("/tmp/dir/new"),
        lambda: files.write_text("/tmp/file", "changed"),
        lambda: files.write_text("/tmp/dir/new", "made"),
        lambda: files.open("/tmp/dir/new", "w"),
        lambda: files.put(tmp_path / "put", "/tmp/dir/put"),
        lambda: files.put(tmp_path / "put", "/tmp/dir/"),
        lambda: files.get("/tmp/dir/secret", tmp_path / "got"),
        lambda: files.get("/tmp/dir/", tmp_path / "got"),
        lambda: files.extract("/tmp/dir", tar),
        lambda: files.archive("/tmp/dir/secret"),
        lambda: files.archive("/tmp/dir/sub"),
    ):
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.errno in {errno.ENOENT, errno.ELOOP, errno.ENOTDIR}
    assert not files.exists("/tmp/file")
    got = files.get("/tmp", tmp_path / "tree")
    assert got.size == 0
    assert os.readlink(tmp_path / "tree/file") == f"{target}/secret"


def test_a_link_that_leads_to_the_same_path_within(
    box: ck.Container, files: Files, canary: Path
) -> None:
    """An absolute path of the host that exists in the container too is the container's."""
    files.mkdir(str(canary), parents=True)
    files.write_text(f"{canary}/secret", "inside")
    os.symlink(canary, inside(box, "/tmp/dir"))
    assert inside(box, "/tmp/dir/secret").read_text() == SECRET  # the control
    assert files.read_text("/tmp/dir/secret") == "inside"
    files.write_text("/tmp/dir/secret", "changed")
    assert files.read_text(f"{canary}/secret") == "changed"


def test_passwords_are_the_containers_own(box: ck.Container, files: Files) -> None:
    files.write_text("/etc/shadow", "the container's")
    for target in ("/etc/shadow", "../../../../etc/shadow", "/bin/../../etc/shadow"):
        files.remove("/tmp/x", missing_ok=True)
        os.symlink(target, inside(box, "/tmp/x"))
        assert files.read_text("/tmp/x") == "the container's"
    with pytest.raises(FileError) as caught:
        files.read_text("/proc/1/root/etc/shadow")
    assert caught.value.errno == errno.ELOOP


# ---- what is no file


@pytest.mark.needs("device nodes")
def test_nothing_special_is_opened(box: ck.Container, files: Files, tmp_path: Path) -> None:
    """A FIFO does not block, a device never learns of it; a link to one is no better."""
    os.mkfifo(inside(box, "/tmp/fifo"))
    os.mknod(inside(box, "/tmp/zero"), 0o666 | stat.S_IFCHR, os.makedev(1, 5))
    os.mknod(inside(box, "/tmp/disk"), 0o666 | stat.S_IFBLK, os.makedev(7, 0))
    os.symlink("/dev/zero", inside(box, "/tmp/link"))
    (tmp_path / "put").write_text("put")
    for name in ("fifo", "zero", "disk", "link"):
        for attempt in (
            lambda name=name: files.read_bytes(f"/tmp/{name}"),
            lambda name=name: files.write_bytes(f"/tmp/{name}", b""),
            lambda name=name: files.open(f"/tmp/{name}"),
            lambda name=name: files.open(f"/tmp/{name}", "w"),
            lambda name=name: files.open(f"/tmp/{name}", "a+b"),
        ):
            with pytest.raises(SpecialFile):
                attempt()
    blocked = threading.Thread(target=lambda: inside(box, "/tmp/fifo").read_bytes(), daemon=True)
    blocked.start()
    blocked.join(0.2)
    assert blocked.is_alive()  # the control
    inside(box, "/tmp/fifo").open("wb").close()
    blocked.join()


@pytest.mark.usefixtures("resolved")
def test_links_do_not_lead_to_the_kernels_files(
    box: ck.Container, files: Files, tmp_path: Path
) -> None:
    """Else a container has the host's log read away, or a setting of its own written by the caller."""
    os.symlink("/proc", inside(box, "/tmp/proc"))
    os.symlink("proc/1/oom_score_adj", inside(box, "/tmp/setting"))
    os.symlink("/proc/1/status", inside(box, "/tmp/log"))
    for attempt in (
        lambda: files.read_bytes("/tmp/log"),
        lambda: files.read_bytes("/tmp/proc/1/status"),
        lambda: files.read_bytes("/proc/../tmp/log"),
        lambda: files.open("/tmp/setting", "r+"),
        lambda: files.open("/tmp/setting", "w"),
        lambda: files.open("/tmp/proc/1/oom_score_adj", "a"),
        lambda: files.list("/tmp/proc/"),
        lambda: files.archive("/tmp/proc/sys"),
        lambda: files.get("/tmp/proc/.", tmp_path / "got"),
    ):
        with pytest.raises(FileError) as caught:
            attempt()
        assert caught.value.errno == errno.ELOOP
    before = files.read_text("/proc/1/oom_score_adj")  # the control: by its own name
    with files.open("/proc/1/oom_score_adj", "r+") as file:
        file.write(before)
    assert files.read_bytes("/proc/1/status")
    assert files.read_text("/sys/class/net/lo/mtu")
    assert inside(box, "/tmp/setting").read_text() == before


def test_what_has_nothing_to_read_yet_does_not_block(files: Files) -> None:
    """/proc/kmsg says that it is a regular file."""
    if not files.exists("/proc/kmsg"):
        pytest.skip("this kernel has no /proc/kmsg")
    done = threading.Event()

    def read() -> None:
        for _ in range(3):
            try:
                files.read_bytes("/proc/kmsg", max_size=64 << 20)
            except OSError:
                continue
        done.set()

    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    assert done.wait(120)
    reader.join()


# ---- on our side


def test_a_name_is_no_link_the_second_time(
    box: ck.Container, files: Files, canary: Path, tmp_path: Path
) -> None:
    """A link under the name that the caller gave would be where its next copy goes."""
    for name, target in {"file": canary / "secret", "dir": canary, "new": canary / "new"}.items():
        remote, local = f"/tmp/{name}", tmp_path / name
        os.symlink(target, inside(box, remote))
        with pytest.raises(FileNotFound):
            files.get(remote, local)
        with pytest.raises(FileNotFound):
            files.get(remote, tmp_path)
        assert not os.path.lexists(local)
        files.remove(remote)
        if name == "dir":
            files.mkdir(remote)
        files.write_text(f"{remote}/secret" if name == "dir" else remote, "changed")
        files.get(remote, local)
    (tmp_path / "control").symlink_to(tmp_path / "victim")  # a link there is followed, as by cp
    files.get("/tmp/file", tmp_path / "control")
    assert (tmp_path / "victim").read_text() == "changed"


def test_what_a_link_leads_to_is_copied(box: ck.Container, files: Files, tmp_path: Path) -> None:
    files.mkdir("/tmp/real")
    files.write_text("/tmp/real/file", "inside")
    os.symlink("file", inside(box, "/tmp/real/beneath"))
    os.symlink("/tmp/real", inside(box, "/tmp/dir"))
    os.symlink("real/file", inside(box, "/tmp/link"))
    for there in (tmp_path / "dir", tmp_path):
        files.get("/tmp/dir", there)
        assert (tmp_path / "dir/file").read_text() == "inside"
        assert os.readlink(tmp_path / "dir/beneath") == "file"
    files.get("/tmp/link", tmp_path)
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "link").read_text() == "inside"


def test_a_copy_does_not_follow_local_links(files: Files, canary: Path, tmp_path: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    (local / "file").symlink_to(canary / "secret")
    (local / "dir").symlink_to(canary)
    files.mkdir("/tmp/t")
    files.write_text("/tmp/t/file", "changed")
    files.get("/tmp/t/.", local)
    assert (local / "file").read_text() == "changed"
    assert not (local / "file").is_symlink()
    files.mkdir("/tmp/t/dir")
    files.write_text("/tmp/t/dir/secret", "changed")
    with pytest.raises(NotADirectory):
        files.get("/tmp/t/.", local)
    control = tmp_path / "control"
    control.mkdir()
    (control / "file").symlink_to(tmp_path / "victim")
    (control / "file").write_text("through")
    assert (tmp_path / "victim").read_text() == "through"  # the control


@pytest.mark.needs("host root")
def test_an_attribute_of_overlayfs_is_not_taken_in(
    box: ck.Container, files: Files, tmp_path: Path
) -> None:
    (tmp_path / "d").mkdir()
    os.setxattr(tmp_path / "d", "user.overlay.opaque", b"y")
    os.setxattr(tmp_path / "d", "user.fine", b"y")
    os.setxattr(tmp_path / "d", "trusted.fine", b"y")
    files.put(tmp_path / "d", "/tmp/d")
    assert tars.xattrs(inside(box, "/tmp/d")) == (("user.fine", b"y"),)
    records = {
        f"SCHILY.xattr.{name}": b"y"
        for name in ("user.overlay.opaque", "user.fine", "trusted.overlay.opaque", "trusted.x")
    }
    files.extract("/tmp", tars.pax(records) + tars.entry(b"e/", b"5") + tars.END)
    assert tars.xattrs(inside(box, "/tmp/e")) == (("user.fine", b"y"),)


# ---- tars


def hostile_tars(canary: Path) -> dict[str, list[tuple[str, Entry]]]:
    """Archives by what they try; all in vain with `extract`."""
    plain = Entry(data=b"changed")
    out = ocibuild.symlink(str(canary))
    up = "/".join([".."] * 12)
    return {
        "dots": [(f"{up}{canary}/secret", plain)],
        "dots inside": [(f"a/../{up}{canary}/secret", plain)],
        "absolute": [(f"{canary}/secret", plain)],
        "through a link": [("l", out), ("l/secret", plain)],
        "through a link, dots": [("l", ocibuild.symlink(up + str(canary))), ("l/secret", plain)],
        "through a link of links": [
            ("a", ocibuild.symlink("b")),
            ("b", out),
            ("a/secret", plain),
        ],
        "a directory on a link": [("l", out), ("l", ocibuild.directory(0o777))],
        "a link's file": [("l", ocibuild.symlink(f"{canary}/secret")), ("l", plain)],
        "hard link out": [("h", ocibuild.hardlink(f"{up}{canary}/secret")), ("h", plain)],
        "hard link, absolute": [("h", ocibuild.hardlink(f"{canary}/secret")), ("h", plain)],
        "hard link through a link": [
            ("l", out),
            ("h", ocibuild.hardlink("l/secret")),
            ("h", plain),
        ],
        "hard link to a link": [
            ("l", ocibuild.symlink(f"{canary}/secret")),
            ("h", ocibuild.hardlink("l")),
            ("h", plain),
        ],
        "root of a process": [
            ("l", ocibuild.symlink("/proc/self/root")),
            (f"l{canary}/secret", plain),
        ],
        "a directory that becomes a link": [
            ("d", ocibuild.directory()),
            ("d", out),
            ("d/secret", plain),
        ],
        "mode through a link": [("l", out), ("l/sub", ocibuild.directory(0o777))],
    }


@pytest.mark.usefixtures("resolved")
@pytest.mark.parametrize("name", list(hostile_tars(Path("/"))))
def test_a_tar_does_not_lead_out(files: Files, canary: Path, name: str) -> None:
    tar = ocibuild.tar(hostile_tars(canary)[name], parents=False)
    files.mkdir("/x")
    with contextlib.suppress(UnsafePath, FileError):
        files.extract("/x", tar)
    got = files.read_text(f"{canary}/secret") if files.exists(f"{canary}/secret") else "changed"
    assert got == "changed"


def test_the_control_of_the_tars(box: ck.Container, canary: Path) -> None:
    """What a plain extraction into the same directory does."""
    victim = canary.parent / "victim"
    victim.mkdir()
    (victim / "secret").write_text(SECRET)
    for name, member in hostile_tars(victim)["through a link"]:
        path = inside(box, "/tmp") / name
        if member.kind == tarfile.SYMTYPE:
            path.symlink_to(member.target)
        else:
            path.write_bytes(member.data)
    assert (victim / "secret").read_text() == "changed"


MALFORMED = {
    "nothing": b"",
    "no tar": b"this is not a tar" * 100,
    "no end": tars.entry(b"a", data=b"x" * 5000)[:2000],
    "a header without end": tars.entry(b"a", b"x", b"9" * 40),
    "a huge extended header": tars.header(b"x", b"x", size=1 << 33),
    "a huge name": tars.header(b"././@LongLink", b"L", size=1 << 33),
    "a negative size": tars.header(b"a", size=tars.base256(-512, 12)) + tars.END,
    "a negative owner": tars.header(b"a", uid=tars.base256(-7, 8)) + tars.END,
    "an endless time": tars.pax({"mtime": b"inf"}) + tars.entry(b"a") + tars.END,
    "a name with a NUL": tars.pax({"path": b"a\0b"}) + tars.entry(b"a") + tars.END,
    "a hard link to nothing": tars.entry(b"a", b"1", link=b"nothing") + tars.END,
    "a hard link to the top": tars.entry(b"a", b"1", link=b".") + tars.END,
    "a hard link to a directory": tars.entry(b"d/", b"5")
    + tars.entry(b"a", b"1", link=b"d")
    + tars.END,
    "a long name": tars.long_name(b"n" * 300) + tars.entry(b"a") + tars.END,
    "a link without target": tars.entry(b"a", b"2") + tars.END,
    "a file below a file": tars.entry(b"f") + tars.entry(b"f/x") + tars.END,
    "a file on a directory": tars.entry(b"d/", b"5") + tars.entry(b"d") + tars.END,
}


@pytest.mark.parametrize("name", MALFORMED)
def test_a_broken_tar_is_a_typed_error(files: Files, name: str) -> None:
    files.mkdir("/x")
    with pytest.raises((ArchiveError, CorruptContent, FileError, PermissionError)) as caught:
        files.extract("/x", MALFORMED[name])
    assert "\n" not in str(caught.value)
    assert not [entry for entry in files.list("/x") if entry.name.startswith(".ck")]


def test_devices_of_a_tar_are_left_out(files: Files) -> None:
    members = [
        ("disk", Entry(tarfile.BLKTYPE, device=(8, 0))),
        ("null", Entry(tarfile.CHRTYPE, device=(1, 3))),
        ("fifo", Entry(tarfile.FIFOTYPE, mode=0o600)),
    ]
    assert files.extract("/tmp", ocibuild.tar(members)).left_out == ("disk", "null")
    assert [entry.name for entry in files.list("/tmp")] == ["fifo"]


def test_a_large_hole_is_not_filled(files: Files, tmp_path: Path) -> None:
    """A file of a petabyte costs what is in it."""
    with files.open("/tmp/hole", "wb") as hole:
        hole.truncate(1 << 43)
        hole.seek(1 << 42)
        hole.write(b"x")
    got = files.get("/tmp/hole", tmp_path / "hole")
    assert got.size <= 1 << 16
    assert (tmp_path / "hole").stat().st_size == 1 << 43
    assert (tmp_path / "hole").stat().st_blocks <= 256
