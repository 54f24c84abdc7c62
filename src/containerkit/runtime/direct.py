"""A running container reached without its launcher: by its record, its control group and /proc.

Owns: finding its first process and being sure that it is it; ending one whose launcher is stopped
(SIGSTOP) and so hears nothing.  Must not: do for a launcher what that can do itself.
Neighbours: `handle` asks here before it asks the launcher, `verbs` ends by it what is stalled.
"""

from __future__ import annotations

import contextlib
import os
import signal as signals
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from containerkit.errors import ContainerNotFound, InvalidStatus, Timeout, refusals
from containerkit.runtime import cgroups, groups, packets
from containerkit.runtime.alive import pid_of
from containerkit.runtime.groups import group_of, text_of
from containerkit.state import events, record
from containerkit.stdio.waiting import Waiting, until_readable

if TYPE_CHECKING:
    from containerkit.runtime.handle import Handle
    from containerkit.state.record import State

_DIE_SECONDS: Final = 25.0


@refusals("find the container's first process")
def open_first(root: Path, state: State, directory: Path) -> int:
    """Return a pidfd of a container's first process, the caller's to close; -1: not found so.

    In a control group of another mount namespace, or in another pid namespace, it is not found.

    Args:
        root: the engine's root directory.
        state: the container's record, of a launcher that lives.
        directory: of the container.

    Spec: proc_pid_status(5), NSpid: a process's ids from our namespace inwards.  The launcher is the
    first process of one namespace below ours, and the container's is that of the next.
    """
    grouped = _members(root, state)
    launcher = 0 if grouped else _holder(directory)
    for pid in grouped or _children(launcher):
        if not _is_first(pid, state):
            continue
        with contextlib.suppress(ProcessLookupError), contextlib.ExitStack() as stack:
            pidfd = os.pidfd_open(pid)
            stack.callback(os.close, pidfd)
            # Its number may have gone to another process: but not while it is seen to have it.
            ours = _is_member(pid, state) if grouped else (_stat(pid) or ("", 0))[1] == launcher
            if ours and _is_first(pid, state) and pid_of(pidfd) == pid:
                stack.pop_all()
                return pidfd
    return -1


def _members(root: Path, state: State) -> tuple[int, ...]:
    """Return the processes in a container's control group, 0 for those that we do not see.

    That is its launcher's own where this has one container only, in version 1.
    """
    if state.group and state.pid:
        for place in groups.of_launcher(root, state.launcher):
            for group in (f"{place}/{state.group}", place):
                found = text_of(f"{group}/cgroup.procs")
                if found is not None:
                    return tuple(map(int, found.split()))
    return ()


def _children(launcher: int) -> tuple[int, ...]:
    """Return a launcher's living children, for a container in no control group (proc_pid(5))."""
    children = map(int, (text_of(f"/proc/{launcher}/task/{launcher}/children") or "").split())
    return tuple(pid for pid in children if (_stat(pid) or "Z")[0] != "Z")


def _is_first(pid: int, state: State) -> bool:
    status = text_of(f"/proc/{pid}/status") or ""
    line = status.partition("\nNSpid:")[2].partition("\n")[0]
    return tuple(map(int, line.split())) == (pid, state.pid, 1)


def _is_member(pid: int, state: State) -> bool:
    own = f"/{cgroups.PREFIX}{state.launcher}"
    lines = (text_of(f"/proc/{pid}/cgroup") or "").splitlines()
    return any(line.endswith((own, f"{own}/{state.group}")) for line in lines)


# ---- a launcher that is stopped


@refusals("see whether the launcher is stopped")
def is_stopped(directory: Path, pidfd: int = -1) -> bool:
    """Whether a container's launcher is stopped.

    Args:
        directory: of the container.
        pidfd: of its first process, which is the launcher's child; -1: it is not known.
    """
    launcher = _holder(directory) if pidfd < 0 else (_stat(pid_of(pidfd)) or ("", 0))[1]
    return (_stat(launcher) or ("", 0))[0] == "T"


def _stat(pid: int) -> tuple[str, int] | None:
    """Return a process's state and its parent (proc_pid_stat(5))."""
    fields = (text_of(f"/proc/{pid}/stat") or "").rpartition(")")[2].split()
    return (fields[0], int(fields[1])) if fields else None


def _holder(directory: Path) -> int:
    """Return the process that holds a container's own lock, 0 where it is not told."""
    return next(_holders(directory / record.NAME), 0)


def _holders(path: Path) -> Iterator[int]:
    """Yield the processes that hold a file's lock, 0 for those that we do not see (proc_locks(5))."""
    with contextlib.suppress(FileNotFoundError):
        status = os.stat(path)
        device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}"
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            fields = line.split()
            if fields[1] == "FLOCK" and fields[5] == f"{device}:{status.st_ino}":
                yield int(fields[4])


def supervised(root: Path, directory: Path) -> State:
    """Return what stands for a damaged record: who holds its lock runs the container.

    Args:
        root: the engine's root directory.
        directory: of the container.
    """
    pid = _holder(directory)
    for name in os.listdir(root / "owners") if pid else ():
        if pid in _holders(root / "owners" / name):
            return record.unknown(name)
    return record.unknown()


@contextmanager
def stalled(container: Handle) -> Iterator[int | None]:
    """Hold the first process of a container whose lock is held, if its launcher is stopped.

    A record that was emptied says afterwards that it runs, and by which launcher; one that has just
    begun a start writes its own over it.

    Returns:
        A pidfd, -1 when that process has ended; None: its launcher goes on, or it does not run.
    """
    state = container._look().state
    if (
        state is None
        and (found := supervised(container._keeper.root, container._directory)).launcher
    ):
        record.write(container._directory / record.NAME, found)
    if state is None or not state.is_live or state.status == record.RESTARTING:
        yield None
        return
    pidfd = open_first(container._keeper.root, state, container._directory)
    try:
        yield pidfd if is_stopped(container._directory, pidfd) else None
    finally:
        if pidfd >= 0:
            os.close(pidfd)


def signal(container: Handle, number: int, flags: int = 0) -> bool:
    """Send a signal to a container if its launcher is stopped; False: it is not.

    Args:
        container: a handle of it.
        number: of the signal.
        flags: what its launcher is told as well, for later.
    """
    with stalled(container) as pidfd:
        if pidfd is not None and pidfd >= 0:
            _send(container, pidfd, number, flags)
        return pidfd is not None


def ending(container: Handle, number: int = signals.SIGKILL, grace: float = 0) -> Waiting[bool]:
    """End a container if its launcher is stopped, and wait until its processes are dead.

    False: it is not stopped.  That the container has ended is written down when it goes on.

    Args:
        container: a handle of it.
        number: of the signal that asks it to end.
        grace: seconds between that and the kill.

    Raises:
        Timeout: it can not be killed.
    """
    with stalled(container) as pidfd:
        if pidfd is None or pidfd < 0:
            return pidfd is not None
        _send(container, pidfd, number, packets.STOP_ASKED)
        if (yield from until_readable(pidfd, time.monotonic() + grace)):
            return True
        _send(container, pidfd, signals.SIGKILL, packets.STOP_ASKED)
        if (yield from until_readable(pidfd, time.monotonic() + _DIE_SECONDS)):
            return True
    raise Timeout(f"cannot end container {container.id[:12]}: its first process does not die")


@refusals("end the container")
def _send(container: Handle, pidfd: int, number: int, flags: int) -> None:
    with contextlib.suppress(ContainerNotFound, InvalidStatus):
        if flags and (container.config.options.get("restart") or "no") != "no":
            # It waits in the launcher's queue.
            container._connect(packets.SIGNAL, values=(0, 0, flags)).close()
    events.append(container._keeper.root, "kill", container.id, signal=number)
    with contextlib.suppress(ProcessLookupError):
        freezer = group_of(pid_of(pidfd)).get("freezer")
        signals.pidfd_send_signal(pidfd, number)
        if number == signals.SIGKILL and freezer is not None:  # in version 2 the frozen die, too
            Path(freezer, "freezer.state").write_text("THAWED", encoding="ascii")
