"""Whole trees, in and out: as `cp -a` and GNU tar would have them; and under which name they go."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit.errors import (
    ArchiveError,
    FileError,
    FileNotFound,
    FileTooLarge,
    IsADirectory,
    NotADirectory,
    SpecialFile,
)
from containerkit.runtime.files import Files
from tests.integration.layers.test_like_gnu_tar import date, plant, plant_more, put_attributes
from tests.support.tars import describe

HERE = (os.geteuid(), os.getegid())


def inside(box: ck.Container, path: str) -> Path:
    """The container's file, reached the naive way."""
    return Path(f"/proc/{box.pid}/root{path}")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A tree with everything that a copy takes along."""
    top = tmp_path / "source"
    top.mkdir()
    plant(top)
    plant_more(top)
    put_attributes(top)
    os.mkfifo(top / "fifo", 0o640)
    (top / "fifo").chmod(0o640)
    date(top)
    return top


def without_rights(tree: dict[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """A tree less set-id bits of files and file capabilities."""
    found = {}
    for name, (kind, mode, uid, gid, time, content, attributes, first) in tree.items():
        bits = mode if stat.S_ISDIR(kind) else mode & 0o1777
        kept = tuple(one for one in attributes if one[0] != "security.capability")
        found[name] = (kind, bits, uid, gid, time, content, kept, first)
    return found


# ---- what travels


@pytest.mark.needs("owners")
def test_a_tree_there_and_back(
    box: ck.Container, files: Files, source: Path, tmp_path: Path
) -> None:
    put = files.put(source, "/data", owner="keep")
    assert describe(inside(box, "/data")) == describe(source)
    assert put.entries == len(describe(source))
    assert put.left_out == ()
    got = files.get("/data", tmp_path / "back", owner="keep")
    assert got == put
    assert describe(tmp_path / "back") == without_rights(describe(source))
    for name in ("sparse few", "sparse many", "all hole"):
        assert (tmp_path / "back" / name).stat().st_blocks <= (source / name).stat().st_blocks + 16


@pytest.mark.needs("owners")
def test_a_copy_is_that_of_cp(box: ck.Container, files: Files, source: Path) -> None:
    files.put(source, "/ours", owner="keep")
    subprocess.run(["cp", "-a", source, inside(box, "/theirs")], check=True)
    assert describe(inside(box, "/ours")) == describe(inside(box, "/theirs"))


@pytest.mark.needs("owners")
def test_an_archive_is_read_by_gnu_tar(files: Files, source: Path, tmp_path: Path) -> None:
    files.put(source, "/data", owner="keep")
    with files.archive("/data") as tar:
        (tmp_path / "data.tar").write_bytes(tar.read())
    subprocess.run(
        ["tar", "-x", "-p", "--same-owner", "--numeric-owner", "--xattrs", "--xattrs-include=*"]
        + ["-f", tmp_path / "data.tar", "-C", tmp_path],
        check=True,
    )
    assert describe(tmp_path / "data") == describe(source)
    with tarfile.open(tmp_path / "data.tar") as again:
        assert len(again.getnames()) == len(describe(source))


@pytest.mark.needs("owners")
@pytest.mark.parametrize("how", ["posix", "gnu", "oldgnu"])
def test_an_archive_of_gnu_tar_is_extracted(
    box: ck.Container, files: Files, source: Path, how: str
) -> None:
    extra = ["--xattrs", "--xattrs-include=*"] if how == "posix" else []
    made = subprocess.run(
        ["tar", f"--format={how}", "--sparse", *extra, "-C", source.parent, "-c", "source"],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    files.mkdir("/x")
    count = files.extract("/x", made).entries
    wanted = describe(source, times=how == "posix")
    if how != "posix":
        wanted = {name: (*seen[:6], (), seen[7]) for name, seen in wanted.items()}
    assert describe(inside(box, "/x/source"), times=how == "posix") == wanted
    assert count == len(wanted)


@pytest.mark.needs("ids")
@pytest.mark.parametrize("compression", ["gz", "bz2", "xz"])
def test_a_compressed_tar_from_a_file(files: Files, tmp_path: Path, compression: str) -> None:
    (tmp_path / "a").write_text("a" * 100_000)
    path = tmp_path / f"a.tar.{compression}"
    subprocess.run(["tar", "-C", tmp_path, "-caf", path, "a"], check=True)
    files.extract("/tmp", path)
    assert files.read_text("/tmp/a") == "a" * 100_000
    with path.open("rb") as file:
        files.extract("/tmp", file)
    files.extract("/tmp", iter([path.read_bytes()]))
    with pytest.raises(ArchiveError):
        files.extract("/tmp", path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.needs("host root")
def test_owners(box: ck.Container, files: Files, tmp_path: Path) -> None:
    local = tmp_path / "mine"
    local.write_text("x")
    os.chown(local, 1234, 5678)
    for owner, wanted in {(7, 8): (7, 8), "keep": (1234, 5678), (0, 0): (0, 0)}.items():
        files.put(local, "/tmp/mine", owner=owner)  # type: ignore[arg-type]
        info = files.stat("/tmp/mine")
        assert (info.uid, info.gid) == wanted
    files.put(local, "/tmp/mine")
    assert files.stat("/tmp/mine").uid == 0
    files.write_text("/tmp/theirs", "y", owner=(7, 8), mode=0o6755)
    files.get("/tmp/theirs", tmp_path / "theirs")
    status = (tmp_path / "theirs").stat()
    assert (status.st_uid, status.st_gid) == HERE
    assert stat.S_IMODE(status.st_mode) == 0o755


@pytest.mark.needs("device nodes")
def test_what_can_not_be_copied_is_named(box: ck.Container, files: Files, tmp_path: Path) -> None:
    files.mkdir("/tmp/d")
    os.mknod(inside(box, "/tmp/d/disk"), 0o666 | stat.S_IFBLK, os.makedev(8, 0))
    files.write_text("/tmp/d/file", "x")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(inside(box, "/tmp/d/socket")))
        got = files.get("/tmp/d", tmp_path / "d")
        assert got.left_out == ("disk", "socket")
        assert [path.name for path in (tmp_path / "d").iterdir()] == ["file"]
        for name in ("disk", "socket"):
            with pytest.raises(SpecialFile):
                files.get(f"/tmp/d/{name}", tmp_path / name)
            assert not (tmp_path / name).exists()
        with files.archive("/tmp/d") as tar:
            content = tar.read()
    assert files.extract("/root", content).left_out == ("d/disk",)


def test_a_limit_on_the_whole(files: Files, tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    for name in "abc":
        (top / name).write_bytes(bytes(1000))
    assert files.put(top, "/tmp/top", max_size=3000).size == 3000
    with pytest.raises(FileTooLarge):
        files.put(top, "/tmp/top", max_size=2999)
    with pytest.raises(FileTooLarge):
        files.get("/tmp/top", tmp_path / "back", max_size="2KiB")
    with files.archive("/tmp/top") as tar, pytest.raises(FileTooLarge):
        files.extract("/root", tar, max_size=100)
    assert not [path for path in (tmp_path / "back").iterdir() if path.name.startswith(".ck")]


def test_a_large_file_streams(files: Files, tmp_path: Path) -> None:
    import resource

    with (tmp_path / "large").open("wb") as file:
        for number in range(96):
            file.write(number.to_bytes(4, "big") * (1 << 18))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    files.put(tmp_path / "large", "/tmp/large")
    files.get("/tmp/large", tmp_path / "back")
    with files.archive("/tmp/large") as tar:
        files.extract("/root", tar)
    files.get("/root/large", tmp_path / "again")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10
    for name in ("back", "again"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "large").read_bytes()


# ---- under which name


def test_names_are_those_of_docker_cp(files: Files, tmp_path: Path) -> None:
    """Source file or directory, destination missing, file or directory."""
    (tmp_path / "f").write_text("f")
    (tmp_path / "d/sub").mkdir(parents=True)
    (tmp_path / "d/sub/g").write_text("g")
    files.put(tmp_path / "f", "/tmp/new")
    assert files.read_text("/tmp/new") == "f"
    files.put(tmp_path / "f", "/tmp")
    assert files.read_text("/tmp/f") == "f"
    with pytest.raises(FileNotFound):
        files.put(tmp_path / "f", "/tmp/none/")
    with pytest.raises(FileNotFound):
        files.put(tmp_path / "f", "/tmp/none/x")
    with pytest.raises(FileNotFound):
        files.put(tmp_path / "none", "/tmp")
    files.put(tmp_path / "d", "/tmp/made")
    assert files.read_text("/tmp/made/sub/g") == "g"
    files.put(tmp_path / "d", "/tmp/made")
    assert files.read_text("/tmp/made/d/sub/g") == "g"
    files.put(f"{tmp_path}/d/.", "/tmp/made/sub")
    assert files.read_text("/tmp/made/sub/sub/g") == "g"
    files.put(tmp_path / "d", "/tmp/again/")
    assert files.read_text("/tmp/again/sub/g") == "g"
    with pytest.raises(NotADirectory):
        files.put(tmp_path / "d", "/tmp/f")
    with pytest.raises(NotADirectory):
        files.put(tmp_path / "d", "/tmp/f/x")
    (tmp_path / "made").mkdir()
    files.get("/tmp/made", tmp_path)
    assert (tmp_path / "made/sub/g").read_text() == "g"
    files.get("/tmp/made/.", tmp_path / "made/sub")
    assert (tmp_path / "made/sub/sub/g").read_text() == "g"
    with pytest.raises(FileNotFound):
        files.get("/tmp/none", tmp_path)
    with pytest.raises(FileNotFound):
        files.get("/tmp/f", tmp_path / "none/x")


def test_a_link_is_copied_as_a_link_and_written_through(
    box: ck.Container, files: Files, tmp_path: Path
) -> None:
    (tmp_path / "f").write_text("new")
    (tmp_path / "l").symlink_to("f")
    os.symlink("target", inside(box, "/tmp/l"))
    files.put(tmp_path / "f", "/tmp/l")
    assert files.read_text("/tmp/target") == "new"
    files.put(tmp_path / "l", "/tmp/link")
    assert files.stat("/tmp/link", follow_symlinks=False).target == "f"
    os.symlink("/tmp", inside(box, "/to-tmp"))
    files.put(tmp_path / "f", "/to-tmp")
    assert files.read_text("/tmp/f") == "new"


def test_merging_replaces_files_and_keeps_the_rest(files: Files, tmp_path: Path) -> None:
    files.mkdir("/m/sub", parents=True, mode=0o700)
    files.write_text("/m/sub/kept", "kept")
    files.write_text("/m/sub/old", "old")
    (tmp_path / "m/sub").mkdir(parents=True)
    (tmp_path / "m/sub/old").write_text("new")
    files.put(f"{tmp_path}/m/.", "/m")
    assert files.read_text("/m/sub/old") == "new"
    assert files.read_text("/m/sub/kept") == "kept"
    assert files.stat("/m/sub").mode == 0o700
    (tmp_path / "m/sub/old").unlink()
    (tmp_path / "m/sub/old").mkdir()
    with pytest.raises(NotADirectory):
        files.put(f"{tmp_path}/m/.", "/m")
    (tmp_path / "n").mkdir()
    (tmp_path / "n/sub").write_text("")
    with pytest.raises(IsADirectory):
        files.put(f"{tmp_path}/n/.", "/m")
    assert not [entry for entry in files.list("/m") if entry.name.startswith(".ck")]


def test_a_tree_may_be_deep_but_not_endless(
    box: ck.Container, files: Files, tmp_path: Path
) -> None:
    files.mkdir("/deep/" + "d/" * 250, parents=True)
    files.get("/deep", tmp_path / "deep")
    assert (tmp_path / "deep" / "/".join("d" * 250)).is_dir()
    # Made within: where openat2(2) is missing, a path of so many names is refused.
    box.exec(["mkdir", "-p", "/deep/" + "d/" * 300], check=True)
    for attempt in (
        lambda: files.get("/deep", tmp_path / "deeper"),
        lambda: files.archive("/deep").read(),
        lambda: files.remove("/deep", recursive=True),
    ):
        with pytest.raises(FileError, match="deeper than 256"):
            attempt()


def test_the_whole_root_is_copied_without_the_kernels_files(
    engine: ck.Engine, busybox: str, tmp_path: Path
) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source/file").write_text("mounted")
    mounts = [ck.Mount.bind(tmp_path / "source", "/data")]
    with engine.start(busybox, ["sleep", "1000"], mounts=mounts) as box:
        got = box.files.get("/", tmp_path / "root")
        assert "dev/null" in got.left_out
        assert (tmp_path / "root/bin/sh").is_symlink()
        assert (tmp_path / "root/data/file").read_text() == "mounted"
        assert list((tmp_path / "root/proc").iterdir()) == []
        assert list((tmp_path / "root/sys").iterdir()) == []
        with box.files.archive("/") as tar, tarfile.open(fileobj=tar, mode="r|") as read:
            names = set(read.getnames())
        assert {"proc", "sys", "etc/passwd", "data/file"} <= names
        assert not [name for name in names if name.startswith(("proc/", "sys/"))]
        assert box.files.get("/proc/1/status", tmp_path).size > 100
        assert box.files.get("/proc/sys/kernel/random", tmp_path).entries > 3
