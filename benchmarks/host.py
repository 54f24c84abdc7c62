"""The place the benchmarks run in: private namespaces, a fresh ext4, machine facts.

All of a run lives in mount, network and pid namespaces of its own: a dockerd in there shares no
docker0, no /run and no socket with one outside, and when the run ends, however it ends, the kernel
kills every daemon and detaches every mount.  Peers and containerkit run in the same ones.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.command import BenchmarkError, call

_PREFIX = "containerkit-bench-"
RUN = str(os.stat("/proc/self/ns/pid").st_ino)
"""Names this run: no other that lives has its pid namespace."""

CGROUP = f"{_PREFIX}{RUN}"
"""The cgroup below which everything of this run makes its own, in every hierarchy."""

CACHED_BYTECODE = {"PYTHONDONTWRITEBYTECODE": ""}
"""For fresh Python processes: bytecode is there, as after any installation, whatever the shell says."""

_MOUNTS = Path("/sys/fs/cgroup")
_MNT_DETACH = 2
_DIE_SECONDS = 10.0


def enter_namespaces(arguments: Sequence[str]) -> None:
    """Run `python -m benchmarks --inside …` in namespaces of its own and exit as it does.

    The shell between is the pid namespace's first process and reaps what daemons leave behind.
    """
    inner = [sys.executable, "-m", "benchmarks", "--inside", *arguments]
    shell = ["sh", "-c", '"$@"; exit $?', "sh"]
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    os.execvp("unshare", [*unshare, "--propagation", "private", *shell, *inner])


def prepare_namespaces() -> None:
    """Make the namespaces fit for every peer."""
    call(["ip", "link", "set", "lo", "up"])
    call(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run"])
    call(["mount", "-t", "tmpfs", "-o", "mode=1777", "tmpfs", "/dev/shm"])  # podman's locks
    # crun and runc refuse or slow down on a tree of cgroup v1 with an empty v2 one beside it.
    if os.path.ismount(_MOUNTS / "unified"):
        call(["umount", _MOUNTS / "unified"])
    make_cgroups()


def make_cgroups() -> None:
    """Make the run's cgroup in every hierarchy."""
    if (_MOUNTS / "cgroup.controllers").exists():
        for directory in (_MOUNTS, _MOUNTS / CGROUP):
            directory.mkdir(exist_ok=True)
            (directory / "cgroup.subtree_control").write_text("+pids +memory +cpu")
        return
    for hierarchy in _MOUNTS.iterdir():
        if (hierarchy / "cgroup.procs").exists():
            (hierarchy / CGROUP).mkdir(exist_ok=True)


def enter_cgroup(name: str) -> None:
    """Put this process below the run's cgroup, so that what it makes is found there.

    On version 2 it stays where it is: a group with processes can not give controllers on.  The
    cpuset hierarchy is left out: a new group there takes no process before it has processors.
    """
    if (_MOUNTS / "cgroup.controllers").exists():
        return
    for hierarchy in _MOUNTS.glob(f"*/{CGROUP}"):
        if not (hierarchy / "cpuset.cpus").exists():
            (hierarchy / name).mkdir(exist_ok=True)
            (hierarchy / name / "cgroup.procs").write_text("0")


def remove_cgroups(run: str = RUN) -> None:
    """Remove the cgroups of a run, and kill what its daemons and peers have left in them."""
    name = f"{_PREFIX}{run}"
    roots = {path.resolve() for path in _MOUNTS.glob(f"*/{name}")} | {_MOUNTS / name}
    for listed in {path for root in roots for path in root.rglob("cgroup.procs")}:
        for pid in map(int, listed.read_text().split()):  # 0: not of our pid namespace
            if pid > 1 and pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + _DIE_SECONDS
    while sum(map(_is_busy, roots)) and time.monotonic() < deadline:
        time.sleep(0.02)


def _is_busy(root: Path) -> bool:
    """Remove what is empty of a tree of cgroups; say whether there are processes in the rest."""
    busy = False
    for directory, _, _ in os.walk(root, topdown=False):
        try:
            os.rmdir(directory)
        except OSError as error:
            busy = busy or error.errno == errno.EBUSY
    return busy


def remove_debris(where: Path) -> None:
    """Remove the cgroups and mount points of runs that were killed."""
    living: set[str] = set()
    for process in Path("/proc").glob("[0-9]*/ns/pid"):
        with contextlib.suppress(OSError):
            living.add(str(process.stat().st_ino))
    for group in _MOUNTS.glob(f"*/{_PREFIX}*"):
        if group.name.removeprefix(_PREFIX) not in living:
            remove_cgroups(group.name.removeprefix(_PREFIX))
    for directory in where.glob("mnt-*"):
        if directory.name.split("-")[1] not in living:
            directory.rmdir()


@contextlib.contextmanager
def fresh_ext4(where: Path, *, gigabytes: int = 16) -> Iterator[Path]:
    """Make and mount an empty ext4 with a journal, on a loop device, and yield its directory.

    Trees are never unpacked onto a file system from which others were removed before: an ext4
    without a journal skips freed inodes one by one for minutes.  The image file has no name any
    more once it is attached, so nothing stays behind.
    """
    where.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=where, prefix="disk-") as image:
        image.truncate(gigabytes << 30)
        call(["mkfs.ext4", "-q", "-F", "-m", "0", image.name])
        device = call(["losetup", "--find", "--show", "--direct-io=on", image.name]).strip()
    directory = Path(tempfile.mkdtemp(dir=where, prefix=f"mnt-{RUN}-"))
    try:
        _mount(device, directory, "noinit_itable")
        call(["losetup", "--detach", device])  # takes effect when it is unmounted
        yield directory
    finally:
        _libc().umount2(os.fsencode(directory), _MNT_DETACH)
        directory.rmdir()


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _mount(device: str, directory: Path, options: str) -> None:
    """mount(2): mount(8) may put a loop device of its own below a file."""
    arguments = device.encode(), os.fsencode(directory), b"ext4", 0, options.encode()
    if _libc().mount(*arguments) != 0:
        cause = os.strerror(ctypes.get_errno())
        raise BenchmarkError(f"cannot mount {device} on {directory}: {cause}")


def drop_names() -> None:
    """Drop cached dentries and inodes; file contents stay in the page cache."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("2")


def tool(name: str) -> str | None:
    """Return the path of a peer's program, Debian's own before others of the same name."""
    return shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") or shutil.which(name)


def missing(names: Sequence[str]) -> list[str]:
    """Return which programs are not on this machine."""
    return [name for name in names if tool(name) is None]


_VERSIONS = {
    "docker": ["docker", "--version"],
    "dockerd": ["dockerd", "--version"],
    "containerd": ["containerd", "--version"],
    "runc": ["runc", "--version"],
    "crun": ["crun", "--version"],
    "bubblewrap": ["bwrap", "--version"],
    "podman": ["podman", "--version"],
    "skopeo": ["skopeo", "--version"],
    "igzip": ["igzip", "--version"],
    "tar": ["tar", "--version"],
    "user-mode-linux": ["linux.uml", "--version"],
}


def _version(command: list[str]) -> str:
    program = tool(command[0])
    if program is None:
        return "not installed"
    done = subprocess.run(
        [program, *command[1:]], capture_output=True, check=False, stdin=subprocess.DEVNULL
    )
    text = (done.stdout or done.stderr).decode(errors="replace").strip()
    return text.splitlines()[0] if text else "?"


def facts() -> list[tuple[str, str]]:
    """Return what a reader needs to judge the figures: machine, kernel, versions, load."""
    cpu = "?"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = int(Path("/proc/meminfo").read_text().split()[1]) / (1 << 20)
    v2 = (_MOUNTS / "cgroup.controllers").exists()
    load = " ".join(f"{value:.2f}" for value in os.getloadavg())
    return [
        ("CPU", f"{os.cpu_count()} × {cpu}"),
        ("memory", f"{memory:.0f} GiB"),
        ("kernel", f"{platform.system()} {platform.release()} {platform.machine()}"),
        ("cgroups", "v2" if v2 else "v1"),
        ("load when it began (1, 5, 15 min)", load),
        ("Python", platform.python_version()),
        *((name, _version(command)) for name, command in _VERSIONS.items()),
    ]
