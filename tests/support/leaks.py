"""What a container engine can leave behind on a host, counted before and after a test.

Owns the counting only; `tests/conftest.py` decides when.  Other engines may run on the machine
at the same time, so each count looks at what this process made or at what nobody owns any more.
"""

from __future__ import annotations

import errno
import gc
import os
import re
import socket
import stat
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

BASE = Path(os.environ.get("CONTAINERKIT_TEST_DIR", "/var/tmp"), f"ck-tests-{os.getpid()}")
"""Where the engine roots of this run live, and nobody else's."""

SETTLE = 60.0
"""Seconds that the kernel and the launcher have to finish what they undo in the background."""

PATIENCE = 30.0
"""Seconds after which a name that another engine's crash may have left is held to be ours."""

OURS = re.compile(r"containerkit|ck-launcher|/ck-[^/ ]*|pytest-of-")
OTHERS = re.compile(r" /tmp/mmdebstrap\.|/ck-tests?-")
"""Mounts of what makes guests for the tests of other kernels, and of other runs, perhaps just now."""

KEPT = ("/memfd:ck-launcher (deleted)", "user:[")
"""What a process keeps for good once it has run a container: the sealed copy of the launcher, and,
as an ordinary user, a user namespace."""

LAUNCHER = re.compile(r"/containerkit-([0-9a-f]{24})\+?(?:/|$)")

KERNEL_FILE_SYSTEMS = frozenset(("overlay", "nsfs", "proc", "mqueue", "devpts", "sysfs"))


SINGULAR = {
    "descriptors": "descriptor",
    "mounts": "mount",
    "cgroups": "cgroup",
    "processes": "process",
    "sockets": "socket",
    "threads": "thread",
}

ANYBODYS = ("cgroups",)
OURS_ALONE = ("descriptors", "mounts", "processes", "sockets", "threads")

_roots: set[str] = set()


class Process(NamedTuple):
    """One line of /proc: enough to tell whose it is."""

    pid: int
    parent: int
    name: str
    started: int


class Snapshot(NamedTuple):
    """Everything that is counted; each item names itself in a failure."""

    descriptors: frozenset[str]
    mounts: frozenset[str]
    cgroups: frozenset[str]
    processes: frozenset[str]
    sockets: frozenset[str]
    threads: frozenset[str]

    def beyond(self, before: Snapshot, kinds: Iterable[str]) -> list[str]:
        """Return what is here of these kinds and was not there before, one line each."""
        return [
            f"{SINGULAR[kind]} {item}"
            for kind in kinds
            for item in sorted(getattr(self, kind) - getattr(before, kind))
        ]


def descriptors() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # the one that lists the directory is gone
            target = os.readlink(f"/proc/self/fd/{fd}")
            if not target.startswith(KEPT):
                yield f"{fd} -> {target}"


def mounts() -> Iterator[str]:
    """Yield the mounts that an engine or a test could have made in this mount namespace."""
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            left, _, right = line.partition(" - ")
            if OTHERS.search(line) and str(BASE) not in line:
                continue
            if right.split()[0] in KERNEL_FILE_SYSTEMS or OURS.search(line):
                fields = left.split()
                yield f"{fields[0]} {fields[4]} ({right.strip()})"


def cgroups() -> Iterator[str]:
    """Yield the control groups of ours that no living launcher has.

    If one lives that should not, it is reported itself.
    """
    found = [
        directory
        for place in group_places()
        for entry in entries(place)
        # an ordinary user does not see who lives in those of others
        if LAUNCHER.search(str(entry)) and belongs_to_us(entry)
        for directory, _, files in os.walk(entry)
        if "cgroup.procs" in files
    ]
    living = frozenset(launcher_ids()) if found else frozenset()
    for directory in found:
        name = LAUNCHER.search(directory)
        if name is None or name[1] not in living:
            yield directory


def belongs_to_us(entry: Path) -> bool:
    with suppress(FileNotFoundError):
        return entry.stat().st_uid == os.geteuid()
    return False


def group_places() -> Iterator[Path]:
    """Yield where launchers of this process make their groups: beside its own, and at the top.

    Groups that are elsewhere, others have made who keep to a group of their own.
    """
    own = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        for line in table:
            if " - cgroup" in line:
                _, _, _, root, mounted, *_ = line.split()
                tops = {
                    path for one in own if (path := Path(one.split(":", 2)[2])).is_relative_to(root)
                }
                yield from {Path(mounted), *(Path(mounted, top.relative_to(root)) for top in tops)}


def launcher_ids() -> Iterator[str]:
    """Yield the ids of the launchers that live: each holds its groups open, and its record."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or not is_launcher(int(entry)):
            continue
        with suppress(OSError):
            for fd in os.listdir(f"/proc/{entry}/fd"):
                with suppress(OSError):
                    name = LAUNCHER.search(os.readlink(f"/proc/{entry}/fd/{fd}"))
                    if name:
                        yield name[1]


def process_table() -> dict[int, Process]:
    table: dict[int, Process] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError), open(f"/proc/{entry}/stat", "rb") as file:
                name, rest = file.read().decode(errors="replace").rsplit(")", 1)
                fields = rest.split()
                pid = int(entry)
                table[pid] = Process(pid, int(fields[1]), name.split("(", 1)[1], int(fields[19]))
    return table


def processes() -> Iterator[str]:
    """Yield the descendants of this process, and launchers of roots of these tests, with theirs."""
    table = process_table()
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    orphans = [p for p in table.values() if p.parent <= 1 and is_launcher(p.pid)]
    orphans = [p for p in orphans if serves_tests(p.pid)]
    todo = [*children.get(os.getpid(), []), *orphans]
    while todo:
        process = todo.pop()
        todo += children.get(process.pid, [])
        yield f"{process.pid} {process.name} (child of {process.parent}, started {process.started})"


def is_launcher(pid: int) -> bool:
    """Say whether a process is a launcher: its name depends on the kernel, its command line not."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ck-launcher\0")
    return False


def serves_tests(pid: int) -> bool:
    """Say whether a launcher's store is the root of a test of this run; others may run beside it.

    One whose mounts can not be read any more, or not yet, counts.
    """
    with suppress(OSError), open(f"/proc/{pid}/mountinfo", encoding="utf-8") as table:
        stores = [fields[3] for line in table if (fields := line.split())[4] == "/store"]
        return not stores or f"{stores[0]}/".startswith(f"{within_its_mount(BASE)}/")
    return True


def within_its_mount(path: Path) -> str:
    """Return a path as mountinfo shows it: from the root of its file system."""
    top = path
    while not top.is_mount():
        top = top.parent
    return "/" + str(path.relative_to(top))


def note_roots(place: Path) -> None:
    """Remember the roots that are directly in a directory: their names in the run directory."""
    for path in entries(place):
        with suppress(OSError):
            status = path.stat()
            _roots.add(f"{status.st_dev:x}:{status.st_ino:x}")


def sockets() -> Iterator[str]:
    """Yield the sockets of launchers of this run's roots on which nobody listens any more."""
    for place in entries(BASE):
        note_roots(place)
    for name in _roots:
        for socket_path in entries(Path("/run/containerkit", name)):
            with suppress(OSError):
                if stat.S_ISSOCK(socket_path.lstat().st_mode) and refuses(socket_path):
                    yield str(socket_path)


def entries(directory: Path) -> list[Path]:
    """Return what is in a directory; nothing once another engine has removed it."""
    with suppress(OSError):
        return list(directory.iterdir())
    return []


def refuses(path: Path) -> bool:
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
            probe.setblocking(False)
            code = probe.connect_ex(f"/proc/self/fd/{directory}/{path.name}")
            return code == errno.ECONNREFUSED
    finally:
        os.close(directory)


def threads() -> Iterator[str]:
    for thread in threading.enumerate():
        yield f"{thread.name} ({thread.ident})"


def take() -> Snapshot:
    """Count everything now."""
    return Snapshot(
        frozenset(descriptors()),
        frozenset(mounts()),
        frozenset(cgroups()),
        frozenset(processes()),
        frozenset(sockets()),
        frozenset(threads()),
    )


def settle(before: Snapshot, seconds: float = SETTLE) -> list[str]:
    """Return what is left beyond `before`, after waiting for it to go by itself.

    What is left is there all the while: other programs' comings and goings are not.  Names that
    anybody can have made must stay for longer: what others leave in a crash, they clear away when
    they open their root again.
    """
    begun = time.monotonic()
    pause = 0.002
    gc.collect()
    stayed = take()
    while True:
        left, doubtful = stayed.beyond(before, OURS_ALONE), stayed.beyond(before, ANYBODYS)
        if not left and not doubtful:
            return []
        spent = time.monotonic() - begun
        if spent > max(seconds, PATIENCE):
            return left + doubtful
        if left and spent > seconds:
            return left
        time.sleep(pause)
        pause = min(2 * pause, 0.1)
        gc.collect()
        stayed = Snapshot(*(then & now for then, now in zip(stayed, take(), strict=True)))
