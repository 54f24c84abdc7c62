"""A container that swaps a directory for a link, without end, while its files are used."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.errors import ContainerKitError
from containerkit.runtime.fileinfo import FileInfo
from containerkit.runtime.files import Files
from tests.support import ocibuild, tars

MORE = int(os.environ.get("CONTAINERKIT_TEST_MORE", "1"))
ROUNDS = 300 * MORE

SECRET = "outside"

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


class Rounds:
    """One of everything, again and again; each refused, or done within."""

    def __init__(self, files: Files, scratch: Path) -> None:
        self.files = files
        self.scratch = scratch
        self.done = 0
        self.refused = 0
        self.put = scratch / "put"
        (self.put / "sub").mkdir(parents=True)
        (self.put / "sub/secret").write_text("put")
        (self.put / "secret").write_text("put")
        self.tar = ocibuild.tar([("secret", "tar"), ("sub/secret", "tar"), ("deep/er/file", "tar")])

    def run(self, number: int) -> None:
        files, path = self.files, "/swap/x"
        for attempt in (
            lambda: self.same(files.read_text(f"{path}/secret")),
            lambda: self.same(files.read_text(f"{path}/sub/secret")),
            lambda: files.write_text(f"{path}/secret", "written"),
            lambda: files.write_text(f"{path}/sub/new", "written"),
            lambda: files.open(f"{path}/sub/secret", "w").close(),
            lambda: files.write_text(f"{path}/sub/secret", "written", mode=0o777),
            lambda: files.put(self.put / "secret", f"{path}/"),
            lambda: files.put(f"{self.put}/.", path),
            lambda: files.get(f"{path}/", self.scratch / f"got{number}"),
            lambda: files.get(f"{path}/sub/secret", self.scratch / f"file{number}"),
            lambda: files.extract(path, self.tar),
            lambda: files.mkdir(f"{path}/made/in", parents=True, exist_ok=True),
            lambda: files.rename(f"{path}/sub/new", f"{path}/moved"),
            lambda: files.remove(f"{path}/moved"),
            lambda: files.remove(f"{path}/made", recursive=True),
            lambda: self.names(files.list(path)),
            lambda: self.archive(path),
        ):
            try:
                attempt()
            except ContainerKitError:
                self.refused += 1
            else:
                self.done += 1
        for local in (self.scratch / f"got{number}", self.scratch / f"file{number}"):
            self.clean(local)

    def same(self, text: str) -> None:
        assert SECRET not in text

    def names(self, found: tuple[FileInfo, ...]) -> None:
        assert "control" not in [info.name for info in found]

    def archive(self, path: str) -> None:
        with self.files.archive(f"{path}/.") as tar:
            assert SECRET.encode() not in tar.read()

    def clean(self, local: Path) -> None:
        """What was copied out holds nothing of the host, and is gone for the next round."""
        if local.is_dir() and not local.is_symlink():
            for path in local.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    self.same(path.read_text())
            shutil.rmtree(local)
        elif local.exists():
            self.same(local.read_text())
            local.unlink()


@pytest.mark.slow
def test_nothing_leads_out(box: ck.Container, tmp_path: Path, resolved: str) -> None:
    rounds = Rounds(box.files, tmp_path / "scratch")
    count = ROUNDS if resolved == "openat2" else ROUNDS // 3
    for number in range(count):
        rounds.run(number)
    assert rounds.done > count
    assert box.status == "running"
