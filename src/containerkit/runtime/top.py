"""The processes of a running container.

Owns: finding them and reading what /proc says of each.  Must not: send signals, or trust what the
container shows: it may mount anything over its own /proc, so the host's is read.
Neighbours: `stats` adds them up where there is no control group.

A process is the container's when it is in the pid namespace of its first process, or in one below
that; only those in its control group are looked at, where it has one.

Spec: proc_pid_stat(5), proc_pid_status(5), pid_namespaces(7).
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import Final

from containerkit.errors import refusals
from containerkit.model.idmap import IdMap
from containerkit.model.stats import Task
from containerkit.runtime.groups import Group, group_of

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
_PASSWD_MAX: Final = 1 << 20
_COMMAND_MAX: Final = 128 << 10
_FEW: Final = 32


@refusals("read what runs in the container")
def read_tasks(pid: int) -> tuple[Task, ...]:
    """Return the processes of a container by their ids in it, its first one first.

    Args:
        pid: of its first process, as this process sees it.

    Raises:
        ProcessLookupError: there is no such process any more.

    Atomicity: each process is read at its own time; those that end meanwhile are left out.
    """
    try:
        depth = len(_ids(_read(f"/proc/{pid}/status")))
        namespace = _namespace(pid)
        names, ids = user_names(pid), _id_map(pid)
    except FileNotFoundError as error:
        raise ProcessLookupError(f"process {pid} has ended") from error
    boot = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    inside: dict[int, Task] = {}
    nested: list[Task] = []
    for candidate in candidates(pid):
        with suppress(OSError):  # it ended meanwhile
            task = _read_task(candidate, depth, names, ids, boot)
            if task is not None and _namespace(candidate) == namespace:
                inside[candidate] = task
            elif task is not None:
                nested.append(task)
    # In a namespace made inside: its first process has a parent that is the container's.
    while found := [task for task in nested if task.parent in inside]:
        inside |= {task.host_pid: task for task in found}
        nested = [task for task in nested if task.host_pid not in inside]
    tasks = (
        task._replace(parent=inside[task.parent].pid if task.parent in inside else 0)
        for task in inside.values()
    )
    return tuple(sorted(tasks, key=lambda task: task.pid))


def candidates(pid: int) -> Iterable[int]:
    """Return host ids that may be the container's: those of its group, else all there are."""
    found = members(group_of(pid))
    if found is None:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    return found.union(*(_children(member) for member in found))  # no group lists zombies


def _children(host_pid: int) -> set[int]:
    """Return the children of a process, zombies too; none where the kernel does not tell them."""
    children: set[int] = set()
    with suppress(OSError):  # it ended meanwhile, or is a zombie itself
        for thread in os.listdir(f"/proc/{host_pid}/task"):
            with suppress(OSError), open(f"/proc/{host_pid}/task/{thread}/children", "rb") as file:
                children.update(map(int, file.read().split()))
    return children


def members(group: Group) -> set[int] | None:
    """Return host ids of those in a container's group; None where no group tells."""
    top = group.get("unified") or group.get("pids") or group.get("freezer")
    if top is None:
        return None
    return {number for directory, _, _ in os.walk(top) for number in _members(directory)}


def strangers(pid: int, group: Group) -> int:
    """Return how many processes in a container's group are not its own, such as who starts execs.

    Of a large group nobody is looked at: one more or less does not matter there.
    """
    directory = group.get("unified") or group.get("pids") or ""
    members = [member for member in _members(directory) if member != pid]
    if len(members) > _FEW:
        return 0
    own, count = _namespace(pid), 0
    depth = 0
    for member in members:
        with suppress(OSError):  # it ended meanwhile
            if _namespace(member) != own:
                depth = depth or len(_ids(_read(f"/proc/{pid}/status")))
                count += len(_ids(_read(f"/proc/{member}/status"))) < depth
    return count


def _members(directory: str) -> Iterator[int]:
    with suppress(OSError), open(f"{directory}/cgroup.procs", "rb") as file:
        yield from map(int, file.read().split())


def _namespace(host_pid: int) -> int:
    return os.stat(f"/proc/{host_pid}/ns/pid").st_ino


def _ids(status: bytes) -> tuple[int, ...]:
    """Return a process's ids, from this process's namespace inwards (NSpid)."""
    line = _field(status, b"NSpid")
    return tuple(map(int, line.split())) if line else ()


def _field(status: bytes, name: bytes) -> bytes:
    start = status.find(b"\n" + name + b":")
    if start < 0:
        return b""
    start += len(name) + 2
    return status[start : status.find(b"\n", start)].strip()


def _id_map(pid: int) -> IdMap:
    """Return the users of a process's user namespace, as this process counts them."""
    lines = _read(f"/proc/{pid}/uid_map").splitlines()
    return IdMap([tuple(map(int, line.split())) for line in lines])


def _read_task(
    host_pid: int, depth: int, names: dict[int, str], ids: IdMap, boot: float
) -> Task | None:
    status = _read(f"/proc/{host_pid}/status")
    if len(_ids(status)) < depth:
        return None  # in a namespace above: what enters it to start something there
    fields = _read(f"/proc/{host_pid}/stat")
    command = _read(f"/proc/{host_pid}/cmdline", _COMMAND_MAX)
    return parse_task(status, fields, command, depth=depth, names=names, ids=ids, boot=boot)


def parse_task(
    status: bytes,
    fields: bytes,
    command: bytes,
    *,
    depth: int,
    names: dict[int, str],
    ids: IdMap | None = None,
    boot: float = 0.0,
) -> Task:
    """Return a task from the texts of its ``status``, ``stat`` and ``cmdline``.

    Its parent is as this process sees it.

    Args:
        status: of /proc/PID/status.
        fields: of /proc/PID/stat.
        command: of /proc/PID/cmdline.
        depth: which of its ids is the one inside the container, counted from 1.
        names: of users, by id.
        ids: of the container's user namespace; None: this process's.
        boot: when the host booted, seconds since 1970.
    """
    head, _, tail = fields.rpartition(b")")
    name = head.partition(b"(")[2]
    values = tail.split()
    pids = _ids(status)
    uid = int(_field(status, b"Uid").split()[1])
    if ids is not None:
        uid = ids.inside(uid, 0)[0]
    words = command.rstrip(b"\0").split(b"\0") if command.strip(b"\0") else [b"[" + name + b"]"]
    return Task(
        pid=pids[depth - 1],
        host_pid=pids[0],
        parent=int(values[1]),
        user=names.get(uid, str(uid)),
        uid=uid,
        cpu=(int(values[11]) + int(values[12])) / _TICKS,
        rss=int(values[21]) * _PAGE,
        state=values[0].decode("ascii"),
        threads=int(values[17]),
        started=datetime.fromtimestamp(boot + int(values[19]) / _TICKS, UTC),
        command=tuple(os.fsdecode(word) for word in words),
    )


# ---- users


def user_names(pid: int) -> dict[int, str]:
    """Return the names in the container's own /etc/passwd; empty where it can not be read."""
    with suppress(OSError):
        return parse_passwd(_passwd(pid))
    return {}


def parse_passwd(text: bytes) -> dict[int, str]:
    """Return user id → name, the first that has it, as getpwuid(3); bad lines are left out."""
    names: dict[int, str] = {}
    for line in text.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 3 and fields[0] and fields[2].isdigit() and len(fields[2]) <= 10:
            names.setdefault(int(fields[2]), fields[0].decode("utf-8", "replace"))
    return names


def _passwd(pid: int) -> bytes:
    """Read it without following links or opening what is no file: the container chose both."""
    root = os.open(f"/proc/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        etc = os.open("etc", os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=root)
    finally:
        os.close(root)
    try:
        if not stat.S_ISREG(os.stat("passwd", dir_fd=etc, follow_symlinks=False).st_mode):
            return b""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open("passwd", flags, dir_fd=etc)
    finally:
        os.close(etc)
    try:
        return os.read(fd, _PASSWD_MAX) if stat.S_ISREG(os.fstat(fd).st_mode) else b""
    finally:
        os.close(fd)


def _read(path: str, size: int = 8192) -> bytes:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(fd, size)
    except ProcessLookupError as error:
        raise FileNotFoundError(path) from error
    finally:
        os.close(fd)
