"""The user namespace in which an ordinary user has the rights that containers need.

Owns: whether one is needed, which ids it has (fixed for a root when it is first used), and making
it.  Must not: start anything in it.
Neighbours: `forbidden` says why the host refuses, `runtime.launcher` starts the launcher in it,
`layers` unpacks with its ids.

Where the host grants ranges (`subids`), the user is 0 in it and the range follows; else the user's
own id is all there is.

Spec: user_namespaces(7), newuidmap(1).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import threading
import time
from functools import lru_cache
from pathlib import Path
from typing import Final, Literal, NamedTuple

from containerkit.errors import ConfigError, PermissionDenied, refusals
from containerkit.state import forbidden, subids
from containerkit.state.atomic import gone, publish_file
from containerkit.state.procstatus import effective_capabilities, status_of

IdMap = tuple[tuple[int, int, int], ...]
"""(first inside, first outside, how many) of each range, as in user_namespaces(7)."""

WHOLE: Final[IdMap] = ((0, 0, (1 << 32) - 1),)
"""The map of the initial user namespace."""

_RID_SECONDS: Final = 5.0
_RECORD: Final = "ids"
_CHOWN: Final = 1 << 0
_NEEDED: Final = sum(1 << n for n in (0, 1, 3, 6, 7, 8, 12, 18, 21))
"""What the launcher needs: CHOWN, DAC_OVERRIDE, FOWNER, SETGID, SETUID, SETPCAP, NET_ADMIN, SYS_CHROOT,
SYS_ADMIN (capabilities(7)).  With less, a user namespace of its own gives all."""
_NS_GET_USERNS: Final = 0xB701
_WALL: Final = 0x40000000  # __WALL of waitpid(2): it has no exit signal


class Ids(NamedTuple):
    """The ids of a user namespace, as seen from here."""

    uids: IdMap
    gids: IdMap

    @property
    def single(self) -> bool:
        """Whether there is one user and one group: 0, who is ourselves."""
        return len(self.uids) == 1 == len(self.gids)


def is_administrator() -> bool:
    """Return whether this process may make mounts and namespaces as it is."""
    return _rights(os.geteuid())[0]


def is_needed() -> bool:
    """Return whether this process has to make a user namespace before anything else."""
    return not is_administrator() and not is_bare()


def is_bare() -> bool:
    """Return whether no namespaces are to be had, as inside a container that is given no rights.

    Found out by asking the kernel, once.  An ordinary user to whom a setting of the host's refuses
    them is told which, and is not counted here.
    """
    return missing() != ""


def missing() -> Literal["", "namespaces", "mounts"]:
    """Return what this process can not have, so that its containers are bare.

    Without a proc file system that shows it alone, a namespace of processes is of no use: the kernel
    gives none to whom only a covered one is shown, as in most containers (user_namespaces(7)).
    """
    euid = os.geteuid()
    return "" if _rights(euid)[0] else _refused_to(euid)


def has_one_id() -> bool:
    """Return whether all files are this process's own here, as there is nobody else to be.

    So where no namespaces are to be had, and for who is root in a namespace of one id.
    """
    if not is_bare():
        return is_administrator() and sum(row[2] for row in read_map("/proc/self/uid_map")) == 1
    return (
        not effective_capabilities() & _CHOWN
        or sum(row[2] for row in read_map("/proc/self/uid_map")) == 1
    )


@lru_cache(maxsize=4)
def _refused_to(_euid: int) -> Literal["", "namespaces", "mounts"]:
    from containerkit import _native

    trial = _is_covered()
    try:
        end, pidfd = _native.spawn_namespace(trial=trial)
    except OSError as error:
        refused = error.errno in forbidden.REFUSALS and (_is_filtered() or not forbidden.knobs())
        return "namespaces" if refused else ""
    if not trial:
        _let_go(end, pidfd)
        return ""
    ended = None
    try:
        with contextlib.suppress(ChildProcessError):  # the embedding program waited for it
            ended = os.waitid(os.P_PIDFD, pidfd, os.WEXITED | _WALL)
    finally:
        os.close(end)
        os.close(pidfd)
    return "mounts" if ended is not None and ended.si_status in forbidden.REFUSALS else ""


def _is_covered() -> bool:
    """Whether something is mounted within /proc, so that another one may be refused.

    Only then is that tried: the kernel takes its time to be rid of namespaces, and counts them until then.
    """
    with contextlib.suppress(OSError):
        text = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace")
        points = {line.split(" ")[4] for line in text.split("\n") if line}
        return any(one.startswith("/proc/") for one in points - {"/proc/sys/fs/binfmt_misc"})
    return False


def _is_filtered() -> bool:
    with contextlib.suppress(OSError):
        return status_of().get("Seccomp") == "2"
    return False


def marks() -> Literal["trusted", "user"]:
    """Return by which attributes removed files are marked in layers (overlayfs, ``userxattr``)."""
    return "user" if is_within() else "trusted"


def is_within() -> bool:
    """Return whether containers are in a user namespace, whoever made it, that is not the host's.

    No file system of the host's can be shown with other ids there (mount_setattr(2)).
    """
    return not all(_rights(os.geteuid()))


@lru_cache(maxsize=4)
def _rights(_euid: int) -> tuple[bool, bool]:
    """Return whether this process may make mounts and namespaces, and whether the host's own."""
    try:
        missing = _NEEDED & ~effective_capabilities()
        own = read_map("/proc/self/uid_map")
    except OSError:  # no /proc to ask
        return os.geteuid() == 0, True
    return not missing and _owns_mounts(), own == WHOLE


def _owns_mounts() -> bool:
    """Whether rights in this user namespace are rights over its mounts (ioctl_ns(2)).

    Who has entered a user namespace alone, as by ``unshare -r``, still has the mounts of the one above.
    """
    with contextlib.suppress(OSError):
        mounts = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        try:
            owner = fcntl.ioctl(mounts, _NS_GET_USERNS)
        except PermissionError:  # it is none that this process could be told of
            return False
        finally:
            os.close(mounts)
        try:
            return os.path.samestat(os.fstat(owner), os.stat("/proc/self/ns/user"))
        finally:
            os.close(owner)
    return True


def read_map(path: str | Path) -> IdMap:
    """Return the map in a file like ``/proc/PID/uid_map``."""
    lines = Path(path).read_text(encoding="ascii").splitlines()
    return tuple((int(a), int(b), int(n)) for a, b, n in map(str.split, lines))


# ---- which ids


@refusals("find out which ids containers have")
def is_recorded(root: Path) -> bool:
    """Return whether a directory says what ids its containers have: a root of an ordinary user."""
    return (root / _RECORD).exists()


def ids_of(root: Path) -> Ids:
    """Return the ids of a root's containers, written down in it on first use.

    Raises:
        PermissionDenied: those that it was made with are not granted any more.
        HostError: the root is gone.
        ConfigError: what was written down is not ours.
    """
    path = root / _RECORD
    try:
        text = path.read_text(encoding="ascii", errors="replace")
    except FileNotFoundError:
        ids = granted() or _own()
        try:
            publish_file(root, _RECORD, _written(ids))
        except FileNotFoundError as error:
            raise gone(root) from error
        return ids
    try:
        return _read(text)
    except ValueError as error:
        raise ConfigError(
            f"cannot read {path}, which says what ids containers have: it was damaged"
        ) from error


def _read(text: str) -> Ids:
    maps: dict[str, list[tuple[int, int, int]]] = {"uid": [], "gid": []}
    for line in text.splitlines():
        kind, *words = line.split()
        inside, outside, count = map(int, words)
        if (
            kind not in maps
            or min(inside, outside) < 0
            or not subids.fits(max(inside, outside), count)
        ):
            raise ValueError(line)
        maps[kind].append((inside, outside, count))
    if not all(rows and rows[0][0] == 0 for rows in maps.values()):
        raise ValueError("no root")
    return Ids(tuple(maps["uid"]), tuple(maps["gid"]))


def _written(ids: Ids) -> bytes:
    lines = [("uid", *row) for row in ids.uids] + [("gid", *row) for row in ids.gids]
    return "".join(" ".join(map(str, line)) + "\n" for line in lines).encode("ascii")


def _own() -> Ids:
    return Ids(((0, os.geteuid(), 1),), ((0, os.getegid(), 1),))


def granted() -> Ids | None:
    """Return the ids that the host grants this user beside its own; None: no others."""
    if subids.withheld():
        return None
    own = _own()
    return Ids(*((mine[0], (1, *found)) for mine, found in zip(own, subids.ranges(), strict=True)))


# ---- the namespace itself

_guard = threading.Lock()
_made: dict[Ids, int] = {}


def namespace(root: Path) -> int:
    """Return a descriptor of the root's user namespace, kept by this module; -1: none is needed.

    Raises:
        PermissionDenied, HostError: the host refuses; the setting that allows it is in the hint.
    """
    if not is_needed():
        return -1
    ids = ids_of(root)
    with _guard:
        if ids not in _made:
            _made[ids] = _make(ids)
        return _made[ids]


@refusals("make a user namespace")
def _make(ids: Ids) -> int:
    end, pidfd = _spawn()
    try:
        pid = _pid_of(pidfd)
        if ids.single:
            _write_maps(pid, ids)
        else:
            _have_maps_written(pid, ids)
        return os.open(f"/proc/{pid}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        _let_go(end, pidfd)


def _spawn() -> tuple[int, int]:
    """Make the process of a namespace; the one that `missing` had is counted until the kernel is rid of it."""
    from containerkit import _native

    late = time.monotonic() + _RID_SECONDS
    while True:
        try:
            return _native.spawn_namespace()
        except OSError as error:
            full = error.errno == errno.ENOSPC and not forbidden.knobs()
            if not full or time.monotonic() > late:
                raise forbidden.refused(error.errno or errno.EPERM) from error
        time.sleep(0.01)


def _let_go(end: int, pidfd: int) -> None:
    """End a process that was made for its namespace, and wait for that."""
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    with contextlib.suppress(ChildProcessError):
        os.waitid(os.P_PIDFD, pidfd, os.WEXITED | _WALL)
    os.close(end)
    os.close(pidfd)


def _pid_of(pidfd: int) -> int:
    info = Path(f"/proc/self/fdinfo/{pidfd}").read_text(encoding="ascii")
    return int(next(line for line in info.splitlines() if line.startswith("Pid:"))[4:])


def _write_maps(pid: int, ids: Ids) -> None:
    try:
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", "{} {} {}".format(*ids.uids[0])),
            ("gid_map", "{} {} {}".format(*ids.gids[0])),
        ):
            fd = os.open(f"/proc/{pid}/{name}", os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(fd, text.encode("ascii"))
            finally:
                os.close(fd)
    except PermissionError as error:
        raise forbidden.refused(errno.EPERM) from error


def _have_maps_written(pid: int, ids: Ids) -> None:
    import subprocess

    for kind, rows in (("uid", ids.uids), ("gid", ids.gids)):
        program = subids.program(f"new{kind}map")
        words = [str(number) for row in rows for number in row]
        said = f"new{kind}map is not installed"
        if program is not None:
            said = subprocess.run(
                [program, str(pid), *words], capture_output=True, text=True, check=False
            ).stderr.strip()
        # Its exit code may have been taken by a wait() of the embedding program.
        if not read_map(f"/proc/{pid}/{kind}_map"):
            raise PermissionDenied(
                f"cannot use the ids that this root was made with: {subids.in_the_way() or said}",
                errno=errno.EPERM,
                hint="start this program without that, or use another root"
                if subids.in_the_way()
                else "install newuidmap (package uidmap), or use another root"
                if program is None
                else f"grant them again in /etc/sub{kind}: user {os.getuid()}, first id"
                f" {rows[-1][1]}, {rows[-1][2]} ids; or use another root",
            )


def _forked() -> None:
    global _guard
    _guard = threading.Lock()


os.register_at_fork(after_in_child=_forked)
