"""A file of the host is not opened by its handle, through a mount that does not show it (2014)."""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck

SECRET = "outside of the mount"


class Handle(ctypes.Structure):
    """struct file_handle of fcntl.h, with room for what follows."""

    _fields_ = (
        ("size", ctypes.c_uint),
        ("kind", ctypes.c_int),
        ("data", ctypes.c_ubyte * 128),
    )


@pytest.fixture
def place(shared_root: Path) -> Iterator[Path]:
    """A directory on the store's file system, with one to be given, and a file to be kept."""
    place = shared_root.parent / "shocker"
    (place / "given").mkdir(parents=True)
    (place / "kept").write_text(SECRET)
    yield place
    (place / "kept").unlink()
    (place / "given").rmdir()
    place.rmdir()


def attack(path: Path) -> list[str]:
    """The command that opens a file of the host, through what is mounted at /given."""
    libc = ctypes.CDLL(None, use_errno=True)
    handle, mount = Handle(size=128), ctypes.c_int()
    failed = libc.name_to_handle_at(-100, bytes(path), ctypes.byref(handle), ctypes.byref(mount), 0)
    if failed:
        pytest.skip(f"needs a file system with handles: {os.strerror(ctypes.get_errno())}")
    data = bytes(handle.data[: handle.size]).hex()
    return ["/attacks/shocker", "/given", str(handle.kind), data]


def test_it_is_not_opened(
    engine: ck.Engine, hostile: str, security: ck.Security, place: Path
) -> None:
    mounts = [ck.Mount.bind(place / "given", "/given")]
    unfiltered = ck.Security(seccomp="unconfined")
    for chosen in (security, unfiltered):
        result = engine.run(
            hostile, attack(place / "kept"), text=True, mounts=mounts, security=chosen
        )
        assert int(result.stdout) in {-errno.EPERM, -errno.ENOSYS}


@pytest.mark.needs("host root")
def test_by_whom_may_read_all(engine: ck.Engine, hostile: str, place: Path) -> None:
    """The control."""
    mounts = [ck.Mount.bind(place / "given", "/given")]
    rights = ck.Security(capabilities=["+DAC_READ_SEARCH"], seccomp="unconfined")
    result = engine.run(hostile, attack(place / "kept"), text=True, mounts=mounts, security=rights)
    assert result.stdout.strip() == SECRET
