"""Launch plans as text: for people, for golden tests, and for messages of failures.

Owns how each kind of argument is printed and the hints for failed steps.  Must not print a value of
the environment, the content of a file, or anything of a secret but its name.  Reads only the table
`ops.OPS`; adding an op needs nothing here unless it brings a new kind of argument.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from shlex import quote
from struct import iter_unpack
from typing import TYPE_CHECKING, Any, Final

from containerkit.launch.capabilities import explain_mask
from containerkit.launch.ops import (
    CHILD,
    F_AS_IS,
    F_CREATE,
    F_FILE,
    F_OPTIONAL,
    F_OWN,
    F_RECURSIVE,
    F_VOLATILE,
    MOUNT_ATTRS,
    NAMESPACES,
    NETNS_HOST,
    NETNS_POOLED,
    OPS,
    OWN_GROUPS,
    RESTART_ALWAYS,
    RESTART_ON_FAILURE,
    RESTART_UNLESS_STOPPED,
    SECTIONS,
    Argument,
    Code,
    Op,
)
from containerkit.model.limits import RESOURCES, RLIM_INFINITY

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan

_RESOURCES: Final = {number: name for name, number in RESOURCES.items()}
_MESSAGE_MAX: Final = 300

_FLAGS: Final = {
    F_CREATE: "creating it",
    F_FILE: "a file",
    F_RECURSIVE: "with what is mounted below it",
    F_VOLATILE: "volatile",
    F_AS_IS: "files with the ids they have",
    F_OPTIONAL: "if possible",
    F_OWN: "for this container alone",
}


def _shown(text: str) -> str:
    """Make text of images and callers safe to print: no control characters, no line breaks."""
    return text if text.isprintable() else text.encode("unicode_escape").decode("ascii")


def _word(text: str) -> str:
    return quote(_shown(text))


def _size(value: int) -> str:
    if not value:
        return "any size"
    for shift, unit in ((30, "GiB"), (20, "MiB"), (10, "KiB")):
        if value % (1 << shift) == 0:
            return f"{value >> shift} {unit}"
    return f"{value} bytes"


def _attrs(value: int) -> str:
    if not value:
        return ""
    names = [name for bit, name in MOUNT_ATTRS.items() if value & bit]
    unknown = value & ~sum(MOUNT_ATTRS)
    return ", " + " ".join([*names, hex(unknown)] if unknown else names)


_NETNS: Final = {
    NETNS_POOLED: "a network namespace of its own, from the pool, as ",
    NETNS_HOST: "the network namespace of the host",
}

_RESTARTS: Final = {
    0: "never",
    RESTART_ON_FAILURE: "when it fails",
    RESTART_ALWAYS: "always",
    RESTART_UNLESS_STOPPED: "unless it is stopped",
}

_VALUES: Final[dict[str, Callable[[int], str]]] = {
    "": str,
    "number": str,
    "count": lambda value: str(value) if value else "any number of",
    "size": _size,
    "attrs": _attrs,
    "mode": lambda value: f"{value:04o}",
    "owner": lambda value: f"{value >> 32}:{value & 0xFFFFFFFF}",
    "maker": lambda value: (
        f"; what is made in it belongs to {value >> 32}:{value & 0xFFFFFFFF}" if value else ""
    ),
    "limit": lambda value: "unlimited" if value == RLIM_INFINITY else str(value),
    "own": lambda value: "view of its control groups" if value == OWN_GROUPS else "/dev",
    "netns": lambda value: _NETNS.get(value, str(value)),
    "caps": explain_mask,
    "log": lambda value: f", logged in files of {_size(value)}" if value else ", kept nowhere",
    "files": lambda value: f", {value} of them" if value > 1 else "",
    "restart": lambda value: _RESTARTS.get(value, str(value)),
    "place": lambda value: ", the one that there is" if value else "",
    "each": lambda value: f"every {value >> 32} ms for at most {value & 0xFFFFFFFF} ms",
    "first": lambda value: f"every {value & 0xFFFFFFFF} ms in the {value >> 32} ms",
}


def _triples(items: tuple[str, ...]) -> str:
    if not items:
        return ", without limits"
    triples = zip(items[0::3], items[1::3], items[2::3], strict=True)
    return ": " + ", ".join(
        f"{_shown(file)} = {_shown(value)} ({_shown(controller)})"
        for controller, file, value in triples
    )


def _envp(items: tuple[str, ...]) -> str:
    if not items:
        return "an empty environment"
    return " ".join(f"{_shown(item.partition('=')[0])}=***" for item in items)


_IDS_SHOWN: Final = 32


def _ids(data: bytes) -> str:
    numbers = [str(number) for (number,) in iter_unpack("<I", data[: 4 * _IDS_SHOWN])]
    more = len(data) // 4 - len(numbers)
    return " ".join([*numbers, f"and {more} more"] if more > 0 else numbers) or "none"


def _layers(items: tuple[str, ...]) -> str:
    # A layer's name is 64 digits: the first 12 identify it.
    return " over ".join(
        f"{item[:19]}…" if item.startswith("layers/") and len(item) == 71 else _shown(item)
        for item in items
    )


def _map(text: str) -> str:
    lines = [line.split() for line in text.splitlines()]
    return " ".join(f"{inside}+{count}={outside}" for inside, outside, count in lines)


_ARGUMENTS: Final[dict[str, Callable[[Any], str]]] = {
    "text": _shown,
    "upper": lambda name: f", writing to upper {name}",
    "map": _map,
    "list": " ".join,
    "triples": _triples,
    "layers": _layers,
    "options": lambda items: ", " + " ".join(map(_shown, items)) if items else "",
    "candidates": lambda items: " or ".join(map(_word, items)),
    "argv": lambda items: " ".join(map(_word, items)),
    "envp": _envp,
    "bytes": lambda data: f"{len(data)} bytes",
    "ids": _ids,
    "plan": lambda data: f"a plan of {len(data)} bytes",
    "filter": lambda data: f"{len(data) // 8} instructions",
    "program": lambda data: f"{len(data) // 8} instructions",
}


_NO_SLOT: Final = {
    Code.STDIO: "/dev/null",
    Code.LOG: "nothing",
    Code.JOIN_USER: "of the container",
    Code.CHROOT: "the container's",
}


def explain_op(op: Op, inputs: tuple[Any, ...] = ()) -> str:
    """Say in words what an op does.

    Args:
        op: a known op.
        inputs: the plan's inputs, to call slots by what is in them.
    """
    info = OPS[op.code]

    def slot(number: int) -> str:
        if number < 0:
            return _NO_SLOT.get(Code(op.code), "")
        if number < len(inputs) and inputs[number].kind:
            name = inputs[number].name
            kind = inputs[number].kind
            return f"{kind} {_word(name)}" if name else f"{kind} (slot {number})"
        return f"slot {number}"

    def argument(kind: str, value: Argument) -> str:
        return "" if value is None else _ARGUMENTS[kind.removesuffix("?") or "text"](value)

    second = _VALUES[info.value[1]](op.value[1])
    if op.code == Code.CAPS and op.value[1] == op.value[0]:
        second = "the same"
    flags = [text for bit, text in _FLAGS.items() if op.flags & bit]
    return info.text.format(
        fd0=slot(op.fd[0]),
        fd1=slot(op.fd[1]),
        fd2=slot(op.fd[2]),
        s0=op.fd[0],
        a0=argument(info.arena[0], op.arena[0]),
        a1=argument(info.arena[1], op.arena[1]),
        a2=argument(info.arena[2], op.arena[2]),
        v0=_VALUES[info.value[0]](op.value[0]),
        v1=second,
        resource=_RESOURCES[op.flags & 0xF],
        number=op.flags,
        flags="".join(f", {text}" for text in flags),
    )


def explain(plan: Plan) -> str:
    """Print a plan: inputs, then each step with its number; ends with a newline."""
    names = [name for bit, name in NAMESPACES.items() if plan.namespaces & bit]
    where = (
        "the namespaces of the container"
        if plan.kind == "exec"
        else f"new namespaces: {' '.join(names)}"
    )
    titles = ("prepare, in the launcher, which undoes it at the end", f"child, in {where}")
    lines = []
    if plan.inputs:
        lines.append("inputs")
        lines += [
            f"  slot {slot}: {item.kind or 'a descriptor'}{' ' if item.name else ''}"
            f"{_word(item.name) if item.name else ''}"
            for slot, item in enumerate(plan.inputs)
        ]
    number = 0
    for title, ops in zip(titles, plan.sections, strict=True):
        if plan.kind == "exec" and not ops:
            continue
        lines.append(title)
        for op in ops:
            number += 1
            lines.append(f"{number:4}  {OPS[op.code].name:<15} {explain_op(op, plan.inputs)}")
    if plan.notes:
        lines.append("notes")
        lines += [f"  {note}" for note in plan.notes]
    return "\n".join(lines) + "\n"


def describe(plan: Plan, section: int, index: int) -> str:
    """Say what one step does, with its number and name."""
    number = plan.number(section, index)
    count = sum(map(len, plan.sections))
    try:
        op = plan.step(section, index)
    except IndexError:
        where = SECTIONS[section] if 0 <= section < len(SECTIONS) else str(section)
        return f"an unknown step ({where} {index})"
    text = explain_op(op, plan.inputs)
    if len(text) > _MESSAGE_MAX:
        text = text[:_MESSAGE_MAX] + "…"
    return f"{text} (step {number} of {count}, {OPS[op.code].name})"


_HINTS: Final[dict[tuple[int, int], str]] = {
    (Code.LOCK, errno.EAGAIN): "the container runs already, under this or another process",
    (Code.LOCK, errno.EWOULDBLOCK): "the container runs already, under this or another process",
    (Code.LOCK, errno.ENOENT): "the container was removed",
    (
        Code.CGROUP,
        errno.EROFS,
    ): "the host mounts /sys/fs/cgroup read-only; a container needs a writable control group",
    (
        Code.CGROUP,
        errno.EACCES,
    ): "delegate a control group to this user (systemd: Delegate=yes), or lift the limits",
    (
        Code.CGROUP,
        errno.EPERM,
    ): "the caller's own control group may not use a device that was asked for",
    (Code.DEVICES, errno.EPERM): "a program for devices takes CAP_BPF and CAP_NET_ADMIN",
    (Code.CGROUP, errno.EINVAL): "the kernel refused the value of a limit",
    (Code.CGROUP, errno.EBUSY): "the limit is below what the control group uses already",
    (Code.ID_MAP, errno.ENOSPC): "raise /proc/sys/user/max_user_namespaces",
    (Code.TREE, errno.ENOENT): "the copy of the image's files was removed",
    (Code.CHROOT, errno.ENOENT): "the kernel shows no children in /proc (CONFIG_PROC_CHILDREN)",
    (Code.SOURCE, errno.EINVAL): "the source is not a directory or file that can be bound",
    (
        Code.OVERLAY,
        errno.EINVAL,
    ): "overlay refuses the file system that the engine's root or a layer lies on (another overlay, as in a container; a case-insensitive or network file system); put the root elsewhere: Engine.open(PATH) or CONTAINERKIT_ROOT, in a container on a volume: docker run -v ck:/var/lib/containerkit",
    (
        Code.OVERLAY,
        errno.ENOENT,
    ): "a layer is missing from the store: run Engine.check(repair=True)",
    (Code.OVERLAY, errno.ENODEV): "the kernel has no overlay file system: load the module overlay",
    (Code.OVERLAY, errno.E2BIG): "before Linux 6.5 an overlay has at most 90 layers",
    (Code.OVERLAY, errno.ESTALE): "the upper directory belongs to other layers",
    (
        Code.UPPER_TMPFS,
        errno.ENOMEM,
    ): "too little memory for what the container may write: set limits.disk",
    (Code.UPPER_DIR, errno.ENOSPC): "the store's file system is full: run Engine.gc()",
    (Code.LOG, errno.ENOSPC): "the store's file system is full: run Engine.gc()",
    (Code.STATE, errno.ENOSPC): "the store's file system is full: run Engine.gc()",
    (
        Code.MOUNT_FS,
        errno.EPERM,
    ): "the host forbids it; inside another container parts of /proc or /sys may be hidden",
    (Code.MOUNT_FS, errno.ENODEV): "the kernel lacks this file system",
    (Code.MOUNT_FS, errno.EINVAL): "the kernel refused an option of the mount",
    (Code.MOVE_MOUNT, errno.ENOTDIR): "one of source and target is a file, the other a directory",
    (Code.MOVE_MOUNT, errno.EINVAL): "one of source and target is a file, the other a directory",
    (Code.COPY_FD, errno.ENOSPC): "the secrets are larger than their tmpfs",
    (
        Code.RLIMIT,
        errno.EPERM,
    ): "the hard limit can not be raised without CAP_SYS_RESOURCE: ask for at most the caller's own",
    (Code.SYSCTL, errno.ENOENT): "the kernel has no such setting, or not in this namespace",
    (Code.SYSCTL, errno.EINVAL): "the kernel refused the value",
    (
        Code.SYSCTL,
        errno.EACCES,
    ): "this setting can only be read in a namespace that is not the host's",
    (Code.OOM_SCORE, errno.EACCES): "oom_score_adj can not be lowered without CAP_SYS_RESOURCE",
    (
        Code.KEYRING,
        errno.EDQUOT,
    ): "the key quota is used up: see /proc/sys/kernel/keys/root_maxkeys",
    (Code.IDS, errno.EINVAL): "the id is not mapped in the container's user namespace",
    (Code.IDS, errno.EAGAIN): "the user's process limit (ulimit nproc) is reached",
    (Code.CHDIR, errno.EACCES): "the container's user may not enter the workdir",
    (Code.CHDIR, errno.ENOENT): "the container has no such directory: make it first",
    (Code.CHDIR, errno.ENOTDIR): "the workdir is a file in the image",
    (Code.CHDIR, errno.ELOOP): "the workdir is a link of /proc, or leads to itself",
    (
        Code.EXEC,
        errno.ENOENT,
    ): "no such command in the container, or the interpreter of its first line is missing",
    (
        Code.EXEC,
        errno.ENOTDIR,
    ): "no such command in the container: a part of its path is a file",
    (
        Code.EXEC,
        errno.EACCES,
    ): "the file is not executable, is a directory, or lies on a noexec mount",
    (
        Code.EXEC,
        errno.EPERM,
    ): "the filter of system calls refuses to execute anything, or a security module does",
    (Code.EXEC, errno.ENOEXEC): "the file has no #! line, or is made for another architecture",
    (Code.EXEC, errno.ELOOP): "the command is a link that leads to itself",
    (Code.EXEC, errno.E2BIG): "command and environment are too long for the kernel",
    (Code.EXEC, errno.ETXTBSY): "something is writing the file: close it first",
}

_GENERAL: Final[dict[int, str]] = {
    errno.EMFILE: "too many open files: raise ulimit -n",
    errno.ENFILE: "too many open files on the host",
    errno.ENOMEM: "too little memory, on the host or in the control group",
    errno.ENAMETOOLONG: "a name has at most 255 bytes, a path 4,095",
    errno.ENOSPC: "no space left, or a limit of user namespaces, mounts or inotify is reached",
    errno.ENOSYS: "the kernel is too old, or a filter around this process hides the call: see Engine.probe()",
}


def hint_for(op: int, errnum: int) -> str | None:
    """Return what a reader can do about a failed step, None when nothing is known.

    Args:
        op: the step's code.
        errnum: what the kernel said.
    """
    found = _HINTS.get((op, errnum)) or _GENERAL.get(errnum)
    if found:
        return found
    target = OPS[op].section == CHILD and op in {
        Code.MOUNT_FS,
        Code.MOVE_MOUNT,
        Code.TEMPLATE,
        Code.MKDIR,
        Code.COPY_FD,
    }
    if target and errnum in {errno.EXDEV, errno.ELOOP, errno.ENOTDIR, errno.ENOENT}:
        return "the path in the image is a link or a file where a directory is needed"
    if errnum == errno.EROFS:
        return "the target lies on a read-only file system: the image must contain it"
    if errnum == errno.EPERM:
        return "the caller lacks a right; see Engine.probe()"
    return None
