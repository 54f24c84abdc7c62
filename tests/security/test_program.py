"""The program that enters a container: nothing in there reaches into it, or writes to it.

CVE-2019-5736 (overwritten through /proc/PID/exe), CVE-2016-9962 (traced, or its descriptors used,
while it enters by an exec).  What makes it safe is that it is not dumpable until it has executed the
container's own program, and that its own file is sealed.  A container that may trace anything of its
user namespace is the control: there, everything is to be seen.
"""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

import containerkit as ck
from containerkit.runtime import launcher
from tests.integration.exec.look import launcher_of
from tests.security import plans
from tests.support import ocibuild
from tests.support.patience import until
from tests.support.registry import RegistryServer

SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
ENTRIES = 20


# ---- who reaches into what enters


def peek(engine: ck.Engine, image: str, security: ck.Security, user: str | None) -> dict[str, int]:
    """Return how often something was seen entering, and what was got of it."""
    with (
        engine.start(image, ["sleep", "100000"], security=security, user=user) as box,
        box.popen(["/attacks/peek"], text=True) as spy,
    ):
        assert spy.stdout is not None
        assert spy.stdin is not None
        assert spy.stdout.readline() == "ready\n"
        with plans.slowly():
            for _ in range(ENTRIES):
                box.exec(["true"], check=True)
        spy.stdin.close()
        said = [line.split() for line in spy.stdout]
    return {line[-2]: int(line[-1]) for line in said}


def seen_something(found: dict[str, int]) -> dict[str, int] | None:
    return found if found["seen"] else None


@pytest.mark.parametrize("user", [None, "app"])
def test_what_enters_can_not_be_reached(
    engine: ck.Engine, hostile: str, security: ck.Security, user: str | None
) -> None:
    found = until(lambda: seen_something(peek(engine, hostile, security, user)))
    assert found.keys() == {"seen"}


def test_but_by_whom_may_trace_everybody(engine: ck.Engine, hostile: str) -> None:
    """The control, and a limit: who is given SYS_PTRACE has all rights of what enters."""
    security = ck.Security(capabilities=["+SYS_PTRACE"])
    found = until(lambda: seen_something(peek(engine, hostile, security, None)))
    assert {"mem", "maps", "root", "exe"} <= found.keys()


# ---- who writes to its file


OVERWRITE = r"""
exec 3<%s || exit 3
i=0; while [ $i -lt 200 ]; do
    if printf overwritten >/proc/self/fd/3; then echo overwritten; exit; fi
    i=$((i+1))
done 2>/tmp/said
"""


def overwrites(path: str) -> str:
    """A script that opens what is executed there, and writes to it once it is executed no more."""
    return OVERWRITE % path


@pytest.fixture(scope="module")
def itself(registry: RegistryServer, attacks: Path) -> str:
    """An image whose programs are the program that enters."""
    files = {
        "bin/evil": ocibuild.program("#!/proc/self/exe\n"),
        "bin/again": ocibuild.symlink("/proc/self/exe"),
    }
    return registry.push("test/itself:latest", ocibuild.busybox(files))


def program_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/exe").read_bytes()


@pytest.mark.parametrize("program", ["/proc/self/exe", "/bin/evil", "/bin/again"])
def test_entering_by_its_own_program(
    engine: ck.Engine, itself: str, security: ck.Security, program: str
) -> None:
    """It is executed as any program is, in the container, with nothing: it ends at once."""
    assert not engine.run(itself, [program], security=security).exit.ok
    with engine.start(itself, ["sleep", "100000"], security=security) as box:
        assert not box.exec([program]).exit.ok
        terminal = box.exec([program], tty=True)
        assert not terminal.exit.ok
        assert terminal.stdout == b""


def test_who_can_open_it_can_not_write_to_it(engine: ck.Engine, hostile: str) -> None:
    """An init stays in the container, and is the launcher's program; here somebody may open it."""
    security = ck.Security(capabilities=["+SYS_PTRACE"])
    before = launcher.PROGRAM.read_bytes()
    with engine.start(hostile, ["sleep", "100000"], security=security, init=True) as box:
        assert box.exec(["readlink", "/proc/1/exe"], text=True).stdout.startswith("/memfd:")
        done = box.exec(["sh", "-c", overwrites("/proc/1/exe")], text=True)
        assert done.exit.ok, done
        assert done.stdout == ""
    assert program_of(launcher_of(engine).pid) == before


def test_without_the_right_it_can_not_even_be_opened(
    engine: ck.Engine, hostile: str, security: ck.Security
) -> None:
    with engine.start(hostile, ["sleep", "100000"], security=security, init=True) as box:
        for name in ("exe", "mem", "environ", "maps", "fd/0", "root"):
            tried = box.exec(["sh", "-c", f"exec 3</proc/1/{name}"], text=True)
            assert not tried.exit.ok, name


def write_to(fd: int) -> None:
    again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
    try:
        os.pwrite(again, b"overwritten", 0)
    finally:
        os.close(again)


def test_it_is_sealed() -> None:
    fd = launcher._sealed_copy()
    try:
        assert fcntl.fcntl(fd, fcntl.F_GET_SEALS) & SEALS == SEALS
        with pytest.raises(PermissionError):
            write_to(fd)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        assert Path(f"/proc/self/fd/{fd}").read_bytes() == launcher.PROGRAM.read_bytes()
    finally:
        os.close(fd)


def test_a_copy_that_is_not_sealed_would_be_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control."""
    monkeypatch.setattr(launcher, "_F_SEALS", 0)
    monkeypatch.setattr(launcher, "_F_SEAL_EXEC", 0)
    fd = launcher._sealed_copy()
    try:
        write_to(fd)
        os.lseek(fd, 0, os.SEEK_SET)
        assert os.read(fd, 11) == b"overwritten"
    finally:
        os.close(fd)


# ---- who changes its mode


def has_seal(fd: int) -> bool:
    return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & launcher._F_SEAL_EXEC)


@pytest.mark.parametrize("sealed", [True, False])
def test_who_changes_its_mode_keeps_no_launcher_from_its_start(
    engine_root: Path, hostile: str, monkeypatch: pytest.MonkeyPatch, *, sealed: bool
) -> None:
    """Root in a container may be who made it; without the seal, as before Linux 6.3, it can."""
    if not sealed:
        monkeypatch.setattr(launcher, "_F_SEAL_EXEC", 0)
    monkeypatch.setattr(launcher, "_program_fd", -1)
    security = ck.Security(capabilities=["+SYS_PTRACE"])
    try:
        with (
            ck.Engine.open(engine_root) as first,
            first.start(hostile, ["sleep", "100000"], security=security, init=True) as box,
        ):
            used = launcher._program_fd
            box.exec(["chmod", "000", "/proc/1/exe"])
            box.exec(["chown", "77", "/proc/1/exe"])
            executable = bool(os.fstat(used).st_mode & 0o111)
            assert executable == (
                sealed and has_seal(used)
            )  # the control: else that copy is spoilt
            lasting = first.start(hostile, ["sleep", "100000"], lifetime="detached")
            lasting.remove(force=True)
    finally:
        os.close(launcher._program_fd)


# ---- where nothing may be executed from memory


WITHOUT = """
import os, sys
from pathlib import Path
import containerkit as ck
from containerkit.runtime import launcher
Path("/proc/sys/vm/memfd_noexec").write_text("2")
with ck.Engine.open(sys.argv[1]) as engine:
    result = engine.run(sys.argv[2], ["echo", "ran"], text=True)
    fd = launcher._program()
for flags in (os.O_RDWR, os.O_WRONLY | os.O_TRUNC):
    try:
        os.close(os.open(f"/proc/self/fd/{fd}", flags))
        print("opened for writing")
    except OSError as error:
        print(error.errno)
print(result.stdout)
"""


@pytest.mark.needs("mounts")
def test_a_host_that_executes_nothing_from_memory(engine_root: Path, hostile: str) -> None:
    """There its file is executed, through a mount of its own that is read-only."""
    words = [sys.executable, "-c", WITHOUT, str(engine_root), hostile]
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=300,
    )
    assert done.stdout.split() == [str(errno.EROFS), str(errno.EROFS), "ran"]
