"""The vocabulary of launch plans: op codes, flags, and one row for each op saying what it means.

Owns the numbers shared with ``src/_native/ck_plan.h`` (a test compares them), the `Op` value and
the table `OPS`, which drives validation (`wire`) and text (`explain`) alike.  Must not decide what
a container gets (`compile`).  Adding an op: one row here, one enum line and one handler in C, one
use in `compile`.

In a row, each of the three descriptor slots has a kind: ``""`` absent; ``in`` a slot the caller
sends; ``source`` one attached by SOURCE; ``use`` any slot already filled; ``fill`` a new slot; a
final ``?`` makes it optional.  Each arena argument is ``text``, ``list`` (of strings) or ``bytes``,
with the same ``?``.  The kind of a value says how it is printed; ``""`` means it must be zero.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final, NamedTuple

PLAN_MAGIC: Final = 0x4C504B43
PLAN_VERSION: Final = 1
PLAN_MAX, PLAN_INLINE = 1 << 20, 60 << 10
PLAN_OPS_MAX: Final = 1024
SLOTS: Final = 64
PLAN_EPHEMERAL, PLAN_KEPT, PLAN_EXEC = 1, 2, 4

F_CREATE: Final = 1
F_FILE: Final = 2
F_VOLATILE: Final = 4
F_AS_IS: Final = 16
F_OPTIONAL: Final = 32
F_RECURSIVE: Final = 64
F_OWN: Final = 128
F_TUNED, F_UNCOMMON, F_SPOILT = 256, 512, 2048

NETNS_POOLED, NETNS_HOST = 1, 2
OWN_DEV, OWN_GROUPS = 0, 1

RESTART_ON_FAILURE: Final = 1
RESTART_ALWAYS: Final = 2
RESTART_UNLESS_STOPPED: Final = 3

PREPARE: Final = 0
CHILD: Final = 1
SECTIONS: Final = ("prepare", "child")

# linux/sched.h
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000
NAMESPACES: Final = {
    CLONE_NEWNS: "mount",
    CLONE_NEWPID: "pid",
    CLONE_NEWNET: "network",
    CLONE_NEWIPC: "ipc",
    CLONE_NEWUTS: "uts",
    CLONE_NEWCGROUP: "cgroup",
}

# linux/mount.h, mount_setattr(2)
MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
MOUNT_ATTRS: Final = {
    MOUNT_ATTR_RDONLY: "ro",
    MOUNT_ATTR_NOSUID: "nosuid",
    MOUNT_ATTR_NODEV: "nodev",
    MOUNT_ATTR_NOEXEC: "noexec",
}


class Code(IntEnum):
    """The op codes of ck_plan.h, without their prefix."""

    LOCK = 1
    CGROUP = 2
    NETNS = 3
    SOURCE = 4
    CLONE = 5
    UPPER_TMPFS = 6
    UPPER_DIR = 7
    OVERLAY = 8
    FILE = 9
    ID_MAP = 10
    STATE = 11
    LOG = 12
    RESTART = 13
    HEALTH = 14
    DEVICES = 15
    TREE = 16

    JOIN_NET = 32
    ROOT = 33
    MOUNT_FS = 34
    MOVE_MOUNT = 35
    TEMPLATE = 36
    MASK = 37
    READ_ONLY = 38
    MKDIR = 39
    COPY_FD = 40
    ROOT_READ_ONLY = 41
    PIVOT = 42
    HOSTNAME = 43
    DEV_NODES = 44
    SYSCTL = 45
    RLIMIT = 46
    OOM_SCORE = 47
    KEYRING = 48
    STDIO = 49
    SESSION = 50
    UMASK = 51
    GROUPS = 52
    IDS = 53
    CAPS = 54
    CHDIR = 55
    NO_NEW_PRIVS = 56
    SECCOMP = 57
    EXEC = 58
    PTY = 59
    INIT = 60
    PARK = 61
    JOIN_USER = 62
    CHROOT = 63
    LINK = 64
    UNCONFINED = 65


Argument = str | tuple[str, ...] | bytes | None
Slots = tuple[int, int, int]
Arguments = tuple[Argument, Argument, Argument]

_NO_SLOTS: Final[Slots] = (-1, -1, -1)
_NO_ARGUMENTS: Final[Arguments] = (None, None, None)


class Op:
    """One step of a plan.  A value: compare it, hash it, never change it.

    Args:
        code: a `Code`.
        flags: ``F_*`` bits; for RLIMIT the resource's number.
        fd: three slots, -1 for absent.
        arena: three arguments: text, a tuple of texts, bytes, or None for absent.
        value: two numbers of 64 bits.
    """

    # A plain class with slots: a start builds dozens, and `packed` caches constant ones (`wire`).
    __slots__ = ("arena", "code", "fd", "flags", "packed", "value")

    def __init__(
        self,
        code: int,
        *,
        flags: int = 0,
        fd: Slots = _NO_SLOTS,
        arena: Arguments = _NO_ARGUMENTS,
        value: tuple[int, int] = (0, 0),
    ) -> None:
        self.code = code
        self.flags = flags
        self.fd = fd
        self.arena = arena
        self.value = value
        self.packed: bytes | None = None

    def _key(self) -> tuple[int, int, Slots, Arguments, tuple[int, int]]:
        return self.code, self.flags, self.fd, self.arena, self.value

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, Op) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        info = OPS.get(self.code)
        if info is None:
            return f"<Op {self.code}>"
        from containerkit.launch.explain import explain_op

        return f"<Op {info.name}: {explain_op(self)}>"

    def __reduce__(self) -> tuple[object, ...]:
        return _make_op, self._key()


def _make_op(code: int, flags: int, fd: Slots, arena: Arguments, value: tuple[int, int]) -> Op:
    return Op(code, flags=flags, fd=fd, arena=arena, value=value)


class OpInfo(NamedTuple):
    """One row of `OPS`.

    Attributes:
        section: PREPARE or CHILD.
        stage: child ops run in non-decreasing stage; 0 elsewhere (see `wire`).
        text: a format string over fd0..fd2, a0..a2, v0, v1 and flags.
        fd: kinds of the three slots.
        arena: kinds of the three arguments.
        value: kinds of the two values.
        flags: the flag bits it may carry.
        name: as in messages and explain, lower case.
    """

    section: int
    stage: int
    text: str
    fd: tuple[str, str, str] = ("", "", "")
    arena: tuple[str, str, str] = ("", "", "")
    value: tuple[str, str] = ("", "")
    flags: int = 0
    name: str = ""


# Stages of the child section.  After PRIVILEGED nothing may need a right that IDS gives up.
STAGE_NET, STAGE_ROOT, STAGE_MOUNTS, STAGE_PIVOT, STAGE_PROCESS = 0, 1, 2, 3, 4
STAGE_GROUPS, STAGE_IDS, STAGE_AFTER_IDS, STAGE_EXEC = 5, 6, 7, 8
STAGE_ANY = -1  # NO_NEW_PRIVS, SECCOMP, UNCONFINED and CHDIR: anywhere after PIVOT

_FILL: Final = ("fill", "", "")
_USE: Final = ("use", "", "")
_MAY_USE: Final = ("use?", "", "")
_IN: Final = ("in", "", "")
_TEXT: Final = ("text", "", "")
_LIST: Final = ("list", "", "")
_BYTES: Final = ("bytes", "", "")
_LIMITS: Final = ("limit", "limit")
_MAKER: Final = ("maker", "")
_MOUNTED: Final = F_CREATE | F_OPTIONAL
_SHOWN: Final = F_AS_IS | F_OPTIONAL
_GROUP: Final = F_TUNED | F_UNCOMMON | F_SPOILT

_ROWS: Final[dict[Code, OpInfo]] = {
    Code.LOCK: OpInfo(
        PREPARE, 0, "take the start lock of {a0}{flags}", arena=_TEXT, flags=F_CREATE
    ),
    Code.CGROUP: OpInfo(
        PREPARE, 0, "make the control group{a0}", arena=("triples", "", ""), flags=_GROUP
    ),
    Code.NETNS: OpInfo(PREPARE, 0, "use {v0}{fd0}", fd=("fill?", "", ""), value=("netns", "")),
    Code.SOURCE: OpInfo(
        PREPARE,
        0,
        "attach the tree of {fd0} as source @{s0}{v0}{flags}",
        _IN,
        value=("attrs", ""),
        flags=_SHOWN,
    ),
    Code.CLONE: OpInfo(
        PREPARE,
        0,
        "clone source @{s0} into {fd1}{v0}{flags}",
        fd=("source", "fill", ""),
        value=("attrs", ""),
        flags=F_RECURSIVE,
    ),
    Code.UPPER_TMPFS: OpInfo(
        PREPARE, 0, "keep what it writes in a tmpfs of {v0}, {v1} inodes", value=("size", "count")
    ),
    Code.UPPER_DIR: OpInfo(PREPARE, 0, "keep what it writes below {a0}", arena=_TEXT),
    Code.OVERLAY: OpInfo(
        PREPARE,
        0,
        "overlay {a0}{a1} as {fd0}{v0}{flags}",
        fd=_FILL,
        arena=("layers", "upper?", ""),
        value=("attrs", ""),
        flags=F_VOLATILE,
    ),
    Code.FILE: OpInfo(
        PREPARE,
        0,
        "make a file of {a0} as {fd0}, mode {v0}{v1}",
        fd=_FILL,
        arena=_BYTES,
        value=("mode", "attrs"),
    ),
    Code.ID_MAP: OpInfo(
        PREPARE,
        0,
        "make a user namespace as {fd0}, users {a0}, groups {a1}, root {v0}{flags}",
        fd=_FILL,
        arena=("map", "map", ""),
        value=("owner", ""),
        flags=F_AS_IS,
    ),
    Code.TREE: OpInfo(PREPARE, 0, "open the directory {a0} as {fd0}", fd=_FILL, arena=_TEXT),
    Code.STATE: OpInfo(PREPARE, 0, "write the state record"),
    Code.LOG: OpInfo(
        PREPARE,
        0,
        "connect input to {fd0}, output to {fd1}, error to {fd2}{v0}{v1}",
        fd=("fill?", "fill?", "fill?"),
        value=("log", "files"),
    ),
    Code.RESTART: OpInfo(PREPARE, 0, "restart it {v0}, {v1} times", value=("restart", "count")),
    Code.HEALTH: OpInfo(
        PREPARE,
        0,
        "probe it {v0}, {v1} at first, unhealthy after {number} failures",
        arena=("plan", "", ""),
        value=("each", "first"),
        flags=0xFFFF,
    ),
    Code.DEVICES: OpInfo(
        PREPARE, 0, "let its control group use devices, {a0}", arena=("program", "", "")
    ),
    Code.JOIN_NET: OpInfo(CHILD, STAGE_NET, "enter the network namespace of {fd0}", fd=_USE),
    Code.ROOT: OpInfo(CHILD, STAGE_ROOT, "make {fd0} the new root{v0}", fd=_USE, value=_MAKER),
    Code.MOUNT_FS: OpInfo(
        CHILD,
        STAGE_MOUNTS,
        "mount {a0} on {a1}{v0}{a2}{flags}",
        arena=("text", "text", "options?"),
        value=("attrs", ""),
        flags=_MOUNTED | F_OWN,
    ),
    Code.MOVE_MOUNT: OpInfo(
        CHILD,
        STAGE_MOUNTS,
        "mount {fd0} on {a0}{flags}",
        fd=_USE,
        arena=_TEXT,
        flags=_MOUNTED | F_FILE | F_OWN,
    ),
    Code.TEMPLATE: OpInfo(
        CHILD,
        STAGE_MOUNTS,
        "mount its own {v0} on {a0}{flags}",
        arena=_TEXT,
        value=("own", ""),
        flags=_MOUNTED,
    ),
    Code.DEV_NODES: OpInfo(CHILD, STAGE_MOUNTS, "make in that what every /dev has"),
    Code.MASK: OpInfo(CHILD, STAGE_MOUNTS, "hide {a0}", arena=_TEXT),
    Code.READ_ONLY: OpInfo(
        CHILD, STAGE_MOUNTS, "make {a0} read-only{flags}", arena=_TEXT, flags=F_OWN
    ),
    Code.MKDIR: OpInfo(
        CHILD,
        STAGE_MOUNTS,
        "make the directory {a0}, mode {v0}, owner {v1}",
        arena=_TEXT,
        value=("mode", "owner"),
    ),
    Code.LINK: OpInfo(
        CHILD,
        STAGE_MOUNTS,
        "make {a1} a link to {a0}, unless it is there{flags}",
        arena=("text", "text", ""),
        flags=F_OPTIONAL,
    ),
    Code.COPY_FD: OpInfo(
        CHILD,
        STAGE_MOUNTS,
        "write {fd0} to {a0}, mode {v0}, owner {v1}",
        fd=_IN,
        arena=_TEXT,
        value=("mode", "owner"),
    ),
    Code.ROOT_READ_ONLY: OpInfo(CHILD, STAGE_MOUNTS, "make the root read-only"),
    Code.PIVOT: OpInfo(CHILD, STAGE_PIVOT, "pivot into the new root, detach the old one"),
    Code.HOSTNAME: OpInfo(CHILD, STAGE_PROCESS, "set the host name {a0}", arena=_TEXT),
    Code.SYSCTL: OpInfo(CHILD, STAGE_PROCESS, "set sysctl {a0} = {a1}", arena=("text", "text", "")),
    Code.RLIMIT: OpInfo(
        CHILD, STAGE_PROCESS, "limit {resource} to {v0}, hard {v1}", value=_LIMITS, flags=0xF
    ),
    Code.OOM_SCORE: OpInfo(
        CHILD, STAGE_PROCESS, "set oom_score_adj {a0}", arena=_TEXT, flags=F_OPTIONAL
    ),
    Code.KEYRING: OpInfo(CHILD, STAGE_PROCESS, "join a new session keyring", flags=F_OPTIONAL),
    Code.STDIO: OpInfo(
        CHILD,
        STAGE_PROCESS,
        "connect standard input to {fd0}, output to {fd1}, error to {fd2}",
        fd=("use?", "use?", "use?"),
    ),
    Code.JOIN_USER: OpInfo(
        CHILD,
        STAGE_PROCESS,
        "enter the user namespace {fd0}, streams belong to {v0}, group {v1}",
        fd=_MAY_USE,
        value=("number", "number"),
    ),
    Code.CHROOT: OpInfo(
        CHILD, STAGE_PROCESS, "take in orphans; root: {fd0}{v0}", fd=_MAY_USE, value=("place", "")
    ),
    Code.SESSION: OpInfo(CHILD, STAGE_PROCESS, "start a session"),
    Code.PTY: OpInfo(
        CHILD,
        STAGE_PROCESS,
        "start a session on a terminal of its own, {v0} rows of {v1} columns",
        value=("number", "number"),
    ),
    Code.UMASK: OpInfo(CHILD, STAGE_PROCESS, "set umask {v0}", value=("mode", "")),
    Code.GROUPS: OpInfo(CHILD, STAGE_GROUPS, "set groups {a0}", arena=("ids", "", "")),
    Code.IDS: OpInfo(CHILD, STAGE_IDS, "become user {v0}, group {v1}", value=("number", "number")),
    Code.CAPS: OpInfo(
        CHILD, STAGE_AFTER_IDS, "bound capabilities to {v0}; hold {v1}", value=("caps", "caps")
    ),
    Code.CHDIR: OpInfo(
        CHILD, STAGE_ANY, "change directory to {a0}{flags}", arena=_TEXT, flags=F_OPTIONAL
    ),
    Code.NO_NEW_PRIVS: OpInfo(CHILD, STAGE_ANY, "forbid new privileges"),
    Code.SECCOMP: OpInfo(CHILD, STAGE_ANY, "filter system calls, {a0}", arena=("filter", "", "")),
    Code.UNCONFINED: OpInfo(CHILD, STAGE_ANY, "filter no system calls: it is unconfined"),
    Code.INIT: OpInfo(CHILD, STAGE_EXEC, "stay as init; what follows is its child"),
    Code.PARK: OpInfo(CHILD, STAGE_EXEC, "wait, while others use its files"),
    Code.EXEC: OpInfo(
        CHILD, STAGE_EXEC, "execute {a1} as {a0} with {a2}", arena=("candidates", "argv", "envp")
    ),
}

OPS: Final[dict[int, OpInfo]] = {
    int(code): row._replace(name=code.name.lower()) for code, row in _ROWS.items()
}
