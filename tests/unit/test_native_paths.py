"""Paths beneath a root descriptor: what a link in them can and can not reach."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from containerkit._native import path_mkdirs, path_open
from tests.support.swap import swapping


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A root with links of every kind, beside a file that must not be reached."""
    (tmp_path / "outside").write_text("outside")
    top = tmp_path / "root"
    (top / "etc").mkdir(parents=True)
    (top / "etc/name").write_text("inside")
    for name, target in {
        "absolute": "/etc/name",
        "up": "../../../../etc/name",
        "out": "../outside",
        "named": str(tmp_path / "outside"),
        "there": "/etc",
        "loop": "loop",
        "magic": "/proc/self/root",
    }.items():
        (top / name).symlink_to(target)
    fd = os.open(top, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def read(root: int, path: str, *, openat2: bool, no_symlinks: bool = False) -> str:
    fd = path_open(root, path, os.O_RDONLY, no_symlinks=no_symlinks, openat2=openat2)
    assert not os.get_inheritable(fd)
    with open(fd, encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("openat2", [True, False])
@pytest.mark.parametrize(
    "path", ["/etc/name", "etc/name", "absolute", "up", "there/../etc/./name", "/../../etc/name"]
)
def test_links_lead_to_what_is_beneath(root: int, path: str, *, openat2: bool) -> None:
    assert read(root, path, openat2=openat2) == "inside"


@pytest.mark.parametrize("openat2", [True, False])
@pytest.mark.parametrize(
    ("path", "number"),
    [
        ("out", errno.ENOENT),
        ("named", errno.ENOENT),
        ("loop", errno.ELOOP),
        ("etc/name/x", errno.ENOTDIR),
        ("", errno.ENOENT),
        ("x" * 5000, errno.ENAMETOOLONG),
    ],
)
def test_nothing_else_is_reached(root: int, path: str, number: int, *, openat2: bool) -> None:
    with pytest.raises(OSError) as caught:
        read(root, path, openat2=openat2)
    assert caught.value.errno == number


@pytest.mark.parametrize("openat2", [True, False])
def test_links_can_be_refused(root: int, *, openat2: bool) -> None:
    with pytest.raises(OSError) as caught:
        read(root, "there/name", openat2=openat2, no_symlinks=True)
    assert caught.value.errno == errno.ELOOP
    assert read(root, "etc/name", openat2=openat2, no_symlinks=True) == "inside"


@pytest.mark.parametrize("openat2", [True, False])
@pytest.mark.parametrize("path", ["self/root/etc", "self/cwd", "thread-self/exe", "self/fd/{}"])
def test_magic_links_are_not_followed(path: str, *, openat2: bool) -> None:
    """The link of /proc/self/root leads to the host's root, whatever the root descriptor is."""
    proc = os.open("/proc", os.O_PATH | os.O_DIRECTORY)
    try:
        assert os.path.exists(f"/proc/{path.format(proc)}")
        with pytest.raises(OSError) as caught:
            path_open(proc, path.format(proc), os.O_PATH, openat2=openat2)
        assert caught.value.errno == errno.ELOOP
        os.close(path_open(proc, "self/status", os.O_RDONLY, openat2=openat2))
    finally:
        os.close(proc)


@pytest.mark.parametrize("openat2", [True, False])
def test_a_descriptor_of_a_path_is_never_a_links(root: int, *, openat2: bool) -> None:
    """Whatever has the name by then: a file and a link to one change places all the time."""
    top = f"/proc/self/fd/{root}/etc"
    for name, make in (("file", os.mknod), ("link", lambda path: os.symlink("name", path))):
        make(f"{top}/{name}")
    with swapping(f"{top}/file", f"{top}/link"):
        for _ in range(2000):
            fd = path_open(root, "etc/file", os.O_PATH, openat2=openat2)
            kind = stat.S_IFMT(os.fstat(fd).st_mode)
            os.close(fd)
            assert kind == stat.S_IFREG


@pytest.mark.parametrize("openat2", [True, False])
def test_a_lease_is_not_waited_for(root: int, *, openat2: bool) -> None:
    """It answers EAGAIN, as a rename does that openat2(2) was not sure of."""
    holder = path_open(root, "etc/name", os.O_RDWR)
    try:
        fcntl.fcntl(holder, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        with pytest.raises(BlockingIOError):
            path_open(root, "etc/name", os.O_RDONLY | os.O_NONBLOCK, openat2=openat2)
    finally:
        os.close(holder)
        signal.signal(signal.SIGIO, signal.SIG_DFL)


@pytest.mark.parametrize("openat2", [True, False])
def test_missing_directories_are_made_beneath(root: int, *, openat2: bool) -> None:
    os.close(path_mkdirs(root, "there/a/../b/c", 0o700, openat2=openat2))
    made = path_open(root, "etc/b/c", os.O_PATH | os.O_DIRECTORY)
    try:
        assert os.fstat(made).st_mode & 0o777 == 0o700
    finally:
        os.close(made)


def test_a_null_is_no_path(root: int) -> None:
    with pytest.raises(ValueError, match="null"):
        path_open(root, "a\0b", os.O_PATH)
