"""The helper of an ordinary user: one step at a time, and none that leads elsewhere."""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from containerkit.model.idmap import IdMap
from containerkit.runtime import hands, helper
from containerkit.state import userns

Ask = Callable[..., tuple[int, Any, int | None]]
LOOK = os.O_PATH | os.O_NOFOLLOW
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW


@pytest.fixture
def top(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "file").write_text("text")
    (tmp_path / "directory").mkdir()
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.mkfifo(tmp_path / "fifo")
    fd = os.open(tmp_path, os.O_PATH)
    yield fd
    os.close(fd)


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Asks a helper that serves in a thread of this process."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    thread = threading.Thread(target=helper.serve, args=(theirs.detach(),))
    thread.start()

    def one(step: str, *arguments: Any, fds: tuple[int, ...]) -> tuple[int, Any, int | None]:
        socket.send_fds(ours, [json.dumps([step, arguments]).encode()], fds)
        said, found, _, _ = socket.recv_fds(ours, 1 << 17, 1)
        number, value = json.loads(said)
        return number, value, found[0] if found else None

    with ours:
        yield one
    thread.join()


@pytest.mark.parametrize("name", ["", ".", "..", "/etc/passwd", "directory/../file"])
@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        ("open", (), (LOOK, 0)),
        ("open", (), (NEW, 0o600)),
        ("mkdir", (), (0o700,)),
        ("mkfifo", (), (0o600,)),
        ("symlink", ("x",), ()),
        ("unlink", (), ()),
        ("rmdir", (), ()),
        ("chown_name", (-1, -1), ()),
        ("utime_name", (), (0, 0)),
    ],
)
def test_single_names_only(
    ask: Ask, top: int, step: str, before: tuple[Any, ...], after: tuple[Any, ...], name: str
) -> None:
    assert ask(step, *before, name, *after, fds=(top,)) == (errno.EINVAL, None, None)


def test_names_of_two_directories(ask: Ask, top: int) -> None:
    for old, new in (("../x", "new"), ("file", "../x"), ("file", "..")):
        assert ask("rename", old, new, fds=(top, top))[0] == errno.EINVAL
    assert ask("link", "directory/x", fds=(top, top))[0] == errno.EINVAL
    assert ask("rename", "file", "new", fds=(top, top))[0] == 0


def test_nothing_is_opened_that_is_no_file(ask: Ask, top: int, tmp_path: Path) -> None:
    for flags in (os.O_RDONLY, os.O_RDWR | os.O_CREAT, os.O_PATH, os.O_DIRECTORY):
        assert ask("open", "link", flags, 0, fds=(top,))[0] == errno.EINVAL
        assert ask("open", "fifo", flags, 0, fds=(top,))[0] == errno.EINVAL
    assert ask("open_beneath", "/file", os.O_RDONLY, False, fds=(top,))[0] == errno.EINVAL
    for name in ("fifo", "link"):
        found = os.open(tmp_path / name, LOOK)
        assert ask("reopen", os.O_RDONLY, fds=(found,))[0] == errno.ENXIO
        os.close(found)
    assert ask("open_beneath", "/link", os.O_PATH, False, fds=(top,))[0] == errno.ENOENT
    for name in ("trusted.overlay.opaque", "user", "security.selinux", "system.posix_acl_access"):
        assert ask("setxattr", name, "", fds=(top,))[0] == errno.EPERM
        assert ask("getxattr", name, fds=(top,))[0] == errno.EPERM


def test_a_descriptor_comes_back_and_none_stays(ask: Ask, top: int) -> None:
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        number, _value, found = ask("open", "file", LOOK, 0, fds=(top,))
        assert number == 0
        assert found is not None
        number, _value, content = ask("reopen", os.O_RDONLY, fds=(found,))
        assert content is not None
        assert os.read(content, 10) == b"text"
        assert ask("open", "none", LOOK, 0, fds=(top,))[0] == errno.ENOENT
        os.close(found)
        os.close(content)
    assert os.listdir("/proc/self/fd") == before


def test_owners_as_it_counts_them() -> None:
    ids = IdMap([(0, 500, 1), (1, 100_000, 65536)])
    assert helper._numbers("chown", (100_006, 500), ids) == (7, 0)
    assert helper._numbers("chown_name", (-1, 100_000, "name"), ids) == (-1, 1, "name")
    assert helper._numbers("chown", (0, 500), ids) is None
    assert helper._numbers("mkdir", ("name", 0o700), ids) == ("name", 0o700)


def test_a_refusal_on_a_mount_of_ours_is_one(
    top: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    assert not helper._is_theirs(top)
    monkeypatch.setattr(os, "mkdir", refuse)
    for roots in ({}, {userns.Ids((), ()): tmp_path}):
        monkeypatch.setattr(helper, "_roots", roots)
        with pytest.raises(PermissionError):
            hands.mkdir("x", 0o700, dir_fd=top)
    assert not helper._helpers
