"""`Container.export`: the whole root as a tar, and nothing that is mounted over it."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit.errors import FileNotFound, InvalidStatus
from containerkit.runtime import export
from tests.conftest import missing


def members(data: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {member.name: member for member in tar}


def exported(box: ck.Container) -> bytes:
    out = io.BytesIO()
    box.export(out)
    return out.getvalue()


def test_the_whole_root_and_nothing_else(engine: ck.Engine, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "host").write_text("the host's")
    mounts = [ck.Mount.bind(tmp_path, "/data/volume"), ck.Mount.tmpfs("/scratch")]
    command = ["sh", "-c", "echo > /scratch/x; echo own > /data/own; rm /etc/group; sleep 1000"]
    with engine.start(busybox, command, mounts=mounts) as box:
        while not box.files.exists("/data/own") or box.files.exists("/etc/group"):
            pass
        found = members(exported(box))
        assert str(box.status) == "running"
    names = set(found)
    assert {".", "bin/sh", "bin/busybox", "etc/passwd", "data/own", "tmp"} <= names
    assert found["bin/sh"].linkname == "busybox"
    assert found["tmp"].mode == 0o1777
    assert found["home/app"].uid == (0 if missing("ids") else 1000)
    assert "etc/group" not in names
    for empty in ("proc", "sys", "dev", "data/volume", "scratch"):
        assert found[empty].isdir()
        assert not [name for name in names if name.startswith(f"{empty}/")]
    assert found["etc/hosts"].size == 0
    assert found["bin/busybox"].size > 100_000


@pytest.mark.needs("host root")
def test_it_is_what_gnu_tar_makes_of_the_root(
    engine: ck.Engine, busybox: str, tmp_path: Path
) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as box:
        box.export(tmp_path / "ours.tar")
        subprocess.run(
            [
                "tar",
                "--format=posix",
                "-C",
                f"/proc/{box.pid}/root",
                "-cf",
                f"{tmp_path}/theirs.tar",
            ]
            + ["--exclude=./proc/*", "--exclude=./sys/*", "--exclude=./dev/*", "."],
            check=True,
        )
    ours = members((tmp_path / "ours.tar").read_bytes())
    theirs = members((tmp_path / "theirs.tar").read_bytes())
    assert set(ours) == {name.removeprefix("./") for name in theirs}
    for name, member in theirs.items():
        own = ours[name.removeprefix("./")]
        assert (own.mode, own.uid, own.gid, own.type, own.linkname.removeprefix("./")) == (
            member.mode,
            member.uid,
            member.gid,
            member.type,
            member.linkname.removeprefix("./"),
        ), name
    assert [path.name for path in tmp_path.iterdir() if "part" in path.name] == []


def test_one_that_does_not_run(engine: ck.Engine, busybox: str) -> None:
    with engine.containers.create(busybox, ["sh", "-c", "echo x > /tmp/x"]) as box:
        before = members(exported(box))
        assert "tmp/x" not in before
        assert "bin/sh" in before
        box.start()
        box.wait(timeout=120)
        assert set(members(exported(box))) - set(before) == {"tmp/x"}
        assert str(box.status) == "stopped"
        box.remove()
        with pytest.raises(InvalidStatus):
            box.export(io.BytesIO())


STUCK = """
import sys, time
import containerkit as ck
from containerkit.runtime import archive
def stuck(*args):
    print("reading", flush=True)
    time.sleep(1000)
archive._content = stuck
with ck.Engine.open(sys.argv[1]) as engine:
    engine.containers.get(sys.argv[2]).export(sys.argv[3])
"""


@pytest.mark.parametrize("before", [None, b"before"])
def test_a_killed_exporter_leaves_no_file(
    engine: ck.Engine, busybox: str, tmp_path: Path, before: bytes | None
) -> None:
    """What was there stays; and the next one puts its own in place."""
    target = tmp_path / "x.tar"
    if before is not None:
        target.write_bytes(before)
    with engine.start(busybox, ["sleep", "1000"]) as box:
        exporter = subprocess.Popen(
            [sys.executable, "-c", STUCK, engine.root, box.id, target], stdout=subprocess.PIPE
        )
        assert exporter.stdout is not None
        assert exporter.stdout.readline() == b"reading\n"
        exporter.kill()
        exporter.communicate()
        found = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        assert found == ({} if before is None else {"x.tar": before})
        box.export(target)
        assert "bin/sh" in members(target.read_bytes())
        assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
        umask = os.umask(0)
        os.umask(umask)
        assert stat.S_IMODE(target.stat().st_mode) == 0o666 & ~umask


def test_where_each_file_needs_a_name(
    engine: ck.Engine, busybox: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "_open_nameless", lambda _: -1)
    with engine.containers.create(busybox, ["true"]) as box:
        for _ in range(2):
            box.export(tmp_path / "x.tar")
            assert "bin/sh" in members((tmp_path / "x.tar").read_bytes())
        monkeypatch.setattr(export, "put_in_place", lambda *_: os.close(-1))
        with pytest.raises(OSError, match="descriptor"):
            box.export(tmp_path / "y.tar")
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


SLOW = """
import sys, time
import containerkit as ck
class Slow:
    def write(self, data):
        print("writing", flush=True)
        time.sleep(1000)
with ck.Engine.open(sys.argv[1]) as engine:
    engine.containers.get(sys.argv[2]).export(Slow())
"""


@pytest.mark.needs("control groups")
def test_a_killed_exporter_leaves_it_running(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as box:
        exporter = subprocess.Popen(
            [sys.executable, "-c", SLOW, engine.root, box.id], stdout=subprocess.PIPE
        )
        assert exporter.stdout is not None
        assert exporter.stdout.readline() == b"writing\n"
        assert str(box.status) == "paused"
        exporter.kill()
        exporter.communicate()
        deadline = time.monotonic() + 120
        while str(box.status) != "running":
            assert time.monotonic() < deadline
        exported(box)
        assert str(box.status) == "running"


@pytest.mark.needs("control groups")
def test_one_that_was_paused_stays_so(engine: ck.Engine, busybox: str) -> None:
    with engine.start(busybox, ["sleep", "1000"]) as box:
        box.pause()
        assert exported(box)
        assert box.diff() == ()
        assert str(box.status) == "paused"


class Enough(Exception):
    pass


class Until(io.BytesIO):
    """Takes what is written until it has seen a text: the host's own /usr is large."""

    def __init__(self, text: bytes) -> None:
        super().__init__()
        self.text = text

    def write(self, data: Any) -> int:
        if self.text in data:
            raise Enough
        return len(data)


def test_the_host_image_has_its_own_directories(engine: ck.Engine) -> None:
    with engine.containers.create(None, ["true"]) as box:
        with pytest.raises(Enough):
            box.export(Until(b"usr/bin/env"))
        box.start()  # nothing of the export is left that would hold it up
        assert box.wait(timeout=120).ok


def test_a_file_appears_whole_or_not_at_all(
    engine: ck.Engine, busybox: str, tmp_path: Path
) -> None:
    class Full(io.BytesIO):
        def write(self, _data: object) -> int:
            raise OSError(28, "full")

    with engine.containers.create(busybox, ["true"]) as box:
        with pytest.raises(FileNotFound):
            box.export(tmp_path / "none" / "x.tar")
        with pytest.raises(OSError, match="full"):
            box.export(Full())
        box.export(str(tmp_path / "x.tar"))
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]
