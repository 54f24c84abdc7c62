"""Layers for a container with ids of its own, where the kernel can not show them with other ids.

Ordinarily all containers share an image's layers, id-mapped for each (mount_setattr(2)).  Overlays
over such mounts need Linux 5.19, and a file system that allows them; a filter of system calls around us
may refuse the call.  Nobody is asked: the first start that is refused tells, and from then on the
layers are copied, with the container's ids.  An ordinary user is always refused, and always copies, by a
process that may give files to others; but not for a container that is to be nobody, and no more.

Owns: whether they are, where a copy lies, and its life:

- a kept container's, in its own directory: made by its first start, removed with it.  A link beside it
  says in which boot it was finished; a copy of another boot is not trusted, since nothing was synced;
- of a run: in a directory of this process's, for the next run with the same layers and ids; removed
  when others come, or the engine is closed.  A record in ``owners/``, as of a launcher, lets `recover`
  remove it after a crash.

Must not: know how trees are copied (`snapshots.copy` does).
Neighbours: `runner` asks for each run, `begin` and `parked` for kept containers.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from containerkit.errors import MissingFeature, refusals
from containerkit.launch.ops import F_AS_IS, Code
from containerkit.model.idmap import IdMap
from containerkit.model.rootfs import HostBind, Overlay, Rootfs
from containerkit.runtime import packets
from containerkit.runtime.idranges import noted
from containerkit.runtime.recover import AHEAD, write_record
from containerkit.state.atomic import remove_tree
from containerkit.state.root import boot_id
from containerkit.state.userns import is_within

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan
    from containerkit.model.options import ContainerOptions
    from containerkit.runtime.packets import Event
    from containerkit.state.lock import FileLock

COPY: Final = "copy"
"""In a container's directory: its own layers."""

_DONE: Final = "copied"
_ASKED: Final = "the engine's configuration asks for that"
_WITHIN: Final = "only the host's root can have files seen with other ids"
_MAPPING: Final = frozenset((Code.ID_MAP, Code.OVERLAY))
_REFUSALS: Final = frozenset((errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM))
_IDLE: Final = 8

Key = tuple[tuple[tuple[str, ...], ...], IdMap]


class MustCopy(Exception):
    """A start was refused what it needs to share layers; the next try has a copy of them."""


class Loan(NamedTuple):
    """A copy that a run may use until it is given back.

    Attributes:
        where: its directory, relative to the root.
        key: what it is a copy of.
    """

    where: str
    key: Key


class _Copy:
    """One in this process's care."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.users = 0
        self.done = False
        self.making = threading.Lock()


class Lowers:
    """Of one root in this process; usable from several threads.

    Args:
        root: the engine's root directory.
        copied: whether to copy although nothing was refused.

    Attributes:
        why: why layers are copied; None: they are not.
    """

    def __init__(self, root: Path, *, copied: bool) -> None:
        self.why = _ASKED if copied else None
        self._root = root
        self.own_nothing()

    def own_nothing(self) -> None:
        """Begin without copies: at first, and in a forked child."""
        self._guard = threading.Lock()
        self._record: FileLock | None = None
        self._name = ""
        self._count = 0
        self._known: OrderedDict[Key, _Copy] = OrderedDict()

    @property
    def reason(self) -> str:
        """Why a container's layers are a copy, where that was `wanted`."""
        return self.why or _WITHIN

    def refused(self, plan: Plan, event: Event) -> bool:
        """Learn from a start that failed; True: it is worth another try, with a copy."""
        how = next((op for op in plan.prepare if op.code == Code.ID_MAP), None)
        named = event.kind == packets.FAILED and event.code in _MAPPING
        if how is None or not named or event.errnum not in _REFUSALS:
            return False
        if how.flags & F_AS_IS or not os.path.exists("/proc/self/ns/user"):
            # It is something else that the kernel does not like.
            self.why = _ASKED if self.why == _ASKED else None
            return False
        self.why = self.why or (
            "the kernel, or the file system of the root, refuses id-mapped mounts"
            f" ({errno.errorcode[event.errnum]})"
        )
        return True

    def wanted(self, options: ContainerOptions, chosen: IdMap | None) -> IdMap | None:
        """Return the ids that a container's copy must have; None: it needs none.

        Args:
            options: of the container.
            chosen: its range, with userns="auto".
        """
        security = options.get("security")
        if security is None or security.userns == "host":
            return None
        if is_within():
            is_range = chosen is not None and chosen.uid_outside(0) is not None
            return chosen if is_range and security.userns == "auto" else None
        if self.why is None:
            return None
        return security.userns if isinstance(security.userns, IdMap) else chosen

    def keep_for(self, directory: Path, rootfs: Rootfs, options: ContainerOptions) -> None:
        """Make sure that a kept container has its copy, if it needs one; see `keep`."""
        ids = self.wanted(options, noted(directory))
        if ids is not None:
            keep(self._root, directory, rootfs, ids)

    # ---- of runs

    def take_for(
        self, rootfs: Rootfs, options: ContainerOptions, chosen: IdMap | None
    ) -> Loan | None:
        """Return the copy that a run needs, if it does; *chosen* is its range."""
        ids = self.wanted(options, chosen)
        return None if ids is None else self.take(rootfs, ids)

    def take(self, rootfs: Rootfs, ids: IdMap) -> Loan:
        """Return a copy of the layers, made if there is none; to be given back.

        Blocking: on the disk, for as long as it takes to copy an image.

        Raises:
            HostError: the disk refuses.
            MissingFeature: see `renamed`.
        """
        renamed(rootfs, COPY)
        key = _lowers(rootfs), ids
        with self._guard:
            copy = self._known.get(key)
            if copy is None:
                self._count += 1
                where = f"containers/{AHEAD}{self._held()}-{COPY}{self._count}"
                copy = self._known[key] = _Copy(where)
            copy.users += 1
            self._known.move_to_end(key)
            unwanted = self._unwanted(_IDLE)
        loan = Loan(copy.where, key)
        try:
            self._remove(unwanted)
            with copy.making:
                if not copy.done:
                    self._make(rootfs, ids, copy)
                    copy.done = True
        except BaseException:
            self.give_back(loan)
            raise
        return loan

    def _make(self, rootfs: Rootfs, ids: IdMap, copy: _Copy) -> None:
        record = self._record
        assert record is not None
        # Until who copies has ended, whoever recovers does not remove what appears meanwhile.
        _make(self._root, rootfs, ids, self._root / copy.where, fds=(record.fd,))

    def give_back(self, loan: Loan) -> None:
        """Let others have a copy, or let it go if it is not whole."""
        unwanted = []
        with self._guard:
            copy = self._known.get(loan.key)
            if copy is None or copy.where != loan.where:  # the engine was closed
                return
            copy.users -= 1
            if not copy.users and not copy.done:
                del self._known[loan.key]
                unwanted.append(copy)
        self._remove(unwanted)

    def drop_idle(self) -> None:
        """Remove those that nothing runs from just now."""
        with self._guard:
            unwanted = self._unwanted(0)
        self._remove(unwanted)

    def close(self) -> None:
        """Remove all copies; nothing runs from them any more."""
        with self._guard:
            copies, record = list(self._known.values()), self._record
            self.own_nothing()
        self._remove(copies)
        if record is not None:
            record.release(unlink=True)

    def _held(self) -> str:
        """Return the name under which this process's copies are known to be in use."""
        if self._record is None:
            self._name = os.urandom(12).hex()
            self._record = write_record(self._root, self._name, ())
        return self._name

    def _unwanted(self, most: int) -> list[_Copy]:
        idle = [key for key, copy in self._known.items() if not copy.users]
        return [self._known.pop(key) for key in idle[: max(0, len(idle) - most)]]

    def _remove(self, copies: list[_Copy]) -> None:
        for copy in copies:
            remove_tree(self._root / copy.where)


# ---- of kept containers


@refusals("copy the image's layers for the container")
def keep(root: Path, directory: Path, rootfs: Rootfs, ids: IdMap) -> None:
    """Make sure that a container's directory has its copy; whoever calls is alone with it.

    Raises:
        HostError: the disk refuses.
        MissingFeature: see `renamed`.
    """
    renamed(rootfs, COPY)
    done, copy = directory / _DONE, directory / COPY
    try:
        if os.readlink(done) == boot_id() and copy.is_dir():
            return
        done.unlink()
    except FileNotFoundError:
        pass
    _make(root, rootfs, ids, copy)
    done.symlink_to(boot_id())


# ---- root file systems


def renamed(rootfs: Rootfs, where: str) -> Rootfs:
    """Return a root file system whose layers lie in a directory of copies.

    Directories of the host stay what they are: nobody copies /usr for a command.

    Args:
        rootfs: the original.
        where: the directory, relative to the root.

    Raises:
        MissingFeature: one of its overlays mixes layers and directories of the host.
    """
    mounts: list[Overlay | HostBind] = []
    for number, mount in enumerate(rootfs.mounts):
        if isinstance(mount, Overlay) and not mount.lowers[0].startswith("/"):
            if any(lower.startswith("/") for lower in mount.lowers):
                raise MissingFeature(
                    f"cannot copy what is mounted on {mount.target} for a user namespace of its own:"
                    " it is made of layers and of directories of the host",
                    hint="Security(userns='host') does without a copy",
                    feature="userns",
                )
            mounts.append(mount._replace(lowers=(f"{where}/{number}",)))
        else:
            mounts.append(mount)
    return Rootfs(mounts)


def _lowers(rootfs: Rootfs) -> tuple[tuple[str, ...], ...]:
    """Return what is copied of each mount."""
    return tuple(
        mount.lowers if isinstance(mount, Overlay) and not mount.lowers[0].startswith("/") else ()
        for mount in rootfs.mounts
    )


def _make(
    root: Path, rootfs: Rootfs, ids: IdMap, directory: Path, *, fds: Sequence[int] = ()
) -> None:
    from containerkit.snapshots.copy import merge, merge_inside

    remove_tree(directory)  # which an earlier try left
    with refusals("copy the image's layers for the container"):
        directory.mkdir(mode=0o700)
    stacks = []
    for number, lowers in enumerate(_lowers(rootfs)):
        if lowers:
            with refusals("copy the image's layers for the container"):
                (directory / str(number)).mkdir(mode=0o700)
            stacks.append(([root / lower for lower in lowers], directory / str(number)))
    if is_within():
        merge_inside(root, stacks, ids, fds=fds)
        return
    for layers, copy in stacks:
        merge(layers, copy, ids=ids)
