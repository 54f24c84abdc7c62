"""What a process finds around it, down to what only few programs look at."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import containerkit as ck


def said(engine: ck.Engine, image: str | None, script: str, **options: object) -> str:
    result = engine.run(image, ["sh", "-c", script], text=True, check=True, **options)  # type: ignore[call-overload]
    assert isinstance(result.stdout, str)
    return result.stdout


def status(engine: ck.Engine, image: str, **options: object) -> dict[str, str]:
    result = engine.run(image, ["cat", "/proc/self/status"], text=True, check=True, **options)  # type: ignore[call-overload]
    return dict(line.split(":\t", 1) for line in result.stdout.splitlines() if ":\t" in line)


# ---- the process


def test_signals_are_as_the_kernel_makes_them(engine: ck.Engine, busybox: str) -> None:
    """Python ignores SIGPIPE, and a thread may block signals: nothing of that comes in."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1, signal.SIGTERM})
    try:
        found = status(engine, busybox)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert {found[name] for name in ("SigBlk", "SigIgn", "SigCgt", "SigPnd", "ShdPnd")} == {
        "0" * 16
    }


@pytest.mark.needs("ids")
def test_groups_are_exact(engine: ck.Engine, busybox: str) -> None:
    """The primary one is among them, and none of the caller's (CVE-2022-2989)."""
    found = status(engine, busybox, user="app")
    assert found["Uid"].split() == ["1000"] * 4
    assert found["Gid"].split() == ["1000"] * 4
    assert sorted(found["Groups"].split()) == ["1000", "1001"]
    assert status(engine, busybox, user="4242:77")["Groups"].split() == ["77"]


@pytest.mark.parametrize("user", [None, pytest.param("app", marks=pytest.mark.needs("ids"))])
def test_no_capability_is_inherited(engine: ck.Engine, busybox: str, user: str | None) -> None:
    found = status(engine, busybox, user=user)
    assert found["CapInh"] == found["CapAmb"] == "0" * 16
    assert found["CapEff"] == found["CapPrm"]
    assert not int(found["CapBnd"], 16) & 1 << 27  # MKNOD
    assert found["NoNewPrivs"] == "1"


def test_the_environment_holds_nothing_of_the_callers(
    engine: ck.Engine, busybox: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CK_HOST_SECRET", "of the caller")
    text = said(engine, busybox, "tr '\\0' '\\n' </proc/1/environ; env")
    names = {line.partition("=")[0] for line in text.splitlines()}
    assert names == {"PATH", "HOSTNAME", "HOME", "PWD", "SHLVL"}
    assert "CK_HOST_SECRET" not in text


def test_limits_are_those_the_caller_has(shared_root: Path, busybox: str) -> None:
    """Not those that the launcher raised for itself."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_NOFILE, (300, 400));"
        "import containerkit as ck; e = ck.Engine.open(sys.argv[1]);"
        "print(e.run(sys.argv[2], ['sh', '-c', 'ulimit -Sn; ulimit -Hn'], text=True).stdout);"
        "e.close()"
    )
    command = [sys.executable, "-c", code, str(shared_root), busybox]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=250)
    assert done.stdout.split() == ["300", "400"]
    assert resource.getrlimit(resource.RLIMIT_NOFILE) != (300, 400)


def test_the_session_keyring_is_its_own(engine: ck.Engine) -> None:
    """Keys of the caller's session are not there: keyrings have no namespace."""
    code = (
        "import ctypes; c = ctypes.CDLL(None, use_errno=True);"
        "print(c.syscall({0}, 0, -3, 0))"  # KEYCTL_GET_KEYRING_ID, the session's
    )
    number = {"x86_64": 250, "aarch64": 219}[os.uname().machine]
    script = code.format(number)
    security = ck.Security(seccomp="unconfined")  # which would refuse to ask
    ids = {
        engine.run(None, ["python3", "-c", script], text=True, check=True, security=security).stdout
        for _ in range(2)
    }
    ours = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout
    assert len(ids | {ours}) == 3


def test_process_1_has_a_session_of_its_own(engine: ck.Engine, busybox: str) -> None:
    fields = said(engine, busybox, "cat /proc/self/stat; cat /proc/1/stat").splitlines()
    first = fields[1].rpartition(")")[2].split()
    assert first[2:5] == ["1", "1", "0"]  # group, session, terminal


# ---- mounts


@pytest.fixture
def nested(tmp_path: Path) -> Iterator[Path]:
    """A directory with a file system mounted in it."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "outer-file").write_text("outer")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", inner], check=True)
    (inner / "file").write_text("inner")
    yield tmp_path
    subprocess.run(["umount", inner], check=True)


@pytest.mark.needs("mounts")
def test_what_is_mounted_below_a_bind(engine: ck.Engine, busybox: str, nested: Path) -> None:
    """It comes along, without devices, and read-only where the bind is."""
    mount = ck.Mount.bind(nested, "/mnt")
    assert said(engine, busybox, "cat /mnt/inner/file; echo x >/mnt/inner/new", mounts=[mount])
    assert (nested / "inner" / "new").read_text() == "x\n"
    script = "for f in /mnt/new /mnt/inner/new2; do (echo >$f) 2>/dev/null && echo $f; done; true"
    mount = ck.Mount.bind(nested, "/mnt", read_only=True)
    assert said(engine, busybox, script, mounts=[mount]) == ""
    lines = said(engine, busybox, "grep ' /mnt' /proc/mounts", mounts=[mount]).splitlines()
    assert len(lines) == 2
    assert all({"ro", "nodev"} <= set(line.split()[3].split(",")) for line in lines)


@pytest.mark.needs("device nodes")
def test_devices_open_only_in_dev(engine: ck.Engine, busybox: str, tmp_path: Path) -> None:
    os.mknod(tmp_path / "null", 0o20666, os.makedev(1, 3))
    script = "echo >/dev/null && cat /x/null 2>&1; true"
    mounts = [ck.Mount.bind(tmp_path, "/x")]
    assert "denied" in said(engine, busybox, script, mounts=mounts).lower()
    lines = said(engine, busybox, "cat /proc/mounts").splitlines()
    with_devices = [line.split()[1] for line in lines if "nodev" not in line.split()[3]]
    assert set(with_devices) <= {"/dev", "/dev/pts"}


def test_files_and_orders_of_mounts(engine: ck.Engine, busybox: str, tmp_path: Path) -> None:
    """Parents first, whatever the order given; a file on a file, and on nothing."""
    (tmp_path / "file").write_text("content")
    mounts = [
        ck.Mount.bind(tmp_path / "file", "/a/b/c/file"),
        ck.Mount.bind(tmp_path / "file", "/etc/passwd", read_only=True),
        ck.Mount.tmpfs("/a/b", size="1m", mode=0o700),
        ck.Mount.tmpfs("/a"),
        ck.Mount.tmpfs("/dev/shm", size="2m"),
    ]
    script = (
        "cat /a/b/c/file /etc/passwd; ls -ld /a/b | cut -c1-10;"
        "(echo x >>/etc/passwd) 2>/dev/null || echo kept;"
        "grep -c -E ' (/a/b|/dev/shm) .*size=(1024|2048)k' /proc/mounts"
    )
    assert said(engine, busybox, script, mounts=mounts) == "contentcontentdrwx------\nkept\n2\n"


def test_a_read_only_root(engine: ck.Engine, busybox: str) -> None:
    security = ck.Security(read_only=True)
    script = (
        "for d in / /etc /usr /home /dev; do (echo >$d/x) 2>/dev/null && echo $d; done;"
        "for f in hosts hostname resolv.conf; do (echo >/etc/$f) 2>/dev/null && echo $f; done;"
        "echo >/tmp2/x && echo >/dev/shm/x && cat /run/secrets/k"
    )
    mounts = [ck.Mount.tmpfs("/tmp2")]
    found = said(
        engine, busybox, script, security=security, mounts=mounts, secrets={"k": "s"}, workdir="/w"
    )
    assert found == "s"


@pytest.mark.parametrize("path", ["/proc/kcore", "/proc/keys", "/proc/timer_list", "/sys/firmware"])
def test_masked_paths(engine: ck.Engine, busybox: str, path: str) -> None:
    script = f"test -e {path} || exit 0; test -d {path} && ls -A {path} || cat {path}"
    assert said(engine, busybox, script) == ""


@pytest.mark.needs("control groups")
def test_memory_runs_out(engine: ck.Engine, busybox: str) -> None:
    """The cause is told, and the next container knows nothing of it."""
    limits = ck.Limits(memory="16m")
    result = engine.run(busybox, ["sh", "-c", "tail /dev/zero"], limits=limits)
    assert (result.exit.cause, result.exit.code) == ("oom", 137)
    killed = engine.run(busybox, ["sh", "-c", "kill -9 $$; exit 137"], limits=limits)
    assert killed.exit.cause in ("exited", "signal")
    assert engine.run(busybox, ["true"]).exit.ok


@pytest.mark.parametrize("image", [5, b"alpine", object()])
def test_what_is_no_image(engine: ck.Engine, image: Any) -> None:
    with pytest.raises(ck.ConfigError, match="no image"):
        engine.run(image, ["true"])
    with pytest.raises(ck.ConfigError, match="no image"):
        engine.start(image, ["true"])
