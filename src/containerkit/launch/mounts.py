"""From mount values to steps: layers, binds, generated files, secrets.

Owns the slots of a plan and the order of mounts.  A source is a tree that the caller opens and
sends; the launcher attaches it and clones it for each use, so that a plan can run again.  Every
mount is nodev.  Neighbours: `compile` puts the steps of this module among the others.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError, MissingFeature
from containerkit.launch.ops import (
    F_AS_IS,
    F_CREATE,
    F_FILE,
    F_OPTIONAL,
    F_RECURSIVE,
    F_VOLATILE,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    SLOTS,
    Code,
    Op,
)
from containerkit.launch.plan import Input
from containerkit.model.rootfs import HostBind, Overlay

if TYPE_CHECKING:
    from containerkit.model.mount import Mount

SECRETS_DIR: Final = "/run/secrets"

_SECRET: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
# Whoever may replace these decides what our own writes, and the kernel's word, mean: CVE-2019-16884,
# CVE-2025-52881.  /dev is read-only; only shm in it may be given, and the host's control groups.
_RESERVED: Final = ("/proc", "/sys", "/dev")
_GIVEN: Final = ("/dev/shm", "/sys/fs/cgroup")


class Slots:
    """Hands out slots: inputs first, then whatever the steps fill."""

    def __init__(self, streams: Iterable[str]) -> None:
        self.inputs = [Input(name) for name in streams]
        self._known: dict[Input, int] = {}
        self._next = -1

    def add(self, wanted: Input) -> int:
        """Return the slot of an input, a new one unless it is there already."""
        if wanted not in self._known:
            self._known[wanted] = len(self.inputs)
            self.inputs.append(wanted)
        return self._known[wanted]

    def fill(self) -> int:
        """Return a new slot for a step to fill.  From here on no input may be added."""
        self._next = max(self._next, len(self.inputs) - 1) + 1
        if self._next >= SLOTS:
            raise ConfigError(
                f"too many mounts: a plan holds {SLOTS} descriptors",
                hint="bind a directory above several of them",
            )
        return self._next

    def sources(
        self, *, mapped: bool = False, as_is: bool = False, copied: bool = False
    ) -> list[Op]:
        """The steps that attach the sources.

        Args:
            mapped: with ids of a user namespace; those of the root file system, of which little is
                written, with their own where that is refused.
            as_is: all of them with their own, whatever namespace there is.
            copied: those of the root file system, as there is a copy of its layers.
        """
        flags = F_AS_IS if as_is or copied else F_OPTIONAL if mapped else 0
        return [
            Op(
                Code.SOURCE,
                flags=(F_AS_IS if as_is else 0) if given.recursive else flags,
                fd=(slot, -1, -1),
            )
            for slot, given in enumerate(self.inputs)
            if given.kind == "source"
        ]


def _source(path: str, *, recursive: bool) -> Input:
    return Input("source", path, recursive)


def check_mounts(mounts: Sequence[Mount] | None) -> list[Mount]:
    """Return the mounts of a request in the order they are made: parents first.

    Raises:
        ConfigError: a target that is the system's, or used twice.
        MissingFeature: a kind that this version does not have.
    """
    targets = set()
    for mount in mounts or ():
        target = mount.target
        if mount.kind not in {"bind", "tmpfs"}:
            raise MissingFeature(
                f"cannot mount {mount.source} on {target}: this version of containerkit does not"
                f" have {mount.kind} mounts yet",
                feature=f"mount {mount.kind}",
            )
        top = "/" + target.split("/", 2)[1]
        if target == "/" or (top in _RESERVED and target not in _GIVEN):
            raise ConfigError(
                f"cannot mount on {target}: it is the system's",
                hint="choose a target outside of /proc, /sys and /dev",
            )
        if target in targets:
            raise ConfigError(f"there are two mounts on {target}")
        targets.add(target)
    return sorted(mounts or (), key=lambda mount: mount.target.count("/"))


def covers(mounts: Iterable[Mount], path: str) -> bool:
    """Whether a mount of the request replaces a path, or the directory it is in."""
    return any(path == mount.target or path.startswith(mount.target + "/") for mount in mounts)


def places_of(volumes: Iterable[str], mounts: Sequence[Mount]) -> list[str]:
    """Return the volumes of an image that are to be directories: nothing of the request is there."""
    return [
        path
        for path in volumes
        if "/" + path.split("/", 2)[1] not in _RESERVED and not covers(mounts, path)
    ]


def add_inputs(
    slots: Slots,
    rootfs: Iterable[Overlay | HostBind],
    mounts: Iterable[Mount],
    secrets: Iterable[str],
) -> None:
    """Reserve a slot for everything the caller has to send."""
    for mount in rootfs:
        if isinstance(mount, HostBind):
            slots.add(_source(mount.source, recursive=False))
        else:
            for lower in mount.lowers:
                if lower.startswith("/"):
                    slots.add(_source(lower, recursive=False))
    for bind in mounts:
        if bind.kind == "bind":
            slots.add(_source(bind.source, recursive=True))
    for name in secrets:
        if not _SECRET.fullmatch(name):
            raise ConfigError(
                f"{name!r} is not a secret's name", hint="letters, digits, '_', '.' and '-'"
            )
        slots.add(Input("secret", name))


def attached(prepare: Iterable[Op]) -> list[Op]:
    """Return the steps with each source attached read-only that no mount of the container writes to.

    What reaches an attached tree by a way that it should not have finds nothing to write to.
    """
    steps = list(prepare)
    written = {
        op.fd[0] for op in steps if op.code == Code.CLONE and not op.value[0] & MOUNT_ATTR_RDONLY
    }
    for i, op in enumerate(steps):
        if op.code == Code.SOURCE and op.fd[0] not in written:
            steps[i] = Op(Code.SOURCE, flags=op.flags, fd=op.fd, value=(MOUNT_ATTR_RDONLY, 0))
    return steps


class RootSteps:
    """The steps for a root file system: prepare ones, and the slot of each of its mounts."""

    def __init__(self, slots: Slots, *, read_only: bool, volatile: bool, maker: int = 0) -> None:
        self.prepare: list[Op] = []
        self.child: list[Op] = []
        self._slots = slots
        self._maker = maker
        self._read_only = read_only
        self._flags = F_VOLATILE if volatile else 0
        self._uppers = 0

    def add(self, mount: Overlay | HostBind) -> None:
        """Add the next mount; the first is the root."""
        slot = self._bind(mount) if isinstance(mount, HostBind) else self._overlay(mount)
        if mount.target == "/":
            self.child.append(Op(Code.ROOT, fd=(slot, -1, -1), value=(self._maker, 0)))
        else:
            self.child.append(
                Op(
                    Code.MOVE_MOUNT,
                    flags=F_CREATE,
                    fd=(slot, -1, -1),
                    arena=(mount.target, None, None),
                )
            )

    def _overlay(self, mount: Overlay) -> int:
        lowers = tuple(
            f"@{self._slots.add(_source(lower, recursive=False))}"
            if lower.startswith("/")
            else lower
            for lower in mount.lowers
        )
        attrs = MOUNT_ATTR_NODEV
        # A root becomes read-only at the end, when all targets in it are made.
        if not mount.writable or (self._read_only and mount.target != "/"):
            attrs |= MOUNT_ATTR_RDONLY
        upper = None
        # The kernel refuses an overlay of one layer without an upper.
        if mount.writable or len(lowers) == 1:
            upper = str(self._uppers)
            self._uppers += 1
        slot = self._slots.fill()
        self.prepare.append(
            Op(
                Code.OVERLAY,
                flags=self._flags if upper else 0,
                fd=(slot, -1, -1),
                arena=(lowers, upper, None),
                value=(attrs, 0),
            )
        )
        return slot

    def _bind(self, mount: HostBind) -> int:
        source = self._slots.add(_source(mount.source, recursive=False))
        slot = self._slots.fill()
        attrs = MOUNT_ATTR_NODEV | (MOUNT_ATTR_RDONLY if mount.read_only else 0)
        self.prepare.append(Op(Code.CLONE, fd=(source, slot, -1), value=(attrs, 0)))
        return slot


def user_mounts(
    slots: Slots, mounts: Iterable[Mount], files: frozenset[str]
) -> tuple[list[Op], list[Op]]:
    """Return the prepare and child steps of a request's mounts.

    Args:
        slots: of the plan; sources are in it.
        mounts: in order.
        files: sources that are not directories.
    """
    prepare: list[Op] = []
    child: list[Op] = []
    for mount in mounts:
        attrs = MOUNT_ATTR_NODEV | (MOUNT_ATTR_RDONLY if mount.read_only else 0)
        where = (mount.target, None, None)
        if mount.kind == "tmpfs":
            options = [f"mode={mount.mode:04o}"]
            if mount.size_bytes is not None:
                options.append(f"size={mount.size_bytes}")
            child.append(
                Op(
                    Code.MOUNT_FS,
                    flags=F_CREATE,
                    arena=("tmpfs", mount.target, tuple(options)),
                    value=(attrs | MOUNT_ATTR_NOSUID, 0),
                )
            )
            continue
        source = slots.add(_source(mount.source, recursive=True))
        slot = slots.fill()
        prepare.append(Op(Code.CLONE, flags=F_RECURSIVE, fd=(source, slot, -1), value=(attrs, 0)))
        flags = F_CREATE | F_FILE if mount.source in files else F_CREATE
        child.append(Op(Code.MOVE_MOUNT, flags=flags, fd=(slot, -1, -1), arena=where))
    return prepare, child


def above_tmpfs(
    on_root: Sequence[tuple[Overlay | HostBind, Op]], on_own: Sequence[tuple[Mount, Op]]
) -> tuple[list[Op], list[Op]]:
    """Return the same child steps, with what an image has below a tmpfs mounted on that.

    The host image has a virtual environment that lies in /tmp, say, at the same place: a tmpfs there
    is to be empty but for that.  A bind hides it, as it hides all else.

    Args:
        on_root: the mounts of the root file system, and the step of each.
        on_own: those of the request, in order, and the step of each.
    """
    below: list[Op] = []
    above: list[list[Op]] = [[] for _ in on_own]
    for given, step in on_root:
        over = [at for at, (mount, _) in enumerate(on_own) if covers((mount,), given.target)]
        last = on_own[over[-1]][0] if over else None
        if last is not None and last.kind == "tmpfs" and last.target != given.target:
            above[over[-1]].append(step)
        else:
            below.append(step)
    return below, [
        step for (_, own), more in zip(on_own, above, strict=True) for step in (own, *more)
    ]


def generated_files(
    slots: Slots,
    files: Mapping[str, bytes | None],
    mounts: Sequence[Mount],
    *,
    read_only: bool,
) -> tuple[list[Op], list[Op]]:
    """Return the prepare and child steps of files that the engine writes, by path."""
    attrs = MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NOEXEC
    if read_only:
        attrs |= MOUNT_ATTR_RDONLY
    prepare: list[Op] = []
    child: list[Op] = []
    for path, content in files.items():
        if content is None or (mounts and covers(mounts, path)):
            continue
        slot = slots.fill()
        prepare.append(
            Op(Code.FILE, fd=(slot, -1, -1), arena=(content, None, None), value=(0o644, attrs))
        )
        child.append(
            Op(
                Code.MOVE_MOUNT,
                flags=F_CREATE | F_FILE,
                fd=(slot, -1, -1),
                arena=(path, None, None),
            )
        )
    return prepare, child


def secret_files(slots: Slots, names: Iterable[str], owner: tuple[int, int]) -> list[Op]:
    """Return the child steps that write secrets, readable by the container's user only."""
    packed = owner[0] << 32 | owner[1]
    return [
        Op(
            Code.COPY_FD,
            fd=(slots.add(Input("secret", name)), -1, -1),
            arena=(f"{SECRETS_DIR}/{name}", None, None),
            value=(0o400, packed),
        )
        for name in names
    ]
