"""No descriptor of the host process, of the launcher or of an agent comes into a container.

CVE-2016-9962, CVE-2024-21626.  Not those that the host process lets its children inherit, not by
entering (run, exec, terminal, probe, init), and not by a path that leads through one.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import containerkit as ck
from containerkit.errors import ContainerKitError, LaunchError
from containerkit.runtime import redirect
from tests.support import launchers
from tests.support.patience import until

SECRET = "what only the host has"
NUMBERS = range(40)

OPENED = "/attacks/opened"


@pytest.fixture
def leaked(tmp_path: Path) -> Iterator[Path]:
    """A directory of the host, open under many numbers, each to be inherited by any child."""
    (tmp_path / "canary").write_text(SECRET)
    fds = [os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)]
    fds += [fcntl.fcntl(fds[0], fcntl.F_DUPFD, number) for number in (4, 10, 11, 300)]
    fds.append(os.open(tmp_path / "canary", os.O_RDWR))
    for fd in fds:
        os.set_inheritable(fd, True)
    yield tmp_path
    for fd in fds:
        os.close(fd)


KEPT: Sequence[launchers.Change] = (
    ("ck_child.c", "error = ck_child_close(child);", "error = ck_dup_to(child->slots[2], 9);"),
    (
        "ck_launcher_prepare.c",
        "CK_CLEANUP_FD int tree = start->slots[op->fd[0]];",
        "const int tree = start->slots[op->fd[0]];",
    ),
    ("ck_launcher_prepare.c", "    start->slots[op->fd[0]] = -1;\n", ""),
)
"""The control: a process keeps the tree of the bind mount that its container has."""


def opened(said: str) -> list[str]:
    """The numbers that are open; nothing may be found behind one."""
    assert SECRET not in said
    return [line.split()[0] for line in said.splitlines() if line[:1].isdigit()]


# ---- what is open

STREAMS = ["0", "1", "2"]


def test_in_a_run(engine: ck.Engine, hostile: str, security: ck.Security, leaked: Path) -> None:
    result = engine.run(hostile, [OPENED], text=True, security=security)
    assert opened(result.stdout) == STREAMS


@pytest.mark.parametrize("tty", [False, True])
@pytest.mark.parametrize("init", [False, True])
def test_in_what_is_kept_and_execs(
    engine: ck.Engine, hostile: str, security: ck.Security, leaked: Path, tty: bool, init: bool
) -> None:
    script = f"{OPENED}; echo end; sleep 100000"
    with engine.start(hostile, ["sh", "-c", script], security=security, init=init, tty=tty) as box:
        box.wait_ready(log="end")
        assert opened(box.log_text()) == STREAMS
        assert opened(box.exec([OPENED], text=True, tty=tty).stdout) == STREAMS
        # what only a privileged one may look into
        first = box.exec(["ls", "/proc/1/fd"], text=True, privileged=True).stdout.split()
        assert first == ([] if init else [*STREAMS, *first[3:]])
        assert first[3:] in ([], ["10"])  # the shell's own


def test_in_a_probe(engine: ck.Engine, hostile: str, security: ck.Security, leaked: Path) -> None:
    check = ck.Healthcheck(f"{OPENED} >/dev/shm/said", interval=0.1)
    command = ["sleep", "100000"]
    with engine.start(hostile, command, security=security, healthcheck=check) as box:
        until(lambda: box.health == "healthy")
        said = box.exec(["cat", "/dev/shm/said"], text=True, check=True).stdout
    assert opened(said) == STREAMS


def test_one_that_is_kept_is_found(
    engine_root: Path, hostile: str, leaked: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The control."""
    program = launchers.build(tmp_path_factory.mktemp("launcher"), KEPT)
    with launchers.used(program), ck.Engine.open(engine_root) as engine:
        bind = ck.Mount.bind(leaked, "/x", read_only=True)
        result = engine.run(hostile, [OPENED], mounts=[bind], text=True)
    assert f" holds {SECRET}" in result.stdout


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_directory_is_no_stream(
    engine: ck.Engine, hostile: str, leaked: Path, monkeypatch: pytest.MonkeyPatch, stream: str
) -> None:
    """Streams stay open, and a directory leads on.  The launcher refuses one that the engine lets through."""
    monkeypatch.setattr(redirect, "stat", SimpleNamespace(S_ISDIR=lambda mode: False))
    control = os.open(leaked / "canary", os.O_RDWR)
    place = os.open(leaked, os.O_RDONLY)
    try:
        with engine.start(hostile, ["sleep", "100000"]) as box:
            starts: Sequence[Callable[..., Any]] = (partial(engine.run, hostile), box.exec)
            for start in starts:
                assert start(["true"], **{stream: control}).exit.ok
                with pytest.raises(LaunchError, match=os.strerror(errno.EISDIR)):
                    start(["true"], **{stream: place})
    finally:
        os.close(control)
        os.close(place)


WRITE = "cat; echo changed >/proc/self/fd/0"


@pytest.mark.needs("ids")
@pytest.mark.parametrize("way", ["run", "exec"])
def test_a_file_that_is_given_stays_its_owners(
    engine: ck.Engine, hostile: str, security: ck.Security, tmp_path: Path, way: str
) -> None:
    """A stream that is the caller's file is no other user's for it, who could then open it for writing.

    The control is a pipe, which that user may open again.
    """
    path = tmp_path / "given"
    path.write_text("told\n")
    path.chmod(0o644)
    before = path.stat()
    with engine.start(hostile, ["sleep", "100000"], security=security, user="1000") as box:
        options: dict[str, Any] = {"security": security, "user": "1000"}
        start: Callable[..., Any] = partial(engine.run, hostile, **options)
        start = box.exec if way == "exec" else start
        with path.open() as stdin:
            said = start(["sh", "-c", WRITE], stdin=stdin, text=True)
        control = start(["sh", "-c", "echo told >/proc/self/fd/1"], text=True)
    after = path.stat()
    assert said.stdout == control.stdout == "told\n"
    assert "Permission denied" in said.stderr
    assert path.read_text() == "told\n"
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)


# ---- paths through one


def attempts(place: Path) -> list[str]:
    """Paths that lead to a place of the host if any descriptor led out of the container."""
    outside = [str(place), "", "../" * 8 + str(place).lstrip("/")]
    return [f"/proc/self/fd/{n}/{one}".rstrip("/") for n in NUMBERS for one in outside]


def test_a_working_directory(
    engine: ck.Engine, hostile: str, security: ck.Security, leaked: Path
) -> None:
    """Refused; one of an option loses its ".." by its text, before it is looked up, as in Docker."""
    with engine.start(hostile, ["sleep", "100000"], security=security) as box:
        for path in attempts(leaked)[:60]:
            try:
                said = box.exec(["sh", "-c", "pwd; cat canary"], text=True, workdir=path).stdout
            except ContainerKitError:
                continue
            pytest.fail(f"{path}: {said}")
    for path in attempts(leaked)[:12]:
        try:
            result = engine.run(hostile, ["sh", "-c", "pwd; ls"], workdir=path, security=security)
        except ContainerKitError:
            continue
        assert ".." in path
        assert result.stdout == f"{os.path.normpath(path)}\n".encode()
