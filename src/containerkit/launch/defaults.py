"""What every container gets: file systems, masks, read-only paths, files in /etc.

Owns these lists as ready-made steps; they are packed once, when this module is imported.  Must not
look at a request; `compile` puts them in order.

Spec: runtime-spec config-linux.md, Default Filesystems; the lists of hidden paths are moby's
(oci/defaults.go, 2026), each there because of an advisory.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from containerkit.launch.ops import (
    F_CREATE,
    F_OPTIONAL,
    F_OWN,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    NETNS_HOST,
    OWN_GROUPS,
    Code,
    Op,
)
from containerkit.launch.wire import constant
from containerkit.model.mount import Mount

if TYPE_CHECKING:
    from containerkit.model.security import Security

INERT: Final = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC

MASKED_PATHS: Final = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)

READ_ONLY_PATHS: Final = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/pressure",  # it is made to watch the host's, by whoever writes
    "/proc/sys",
    "/proc/sysrq-trigger",
)


def _mount(
    kind: str, target: str, attrs: int, options: tuple[str, ...] | None = None, flags: int = 0
) -> Op:
    return constant(
        Op(
            Code.MOUNT_FS,
            flags=F_CREATE | flags,
            arena=(kind, target, options),
            value=(attrs, 0),
        )
    )


PROC: Final = _mount("proc", "/proc", INERT)
DEV: Final = constant(Op(Code.TEMPLATE, flags=F_CREATE, arena=("/dev", None, None)))
OWN_DEV: Final = (
    _mount(
        "tmpfs",
        "/dev",
        MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
        ("mode=0755", "size=1m"),
        flags=F_OWN,
    ),
    constant(Op(Code.DEV_NODES)),
)
DEV_READ_ONLY: Final = constant(Op(Code.READ_ONLY, flags=F_OWN, arena=("/dev", None, None)))
TERMINALS: Final = 256
"""Of a container.  All that are not the host's own share some 3,000 (kernel.pty.max, .reserve)."""

# /dev is read-only: its directories pts, shm and mqueue are in the template.
DEVPTS: Final = _mount(
    "devpts",
    "/dev/pts",
    MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC,
    ("newinstance", "ptmxmode=0666", "mode=0620", f"max={TERMINALS}", "gid=5"),
)


@lru_cache(maxsize=8)
def devpts(gid: int | None) -> Op:
    """The step that mounts /dev/pts for terminals of a group, as the host counts it."""
    kind, target, options = DEVPTS.arena
    assert isinstance(options, tuple)
    group = () if gid is None else (f"gid={gid}",)
    return Op(
        Code.MOUNT_FS,
        flags=F_CREATE,
        arena=(kind, target, (*options[:-1], *group)),
        value=DEVPTS.value,
    )


# Not every kernel has POSIX message queues, and few programs want them.
MQUEUE: Final = _mount("mqueue", "/dev/mqueue", INERT, flags=F_OPTIONAL)
# It shows the network namespace of who mounts it: after JOIN_NET.
SYSFS: Final = _mount("sysfs", "/sys", INERT | MOUNT_ATTR_RDONLY)
# What a privileged container has of these.
WRITABLE_SYSFS: Final = _mount("sysfs", "/sys", INERT)
GROUPS_PLACE: Final = "/sys/fs/cgroup"
GROUPS: Final = constant(
    Op(
        Code.TEMPLATE,
        flags=F_CREATE | F_OPTIONAL,
        arena=(GROUPS_PLACE, None, None),
        value=(OWN_GROUPS, 0),
    )
)
GROUPS2: Final = _mount("cgroup2", GROUPS_PLACE, INERT | MOUNT_ATTR_RDONLY, flags=F_OPTIONAL)
# What a privileged container has of these.
CGROUP2: Final = _mount("cgroup2", "/sys/fs/cgroup", INERT, flags=F_OPTIONAL)
CGROUPS: Final = _mount("tmpfs", "/sys/fs/cgroup", INERT, ("mode=0755", "size=64k"))
# getmntent(3): Java and others read it.
MTAB: Final = constant(Op(Code.LINK, flags=F_OPTIONAL, arena=("/proc/mounts", "/etc/mtab", None)))
SECRETS: Final = _mount("tmpfs", "/run/secrets", INERT, ("mode=0755", "size=16777216"))


@lru_cache(maxsize=16)
def cgroup(controller: str) -> Op:
    """The step that mounts the control groups of a controller (version 1), if it has its own."""
    return _mount("cgroup", f"/sys/fs/cgroup/{controller}", INERT, (controller,), F_OPTIONAL)


@lru_cache(maxsize=8)
def shm(size: int) -> Op:
    """The step that mounts /dev/shm; 0: as large as the kernel allows."""
    options = ("mode=1777", f"size={size}") if size else ("mode=1777",)
    return Op(
        Code.MOUNT_FS,
        flags=F_CREATE,
        arena=("tmpfs", "/dev/shm", options),
        value=(INERT, 0),
    )


DEFAULT_SHM_OP: Final = constant(shm(64 << 20))

MASKS: Final = tuple(constant(Op(Code.MASK, arena=(path, None, None))) for path in MASKED_PATHS)
READ_ONLY: Final = tuple(
    constant(Op(Code.READ_ONLY, arena=(path, None, None))) for path in READ_ONLY_PATHS
)

STATE: Final = constant(Op(Code.STATE))
HOST_NETWORK: Final = constant(Op(Code.NETNS, value=(NETNS_HOST, 0)))
ROOT_READ_ONLY: Final = constant(Op(Code.ROOT_READ_ONLY))
PIVOT: Final = constant(Op(Code.PIVOT))
KEYRING: Final = constant(Op(Code.KEYRING))
SESSION: Final = constant(Op(Code.SESSION))
# What a terminal is before anybody has said how large its window is (a VT100's).
TERMINAL: Final = constant(Op(Code.PTY, value=(24, 80)))
INIT: Final = constant(Op(Code.INIT))
PARK: Final = constant(Op(Code.PARK))
UMASK: Final = constant(Op(Code.UMASK, value=(0o022, 0)))
NO_NEW_PRIVS: Final = constant(Op(Code.NO_NEW_PRIVS))
UNCONFINED: Final = constant(Op(Code.UNCONFINED))


SCRATCH: Final = ("/run", "/tmp")
SCRATCH_SIZE: Final = 64 << 20


def with_scratch(mounts: Sequence[Mount], security: Security) -> Sequence[Mount]:
    """Add what a program without a writable root writes to: tmpfs, where nothing else is mounted."""
    if security.preset != "strict" or not security.read_only:
        return mounts
    taken = {mount.target for mount in mounts}
    own = [Mount.tmpfs(path, size=SCRATCH_SIZE) for path in SCRATCH if path not in taken]
    return [*own, *mounts]


def hosts_file(hostname: str) -> bytes:
    """/etc/hosts of a container without a network: itself only.

    Its own name has a loopback address, as Debian gives it: Java, MPI and sudo look it up.
    """
    return (
        f"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n127.0.1.1\t{hostname}\n"
    ).encode()
