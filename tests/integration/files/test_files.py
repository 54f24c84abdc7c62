"""`Files` on a running container: what each method does, seen from inside of it as well."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck
from containerkit.errors import (
    ConfigError,
    FileError,
    FileExists,
    FileNotFound,
    FileTooLarge,
    IsADirectory,
    NotADirectory,
    PermissionDenied,
    SpecialFile,
)
from containerkit.runtime.files import Files
from tests.support.patience import until


def root_of(box: ck.Container) -> Path:
    """The container's files, reached the naive way."""
    return Path(f"/proc/{box.pid}/root")


def make(box: ck.Container, path: str, target: str) -> None:
    os.symlink(target, f"{root_of(box)}{path}")


# ---- content


def test_what_is_written_is_read(box: ck.Container, files: Files) -> None:
    for data in (b"", b"\0\xff", os.urandom(3 << 20)):
        files.write_bytes("/tmp/data", data)
        assert files.read_bytes("/tmp/data") == data
        assert (root_of(box) / "tmp/data").read_bytes() == data
    files.write_text("/tmp/text", "grüße\r\n")
    assert files.read_text("/tmp/text") == "grüße\r\n"
    assert files.read_bytes("/tmp/text") == "grüße\r\n".encode()
    assert files.read_text("/tmp/text", encoding="latin-1") != "grüße\r\n"


@pytest.mark.needs("ids")
def test_a_new_file_belongs_to_root(files: Files) -> None:
    files.write_bytes("/tmp/new", b"x")
    info = files.stat("/tmp/new")
    assert (info.type, info.mode, info.uid, info.gid, info.size) == ("file", 0o644, 0, 0, 1)
    files.write_bytes("/tmp/new", b"y", mode=0o4750, owner=(7, 8))
    info = files.stat("/tmp/new")
    assert (info.mode, info.uid, info.gid) == (0o4750, 7, 8)


@pytest.mark.needs("ids")
def test_a_replaced_file_keeps_owner_and_mode(files: Files) -> None:
    files.write_bytes("/tmp/kept", b"before", mode=0o600, owner=(12, 34))
    with files.open("/tmp/kept", "rb") as reader:
        files.write_bytes("/tmp/kept", b"after")
        assert reader.read() == b"before"  # whoever reads it reads the old one to its end
    info = files.stat("/tmp/kept")
    assert (info.mode, info.uid, info.gid) == (0o600, 12, 34)
    assert [entry.name for entry in files.list("/tmp")] == ["kept"]


def test_a_write_goes_through_links_and_leaves_them(box: ck.Container, files: Files) -> None:
    make(box, "/tmp/first", "second")
    make(box, "/tmp/second", "/../../srv/../tmp/third")
    files.mkdir("/srv", exist_ok=True)
    files.write_text("/tmp/first", "through")
    assert files.read_text("/tmp/third") == "through"
    assert files.stat("/tmp/first", follow_symlinks=False).target == "second"
    make(box, "/tmp/round", "round")
    with pytest.raises(FileError) as caught:
        files.write_text("/tmp/round", "")
    assert caught.value.errno == errno.ELOOP


def test_a_limit_is_kept(files: Files) -> None:
    files.write_bytes("/tmp/ten", b"0123456789")
    assert files.read_bytes("/tmp/ten", max_size=10) == b"0123456789"
    with pytest.raises(FileTooLarge):
        files.read_bytes("/tmp/ten", max_size=9)
    with files.open("/tmp/hole", "wb") as hole:
        hole.truncate(1 << 40)
    with pytest.raises(FileTooLarge):
        files.read_bytes("/tmp/hole", max_size="1MiB")
    with pytest.raises(FileTooLarge):
        files.read_text("/proc/meminfo", max_size=10)


def test_files_of_proc_are_read_though_they_have_no_size(files: Files) -> None:
    # The kernel closes what is not to be inherited before it gives a program its name.
    until(lambda: files.read_text("/proc/1/comm") == "sleep\n")
    assert files.stat("/proc/1/comm").size == 0


def test_a_mounted_file_is_written_in_place(box: ck.Container, files: Files) -> None:
    before = files.read_text("/etc/hosts")
    files.write_text("/etc/hosts", before + "10.0.0.1\tother\n")
    assert files.read_text("/etc/hosts").endswith("other\n")
    assert files.list("/etc/")
    assert not [entry for entry in files.list("/etc") if entry.name.startswith(".ck")]


def test_open_is_like_the_builtin(files: Files, tmp_path: Path) -> None:
    local = tmp_path / "same"
    for mode in ("x", "w", "r+", "a", "a+", "w+"):
        with files.open("/tmp/same", mode) as remote, local.open(mode) as here:
            for file in (remote, here):
                file.write(f"line of {mode}\n")
                file.seek(0)
                if "+" in mode:
                    file.readline()
                    file.write("appended or not\n")
        assert files.read_bytes("/tmp/same") == local.read_bytes(), mode
    with pytest.raises(FileExists):
        files.open("/tmp/same", "x")
    with files.open("/tmp/same", "rb", buffering=0) as raw:
        assert raw.read(4) == b"line"
        assert not os.get_inheritable(raw.fileno())
    for mode in ("", "rw", "rbt", "q", "rr"):
        with pytest.raises(ConfigError):
            files.open("/tmp/same", mode)  # type: ignore[call-overload]


def test_an_opened_file_is_the_file_itself(box: ck.Container, files: Files) -> None:
    with files.open("/tmp/live", "w") as file:
        file.write("seen")
        file.flush()
        assert (root_of(box) / "tmp/live").read_text() == "seen"
    assert files.stat("/tmp/live").mode == 0o644
    assert files.stat("/tmp/live").uid == 0


# ---- names


@pytest.mark.needs("ids")
def test_list_and_stat(box: ck.Container, files: Files) -> None:
    files.mkdir("/tmp/d", mode=0o1777, owner=(5, 6))
    files.write_bytes("/tmp/d/f", b"12345")
    make(box, "/tmp/d/l", "/nowhere")
    os.mkfifo(root_of(box) / "tmp/d/p")
    assert [(e.name, e.type, e.target) for e in files.list("/tmp/d")] == [
        ("f", "file", None),
        ("l", "symlink", "/nowhere"),
        ("p", "fifo", None),
    ]
    info = files.stat("/tmp/d/")
    assert (info.name, info.is_dir, info.mode, info.uid, info.gid) == ("d", True, 0o1777, 5, 6)
    assert files.stat("/").name == "/"
    assert files.stat("/dev/null").type == "char-device"
    assert files.stat("/tmp/d/l", follow_symlinks=False).is_symlink
    assert files.stat("/tmp/d/f").modified.timestamp() == pytest.approx(
        (root_of(box) / "tmp/d/f").stat().st_mtime
    )
    with pytest.raises(FileNotFound):
        files.stat("/tmp/d/l")


def test_exists(box: ck.Container, files: Files) -> None:
    make(box, "/tmp/dangling", "/nowhere")
    make(box, "/tmp/shell", "/bin/sh")
    make(box, "/tmp/round", "round")
    found = ["/", "/bin/sh", "/tmp/", "/tmp/shell", "/dev/null"]
    missing = ["/nothing", "/bin/sh/x", "/tmp/dangling", "/tmp/round", "/nothing/x"]
    assert [path for path in found + missing if files.exists(path)] == found


def test_mkdir(box: ck.Container, files: Files) -> None:
    old = os.umask(0o077)
    try:
        files.mkdir("/a/b/c", parents=True, mode=0o2751)
    finally:
        os.umask(old)
    assert [files.stat(path).mode for path in ("/a", "/a/b", "/a/b/c")] == [0o755, 0o755, 0o2751]
    make(box, "/to-a", "a")
    files.mkdir("/to-a/b/d")
    files.mkdir("/to-a", exist_ok=True)
    files.mkdir("/", exist_ok=True)
    assert files.exists("/a/b/d")
    with pytest.raises(FileExists):
        files.mkdir("/a/b")
    with pytest.raises(FileNotFound):
        files.mkdir("/x/y")
    files.write_text("/file", "")
    for parents in (False, True):
        with pytest.raises((NotADirectory, FileExists)):
            files.mkdir("/file", parents=parents, exist_ok=True)
    with pytest.raises(NotADirectory):
        files.mkdir("/file/x", parents=True)


def test_remove(box: ck.Container, files: Files) -> None:
    files.mkdir("/r/sub", parents=True)
    files.write_text("/r/sub/f", "")
    files.write_text("/r/kept", "")
    make(box, "/r/sub/out", "/r/kept")
    make(box, "/link", "/r")
    with pytest.raises(FileError) as caught:
        files.remove("/r")
    assert caught.value.errno == errno.ENOTEMPTY
    files.remove("/link", recursive=True)
    assert files.exists("/r/kept")
    files.remove("/r/sub", recursive=True)
    assert [entry.name for entry in files.list("/r")] == ["kept"]
    files.remove("/r/kept")
    files.remove("/r")
    with pytest.raises(FileNotFound):
        files.remove("/r")
    files.remove("/r", missing_ok=True)
    files.remove("/r/x/y", missing_ok=True)
    for path in ("/", "/r/.", "/r/.."):
        with pytest.raises(ConfigError):
            files.remove(path, recursive=True)


def test_what_is_mounted_is_not_removed(engine: ck.Engine, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    mounts = [ck.Mount.bind(tmp_path, "/data/in/volume")]
    with engine.start(busybox, ["sleep", "1000"], mounts=mounts) as box:
        files = box.files
        files.write_text("/data/in/volume/more", "")
        with pytest.raises(FileError) as caught:
            files.remove("/data", recursive=True)
        assert caught.value.errno == errno.EBUSY
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept", "more"]


def test_rename(box: ck.Container, files: Files) -> None:
    files.write_text("/tmp/a", "a")
    files.write_text("/tmp/b", "b")
    files.mkdir("/tmp/d")
    files.rename("/tmp/a", "/tmp/b")
    assert files.read_text("/tmp/b") == "a"
    assert not files.exists("/tmp/a")
    files.rename("/tmp/b", "/tmp/d/c")
    assert files.read_text("/tmp/d/c") == "a"
    with pytest.raises(FileNotFound):
        files.rename("/tmp/none", "/tmp/x")
    files.mkdir("/tmp/e")
    with pytest.raises(IsADirectory):
        files.rename("/tmp/d/c", "/tmp/e")
    with pytest.raises(FileError) as caught:
        files.rename("/tmp/d/c", "/dev/shm/c")
    assert caught.value.errno == errno.EXDEV


# ---- errors


@pytest.mark.parametrize(
    ("path", "kind", "builtin"),
    [
        ("/none", FileNotFound, FileNotFoundError),
        ("/none/x", FileNotFound, FileNotFoundError),
        ("/bin", IsADirectory, IsADirectoryError),
        ("/bin/sh/x", NotADirectory, NotADirectoryError),
        ("/dev/zero", SpecialFile, OSError),
        ("/tmp/fifo", SpecialFile, OSError),
        ("/tmp/socket", SpecialFile, OSError),
    ],
)
def test_errors_are_those_of_pathlib_too(
    box: ck.Container,
    files: Files,
    path: str,
    kind: type[Exception],
    builtin: type[Exception],
) -> None:
    import socket

    os.mkfifo(root_of(box) / "tmp/fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{root_of(box)}/tmp/socket")
        with pytest.raises(kind) as caught:
            files.read_bytes(path)
        assert isinstance(caught.value, builtin)
        assert isinstance(caught.value, FileError)
        assert path in str(caught.value)
        assert caught.value.path == path
        with pytest.raises(OSError):
            files.open(path)
        if path != "/none":
            with pytest.raises(builtin):
                files.write_bytes(path, b"")


@pytest.mark.parametrize("path", ["", "tmp", "./tmp", "/tmp/\0", b"/tmp", "~"])
def test_a_path_must_be_absolute_text(files: Files, path: Any) -> None:
    with pytest.raises(ConfigError):
        files.read_bytes(path)


def test_read_only_mounts_are_permission_denied(engine: ck.Engine, busybox: str) -> None:
    security = ck.Security(read_only=True)
    with engine.start(busybox, ["sleep", "1000"], security=security) as box:
        files = box.files
        with pytest.raises(PermissionDenied, match="read-only"):
            files.write_text("/tmp/x", "")
        with pytest.raises(PermissionError):
            files.mkdir("/tmp/x")
        with pytest.raises(PermissionDenied):
            files.open("/etc/hostname", "r+b")
        assert files.read_text("/etc/hostname")


def test_several_threads_at_once(files: Files) -> None:
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for round_ in range(50):
                files.write_text(f"/tmp/{number}", str(round_))
                files.write_text("/tmp/all", f"{number:3}" * 1000)
                assert files.read_text(f"/tmp/{number}") == str(round_)
                text = files.read_text("/tmp/all")
                assert text == text[:3] * 1000
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert len(files.list("/tmp")) == 9
