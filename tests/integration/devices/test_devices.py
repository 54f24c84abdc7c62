"""Devices of the host, given to a container: there for it and its execs, however it is started."""

from __future__ import annotations

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import containerkit as ck
from tests.integration.limits.support import groups

# The kernel's log: there is one everywhere, and no container has it.
LOG = "/dev/kmsg"


def given(*devices: str) -> ck.Security:
    """Security with devices, and the right to read the kernel's log."""
    return ck.Security(devices=devices, capabilities=["+SYSLOG"])


LOOK = """
import errno, os, stat, sys
for path in sys.argv[1:]:
    found = os.stat(path)
    print(path, oct(found.st_mode), os.major(found.st_rdev), os.minor(found.st_rdev))
    for name, flags in ("r", os.O_RDONLY), ("w", os.O_WRONLY):
        try:
            os.close(os.open(path, flags | os.O_NONBLOCK))
            print(name)
        except OSError as error:
            print(name, errno.errorcode[error.errno])
"""


def look(*paths: str) -> list[str]:
    """Return a command that says what devices are, and how they can be opened."""
    return [sys.executable, "-c", LOOK, *paths]


def said(path: str, *how: str) -> str:
    status = os.stat(LOG)
    number = f"{os.major(status.st_rdev)} {os.minor(status.st_rdev)}"
    return "\n".join([f"{path} {status.st_mode:#o} {number}", *how, ""])


@pytest.mark.needs("host root")
def test_a_device_in_its_place(engine: ck.Engine) -> None:
    security = given(LOG, f"{LOG}:/dev/log/of/kernel:rw")
    result = engine.run(None, look(LOG, "/dev/log/of/kernel"), security=security, text=True)
    assert result.stdout == said(LOG, "r", "w") + said("/dev/log/of/kernel", "r", "w")


def test_what_every_container_has_stays(engine: ck.Engine, busybox: str) -> None:
    """Names, numbers and modes in /dev are those of any other, and the new one."""
    names = "ls -1 /dev"
    details = "ls -ln /dev | awk '{print $1, $3, $4, $5, $6, $NF}' | grep '^[cl]' | grep -v kmsg"
    script = f"{names}; {details}; echo x >/dev/null; echo x >/dev/shm/x; test -c /dev/pts/ptmx"
    plain = engine.run(busybox, ["sh", "-ec", script], text=True, check=True)
    security = given(LOG)
    more = engine.run(busybox, ["sh", "-ec", script], text=True, check=True, security=security)
    assert [line for line in more.stdout.splitlines() if line != "kmsg"] == (
        plain.stdout.splitlines()
    )


def test_dev_can_not_be_changed(engine: ck.Engine, busybox: str) -> None:
    """Nor can the device's owner and mode, which are the host's."""
    before = os.stat(LOG)
    script = f"""
        for command in 'touch /dev/x' 'mkdir /dev/x' 'rm /dev/kmsg' 'chmod 777 {LOG}' \
                'chown 7 {LOG}' 'chmod 777 /dev' 'rm /dev/null'; do
            $command 2>/dev/null && echo $command
        done
        exit 0
    """
    security = given(LOG)
    result = engine.run(busybox, ["sh", "-c", script], text=True, security=security, check=True)
    assert result.stdout == ""
    assert os.stat(LOG)[:6] == before[:6]


@pytest.mark.needs("control groups")
def test_less_than_all_access(engine: ck.Engine) -> None:
    for access, how in ("r", ("r", "w EPERM")), ("w", ("r EPERM", "w")):
        security = given(f"{LOG}:{access}")
        result = engine.run(None, look(LOG), security=security, text=True)
        assert result.stdout == said(LOG, *how)


@pytest.mark.needs("control groups")
@pytest.mark.parametrize("lifetime", ["owner", "detached"])
def test_execs_and_restarts_have_it(engine: ck.Engine, lifetime: str) -> None:
    options: ck.ContainerOptions = {
        "lifetime": lifetime,  # type: ignore[typeddict-item]
        "security": given(f"{LOG}:/dev/log:r"),
    }
    expected = said("/dev/log", "r", "w EPERM")
    box = engine.start(None, ["sleep", "1000"], **options)
    try:
        assert box.exec(look("/dev/log"), text=True).stdout == expected
        box.restart()
        assert box.exec(look("/dev/log"), text=True).stdout == expected
        with pytest.raises(ck.ConfigError):
            engine.run(None, ["true"], security=given("/nowhere:/dev/x"))
    finally:
        box.remove(force=True)


@pytest.mark.needs("control groups")
def test_a_restart_by_policy_has_it(engine: ck.Engine) -> None:
    """The launcher does that by itself: group, rules and places are as they were."""
    script = "import os, sys; exec(sys.argv.pop(1)); sys.exit(1)"
    box = engine.start(
        None,
        [sys.executable, "-c", script, LOOK, "/dev/log"],
        lifetime="detached",
        restart="on-failure:2",
        security=given(f"{LOG}:/dev/log:r"),
    )
    try:
        box.wait(timeout=60)
        written = b"".join(entry.data for entry in box.logs()).decode()
        assert written == said("/dev/log", "r", "w EPERM") * 3
    finally:
        box.remove(force=True)


@pytest.mark.needs("device nodes")
def test_files_of_one_whose_device_has_gone(engine: ck.Engine, node: Path) -> None:
    security = given(f"{node}:/dev/node")
    with engine.start(None, ["sleep", "1000"], security=security) as box:
        box.stop()
        node.unlink()
        assert box.files.read_bytes("/etc/hostname")
        with pytest.raises(ck.ConfigError, match="No such file"):
            box.start()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Path]:
    """A node of the host, elsewhere than in /dev."""
    path = tmp_path / "node"
    os.mknod(path, stat.S_IFCHR | 0o600, os.stat(LOG).st_rdev)
    yield path
    path.unlink(missing_ok=True)


def test_what_is_no_device(engine: ck.Engine, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    for path, why in (
        (file, "it is not a device"),
        (tmp_path, "it is not a device"),
        (tmp_path / "none", "No such file or directory"),
    ):
        with pytest.raises(ck.ConfigError, match=f"cannot give {path}: {why}"):
            engine.run(None, ["true"], security=given(f"{path}:/dev/x"))


def test_a_launcher_keeps_no_group_of_those_with_devices(engine: ck.Engine) -> None:
    with engine.start(None, ["sleep", "1000"], security=given(LOG)) as box:
        there = groups(box)
        place = there.get("devices") or there["unified"]
        assert place.is_dir()
    assert engine.run(None, look("/dev/null"), text=True).exit.ok
    assert engine.run(None, look(LOG)).exit.code == 1  # the next one has no such file


# ---- privileged


def host_devices() -> set[str]:
    """Names and numbers of the devices in the host's /dev itself."""
    found = set()
    for name in os.listdir("/dev"):
        with contextlib.suppress(FileNotFoundError):
            status = os.lstat(f"/dev/{name}")
            if stat.S_ISCHR(status.st_mode) or stat.S_ISBLK(status.st_mode):
                found.add(f"{name} {status.st_rdev}")
    return found


@pytest.mark.needs("host root")
def test_privileged(engine: ck.Engine) -> None:
    """All the host's devices, by name and number; terminals and memory are its own."""
    script = """
import os, stat
for name in sorted(os.listdir("/dev")):
    try:
        found = os.lstat("/dev/" + name)
    except FileNotFoundError:
        continue
    if stat.S_ISCHR(found.st_mode) or stat.S_ISBLK(found.st_mode):
        print(name, found.st_rdev)
os.close(os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK))
assert os.listdir("/dev/pts") == ["ptmx"], os.listdir("/dev/pts")
assert os.listdir("/dev/shm") == []
os.close(os.open("/dev/ptmx", os.O_RDWR | os.O_NOCTTY))
open("/dev/shm/x", "w").close()
assert os.access("/sys/kernel", os.W_OK)
assert os.access("/proc/sys/kernel/core_pattern", os.W_OK)
assert os.access("/proc/kcore", os.R_OK) or not os.path.exists("/proc/kcore")
try:
    os.mknod("/dev/new", stat.S_IFCHR | 0o600, os.makedev(1, 3))
except OSError as error:
    assert error.errno == 30, error  # the host's /dev is not a container's to change
else:
    raise SystemExit("it can be changed")
"""
    command = [sys.executable, "-c", script]
    before = host_devices()
    result = engine.run(None, command, security=ck.Security.privileged(), text=True, check=True)
    after = host_devices()  # others may come and go meanwhile
    assert before & after <= set(result.stdout.splitlines()) <= before | after


@pytest.mark.needs("control groups")
def test_control_groups_of_a_privileged_one(engine: ck.Engine, busybox: str) -> None:
    """Its own at the top of each, and it can make others in them."""
    script = """
        cd /sys/fs/cgroup
        test -e cgroup.procs || cd pids
        mkdir made && echo made && rmdir made
        grep -qx 1 cgroup.procs && echo mine
    """
    security = ck.Security.privileged()
    result = engine.run(busybox, ["sh", "-c", script], security=security, text=True, check=True)
    assert result.stdout == "made\nmine\n"


@pytest.mark.needs("device nodes")
def test_a_privileged_one_makes_nodes(engine: ck.Engine, busybox: str) -> None:
    script = "mkdir /n && mount -t tmpfs n /n && mknod /n/log c 1 11 && dd if=/n/log count=0"
    security = ck.Security.privileged()
    assert engine.run(busybox, ["sh", "-c", script], security=security).exit.ok
