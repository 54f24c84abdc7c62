"""The first process of the guest kernel that `tests/kernel/run` boots.

A program of its own: only the standard library, no site packages, everything by system call,
because a fork and exec costs 15 to 30 ms in there.  It makes the machine (root, file systems,
control groups, loopback), runs the job, reaps, leaves the job's status, and powers off.
"""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import socket
import struct
import sys
import termios
import traceback
from pathlib import Path
from typing import Any

LIBC = ctypes.CDLL(None, use_errno=True)
SYS_PIVOT_ROOT, SYS_FINIT_MODULE = 155, 313
MS_BIND, MNT_DETACH = 0x1000, 2
POWER_OFF = 0x4321FEDC
SIOCSIFFLAGS, IFF_UP = 0x8914, 1
MODULES = "/usr/lib/uml/modules"
WRITABLE = "/guest"
"""A disk for engine roots and temporary files: the root itself is an overlay, which can hold neither
another's upper nor whiteouts."""


def call(function: Any, *arguments: object) -> int:
    """Call a libc function; a negative result is an OSError that names it and its arguments."""
    result: int = function(*arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function.__name__}{arguments}: {os.strerror(code)}")
    return result


def mount(kind: str, target: str, options: str = "", source: str = "", flags: int = 0) -> None:
    os.makedirs(target, exist_ok=True)
    texts = (text.encode() for text in (source or kind, target, kind))
    call(LIBC.mount, *texts, ctypes.c_ulong(flags), options.encode())


def insert_module(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    call(LIBC.syscall, SYS_FINIT_MODULE, fd, b"", 0)
    os.close(fd)


def new_root() -> None:
    """Enter an overlay of the host's files, which are read-only below, and memory above.

    pivot_root, not chroot: a process in a chroot may not make user namespaces.
    """
    release = os.uname().release
    insert_module(f"{MODULES}/{release}/kernel/fs/overlayfs/overlay.ko")
    mount("tmpfs", "/mnt", "mode=755")
    for name in ("upper", "work", "root"):
        os.mkdir(f"/mnt/{name}")
    mount("overlay", "/mnt/root", "lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work")
    os.makedirs("/mnt/root/.old", exist_ok=True)
    os.chdir("/mnt/root")
    call(LIBC.syscall, SYS_PIVOT_ROOT, b".", b".old")
    os.chdir("/")
    call(LIBC.umount2, b"/.old", MNT_DETACH)
    os.rmdir("/.old")


def file_systems(exchange: str) -> None:
    mount("proc", "/proc")
    mount("sysfs", "/sys")
    mount("cgroup2", "/sys/fs/cgroup", "nsdelegate")
    mount("devtmpfs", "/dev")
    mount("devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666")
    mount("tmpfs", "/dev/shm", "mode=1777")
    mount("mqueue", "/dev/mqueue")
    mount("tmpfs", "/run", "mode=755")
    mount("ext4", WRITABLE, source="/dev/ubda")
    call(LIBC.swapon, b"/dev/ubdb", 0)
    os.makedirs(f"{WRITABLE}/tmp")
    os.chmod(f"{WRITABLE}/tmp", 0o1777)
    mount("none", "/lib/modules", source=MODULES, flags=MS_BIND)
    # The exchange directory lies on the host's /dev/shm or /tmp: its own way through.
    mount("hostfs", f"{WRITABLE}/exchange", exchange)
    for name, target in (("fd", "/proc/self/fd"), ("ptmx", "pts/ptmx")):
        if not os.path.lexists(f"/dev/{name}"):
            os.symlink(target, f"/dev/{name}")
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        os.symlink(f"fd/{fd}", f"/dev/{name}")


def control_groups() -> None:
    """Hand every controller down to the job, which runs in a leaf, as in a delegated unit."""
    root = Path("/sys/fs/cgroup")
    names = (root / "cgroup.controllers").read_text().split()
    leaf = root / "job" / "leaf"
    for group in (root / "init", root / "job", leaf):
        group.mkdir()
    (root / "init" / "cgroup.procs").write_text("1")
    for group in (root, root / "job"):
        (group / "cgroup.subtree_control").write_text(" ".join(f"+{name}" for name in names))


def loopback_up() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sh14x", b"lo", IFF_UP)
        fcntl.ioctl(control, SIOCSIFFLAGS, request)


def run_job(job: dict[str, Any]) -> int:
    """Run the command in a session of its own, on the terminal that the host reads; reap all."""
    pid = os.fork()
    if pid == 0:
        os.setsid()
        Path("/sys/fs/cgroup/job/leaf/cgroup.procs").write_text("0")
        null, terminal = os.open("/dev/null", os.O_RDONLY), os.open("/dev/tty1", os.O_RDWR)
        mode = termios.tcgetattr(terminal)
        mode[1] &= ~termios.OPOST  # line ends go out as they are
        termios.tcsetattr(terminal, termios.TCSANOW, mode)
        for fd, number in ((null, 0), (terminal, 1), (terminal, 2)):
            os.dup2(fd, number)
        os.chdir(job["directory"])
        os.execvpe(job["command"][0], job["command"], job["environment"])
    while True:
        ended, status = os.wait()
        if ended == pid:
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code


def power_off() -> None:
    os.sync()
    LIBC.reboot(ctypes.c_int(POWER_OFF))


def main() -> None:
    """Make the machine, run the job, leave its status."""
    exchange = sys.argv[1]
    status = 125
    try:
        mount("proc", "/proc")
        new_root()
        file_systems(exchange)
        control_groups()
        loopback_up()
        job = json.loads(Path(WRITABLE, "exchange", "job.json").read_text(encoding="utf-8"))
        more = [name for name in job["modules"] if name not in ("", "overlay")]
        if more:
            os.spawnlp(os.P_WAIT, "modprobe", "modprobe", "-a", *more)
        Path(WRITABLE, "exchange", "begun").touch()
        status = run_job(job)
        Path(WRITABLE, "exchange", "status").write_text(str(status), encoding="ascii")
    except BaseException:
        Path("/dev/console").write_text(traceback.format_exc(), encoding="utf-8")
        raise
    finally:
        power_off()


if __name__ == "__main__":
    main()
