"""A container that swaps a directory for a link, without end, while its files are used."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from tests.support import tars
from tests.support.races import SECRET, Calls

MORE = int(os.environ.get("CONTAINERKIT_TEST_MORE", "1"))
ROUNDS = 300 * MORE

SWAPPER = """
import ctypes, os, sys
outside, = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
os.chdir("/swap")
os.symlink(outside, "link")
at, exchange = -100, 2
print("swapping", flush=True)
while True:
    if libc.renameat2(at, b"x", at, b"link", exchange):
        raise OSError(ctypes.get_errno(), "renameat2")
"""
"""What runs in the container: /swap/x is a directory, then a link to *outside*, and so on."""


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host that nothing may read or change."""
    top = tmp_path / "canary"
    (top / "sub").mkdir(parents=True)
    for path in (top / "secret", top / "sub/secret"):
        path.write_text(SECRET)
        os.utime(path, (1, 1))
    before = tars.describe(top, times=False)
    yield top
    assert tars.describe(top, times=False) == before


@pytest.fixture
def box(engine: ck.Engine, canary: Path) -> Iterator[ck.Container]:
    """A container that swaps, with the canary's path as a directory of its own as well."""
    command = ["python3", "-c", SWAPPER, str(canary)]
    with engine.containers.create(None, command) as one:
        for directory in ("/swap/x", str(canary)):
            one.files.mkdir(f"{directory}/sub", parents=True)
            one.files.write_text(f"{directory}/secret", "inside")
            one.files.write_text(f"{directory}/sub/secret", "inside")
        one.start()
        one.wait_ready(log="swapping", timeout=120)
        yield one


def test_the_control(box: ck.Container, canary: Path) -> None:
    """Whoever trusts the path reads, and writes, outside."""
    root = Path(f"/proc/{box.pid}/root/swap/x")
    read = written = False
    deadline = time.monotonic() + 120
    while not (read and written):
        with contextlib.suppress(OSError):
            read = read or (root / "sub/secret").read_text() == SECRET
        with contextlib.suppress(OSError):
            (root / "control").touch()
            written = written or (canary / "control").exists()
        assert time.monotonic() < deadline, (read, written)
    (canary / "control").unlink()


@pytest.mark.slow
def test_nothing_leads_out(box: ck.Container, tmp_path: Path, resolved: str) -> None:
    rounds = Calls(box.files, tmp_path / "scratch", "/swap/x")
    count = ROUNDS if resolved == "openat2" else ROUNDS // 3
    for number in range(count):
        rounds.run(number)
    assert rounds.done > count
    assert box.status == "running"
