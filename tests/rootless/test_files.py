"""Files of other owners in ordinary users' containers: what the user alone is refused, done with help."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from containerkit import aio
from containerkit.errors import PermissionDenied
from containerkit.runtime import helper
from tests.rootless.test_user import nothing_is_left

pytestmark = [
    pytest.mark.integration,
    pytest.mark.needs("ordinary user"),
    pytest.mark.needs("ids"),
]

__all__ = ["nothing_is_left"]

SCRIPT = (
    "mkdir -p /closed/in /var/x && echo secret >/closed/file && echo deep >/closed/in/deep"
    " && ln -s file /closed/link && ln /closed/file /closed/again && mkfifo /closed/fifo"
    " && chmod 600 /closed/file /closed/in/deep && chmod 700 /closed /closed/in"
    " && chown -R -h 7:8 /closed && touch /made; exec sleep 100000"
)
KINDS = pytest.mark.parametrize("userns", ["host", "auto"])


@pytest.fixture
def box(engine: ck.Engine, busybox: str, userns: str) -> Iterator[ck.Container]:
    """A container with files that only user 7 in it may use."""
    assert not helper._helpers
    security = ck.Security(userns=userns)
    with engine.start(busybox, ["sh", "-c", SCRIPT], security=security) as one:
        one.wait_ready(command=["test", "-e", "/made"], timeout=100)
        yield one


def owners_in(box: ck.Container, *paths: str) -> list[str]:
    return box.exec(["stat", "-c", "%u:%g:%a", *paths], text=True, check=True).stdout.split()


@KINDS
def test_what_others_own_is_read(box: ck.Container, tmp_path: Path) -> None:
    files = box.files
    for _ in ("running", "stopped"):
        assert files.read_text("/closed/file") == "secret\n"
        with files.open("/closed/in/deep") as deep:
            assert deep.read() == "deep\n"
        assert [one.name for one in files.list("/closed")] == [
            "again",
            "fifo",
            "file",
            "in",
            "link",
        ]
        assert {(one.uid, one.gid) for one in files.list("/closed")} == {(7, 8)}
        assert files.stat("/closed/link").type == "file"
        assert not files.exists("/closed/none")
        got = tmp_path / _
        assert files.get("/closed", got).entries == 7
        assert (got / "file").read_text() == "secret\n"
        assert (got / "in" / "deep").read_text() == "deep\n"
        assert os.path.samefile(got / "again", got / "file")
        assert {os.lstat(path).st_uid for path in got.rglob("*")} == {os.getuid()}
        with files.archive("/closed") as archive, tarfile.open(fileobj=archive, mode="r|") as tar:
            assert {(one.uid, one.gid) for one in tar} == {(7, 8)}
        box.stop(grace=0)


@KINDS
def test_files_are_given_to_others(box: ck.Container, tmp_path: Path) -> None:
    files = box.files
    (tmp_path / "top").mkdir()
    (tmp_path / "top" / "f").write_text("f")
    (tmp_path / "top" / "l").symlink_to("f")
    os.setxattr(tmp_path / "top" / "f", "user.note", b"kept")
    files.put(tmp_path / "top", "/put", owner=(33, 44))
    files.put(tmp_path / "top" / "f", "/closed/in/one", owner=(5, 6))
    files.write_text("/closed/file", "other\n")
    files.write_text("/closed/new", "new", owner=(1, 2), mode=0o640)
    files.mkdir("/closed/a/b", parents=True, owner=(3, 4), mode=0o710)
    with files.open("/closed/opened", "w") as opened:
        opened.write("opened")
    with files.archive("/put") as archive:
        files.extract("/closed/in", archive, owner=(9, 9))
    files.rename("/closed/in/deep", "/closed/deeper")
    files.remove("/closed/again")
    paths = "put put/f put/l closed/in/one closed/file closed/new closed/a closed/a/b closed/opened closed/deeper"
    wanted = "33:44:755 33:44:644 33:44:777 5:6:644 7:8:600 1:2:640 0:0:755 3:4:710 0:0:644 7:8:600"
    assert owners_in(box, *(f"/{path}" for path in paths.split())) == wanted.split()
    assert owners_in(box, "/closed/in/put", "/closed/in/put/f") == ["9:9:755", "9:9:644"]
    assert box.exec(["cat", "/closed/file"], text=True).stdout == "other\n"
    files.remove("/closed", recursive=True)
    assert not files.exists("/closed")


@KINDS
def test_all_of_it_at_once(box: ck.Container) -> None:
    changes = {str(change) for change in box.diff()}
    assert {"A /closed", "A /closed/in/deep", "A /made"} <= changes
    assert not any("busybox" in change for change in changes)
    exported = io.BytesIO()
    box.export(exported)
    exported.seek(0)
    with tarfile.open(fileobj=exported) as tar:
        owners = {one.name: (one.uid, one.gid) for one in tar}
    assert owners["closed/in/deep"] == (7, 8)
    assert owners["bin/busybox"] == (0, 0)


@pytest.mark.parametrize("userns", ["host"])
def test_nobody_is_asked_where_nothing_is_refused(box: ck.Container, tmp_path: Path) -> None:
    box.files.write_text("/tmp/file", "x")
    box.files.get("/tmp/file", tmp_path / "file")
    box.files.put(tmp_path / "file", "/tmp/again")
    box.files.mkdir("/tmp/directory")
    assert not helper._helpers
    assert box.files.read_text("/closed/file") == "secret\n"
    assert len(helper._helpers) == 1


@pytest.mark.parametrize("userns", ["host"])
def test_what_is_refused_here_stays_refused(box: ck.Container, tmp_path: Path) -> None:
    """A caller's own files are closed by whoever closed them."""
    assert box.files.read_text("/closed/file") == "secret\n"
    (tmp_path / "shut").mkdir(mode=0o555)
    (tmp_path / "unreadable").write_text("x")
    (tmp_path / "unreadable").chmod(0)
    with pytest.raises(PermissionDenied):
        box.files.get("/closed/file", tmp_path / "shut" / "file")
    with pytest.raises(PermissionDenied):
        box.files.put(tmp_path / "unreadable", "/tmp/x")


@pytest.mark.parametrize("userns", ["host"])
def test_many_threads_and_a_helper_that_dies(box: ck.Container) -> None:
    found: list[str] = []

    def read() -> None:
        for _ in range(5):
            found.append(box.files.read_text("/closed/in/deep"))

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["deep\n"] * 30
    (one,) = helper._helpers.values()
    one._process._process.send_signal(signal.SIGKILL)
    one._process._process.wait()
    assert box.files.read_text("/closed/in/deep") == "deep\n"


async def in_asyncio(root: Path, identity: str) -> list[str]:
    async with await aio.Engine.open(root) as engine:
        box = await engine.containers.get(identity)
        return list(await asyncio.gather(*[box.files.read_text("/closed/file") for _ in range(4)]))


@pytest.mark.parametrize("userns", ["auto"])
def test_for_asyncio(engine: ck.Engine, box: ck.Container) -> None:
    assert asyncio.run(in_asyncio(engine.root, box.id)) == ["secret\n"] * 4


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
@pytest.mark.parametrize("userns", ["host"])
def test_it_ends_with_a_child_of_a_fork_and_its_caller(box: ck.Container) -> None:
    """A forked child has none of it; and the engine's end is its end."""
    assert box.files.read_text("/closed/file") == "secret\n"
    (one,) = helper._helpers.values()
    pid = os.fork()
    if pid == 0:
        os._exit(len(helper._helpers))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    helper.end()
    assert one._process._process.returncode is not None
    assert not helper._helpers
    assert box.files.read_text("/closed/file") == "secret\n"
