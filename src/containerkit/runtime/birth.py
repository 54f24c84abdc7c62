"""Create a container: a directory, a row, a mark, so that a crash at any point leaves nothing.

Owns the order.  Each step alone is debris that the next `recover`, or the next who wants its name,
removes; the mark comes last, and makes a container of it:

    directory, with its lock held   a free lock without a mark: `recover` removes it
    row                             without a mark: dropped by whoever meets it (`drop_orphan`)
    mark                            from here on it is created

Removing goes the same way back (`unmake`): the mark first.
Neighbours: `containers.create` and `Engine.start` call it; `begin` starts what it made.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from containerkit.errors import AlreadyExists, ConfigError, ContainerNotFound, HostError, refusals
from containerkit.launch.request import check_given
from containerkit.runtime import codec, idranges, marks
from containerkit.runtime.names import check_name, free_name
from containerkit.runtime.records import Row
from containerkit.runtime.recover import recover
from containerkit.state import events, record
from containerkit.state.atomic import remove_tree, sync_directory
from containerkit.state.lock import FileLock

if TYPE_CHECKING:
    from containerkit.launch.plan import Plan
    from containerkit.model.idmap import IdMap
    from containerkit.model.image_config import ImageConfig
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.model.rootfs import Rootfs
    from containerkit.runtime.keeper import Keeper
    from containerkit.runtime.launcher import Launcher
    from containerkit.runtime.starts import Startable

_TRIES: Final = 50
_PAUSE: Final = 0.001


class Kept(NamedTuple):
    """What a start needs of a container, as its row has it; a `Startable`.

    Attributes:
        digest: of its image.
        config: what the image says of the process; its history is left out.
        rootfs: its files, as mounts.
        chain_ids: of the layers among them; empty for the host image.
        command: as `Engine.run` takes it.
        options: as the caller gave them, without secrets.
    """

    digest: str
    config: ImageConfig
    rootfs: Rootfs
    chain_ids: tuple[str, ...]
    command: Command | None
    options: ContainerOptions

    @property
    def _rootfs(self) -> Rootfs:
        """Its files, under the name that they have in an image: either can be started."""
        return self.rootfs

    @classmethod
    def of(cls, row: Row) -> Kept:
        """Return what a row says.

        Raises:
            ContainerNotFound: it was removed before more than its name was read.
        """
        if not row.config:
            raise ContainerNotFound(f"cannot find container {row.id[:12]}: it was removed")
        kept = codec.load_config(row.config)
        return cls(
            row.image,
            kept["image"],
            kept["rootfs"],
            kept["chain_ids"],
            kept["command"],
            kept["options"],
        )

    def dump(self) -> str:
        """Return the text for a row."""
        import attrs

        return codec.dump(
            {
                "command": self.command,
                "options": codec.without_secrets(self.options),
                "image": attrs.evolve(self.config, history=(), diff_ids=()),
                "rootfs": self.rootfs,
                "chain_ids": self.chain_ids,
            }
        )


class Born(NamedTuple):
    """A container that was just created, and what a start right after need not find out again."""

    row: Row
    kept: Kept
    plan: Plan
    launcher: Launcher


def new_id() -> str:
    """Return an id that no container has."""
    return os.urandom(32).hex()


def create(
    keeper: Keeper,
    image: Startable,
    reference: str,
    command: Command | None,
    options: ContainerOptions,
    *,
    identity: str,
    mark: str | None = None,
    shared: str | None = None,
) -> Born:
    """Create a container.

    Args:
        keeper: of the engine.
        image: what it is made from; its layers are leased by the caller.
        reference: what the image was called.
        command: as `Engine.run` takes it.
        options: as the caller gave them.
        identity: a new id.
        mark: what it hangs on at first; None: what its lifetime says.
        shared: the key of one that several processes share.

    Raises:
        AlreadyExists: the name is taken.
        ConfigError, MissingFeature: see `compile_plan`: what could never start is not created.
        HostError: the disk is full or broken.

    Atomicity: others see all of it or nothing; a killed process leaves debris for `recover`.
    """
    check_given(options)
    shape = keeper.runner.shape_of(image, options)
    with keeper.runner.ranges().for_kept(identity, shape) as ids:
        return _create(keeper, image, reference, command, options, identity, mark, shared, ids=ids)


def _create(
    keeper: Keeper,
    image: Startable,
    reference: str,
    command: Command | None,
    options: ContainerOptions,
    identity: str,
    mark: str | None,
    shared: str | None,
    *,
    ids: IdMap | None,
) -> Born:
    launcher, host = keeper.runner.launcher()
    plan = keeper.runner.compile(
        image,
        command,
        options,
        streams=(),
        ephemeral=False,
        container_id=identity,
        host=host,
        ids=ids,
    )[1]
    detached = options.get("lifetime", "owner") == "detached"
    if mark is None:
        mark = marks.DETACHED if detached else marks.owner_mark(launcher.id)
    chain_ids = tuple([str(one) for one in getattr(image, "_chain_ids", ())])
    kept = Kept(image.digest, image.config, image._rootfs, chain_ids, command, options)
    row = Row(
        id=identity,
        name=_given_name(options) or free_name(),
        image=image.digest,
        reference=reference,
        created_ns=time.time_ns(),
        lifetime="detached" if detached else "owner",
        owner=marks.owner_of(mark) or "",
        shared=shared,
        labels=codec.dump({**image.config.labels, **_labels(options)}),
        config=kept.dump(),
    )
    named = _given_name(options) is not None
    row = _make(keeper, row, chain_ids, mark, named=named, ids=ids)
    if secrets := options.get("secrets"):
        keeper.secrets[identity] = dict(secrets)
    labels = codec.load(row.labels)
    events.append(
        keeper.root, "create", identity, name=row.name, image=reference, labels=labels or None
    )
    return Born(row, kept, plan, launcher)


def _given_name(options: ContainerOptions) -> str | None:
    name = options.get("name")
    return None if name is None else check_name(name)


def _labels(options: ContainerOptions) -> Mapping[str, str]:
    return {str(name): str(value) for name, value in (options.get("labels") or {}).items()}


def _make(
    keeper: Keeper,
    row: Row,
    chain_ids: Iterable[str],
    mark: str,
    *,
    named: bool,
    ids: IdMap | None,
) -> Row:
    directory = keeper.directory(row.id)
    durable = mark == marks.DETACHED
    try:
        lock = make_directory(directory)
    except OSError as error:
        raise HostError(
            f"cannot create container {row.name}: {error.strerror}: {directory}",
            errno=error.errno,
        ) from error
    try:
        row = _insert(keeper, row, chain_ids, durable=durable, named=named)
        try:
            if ids is not None:
                keeper.runner.ranges().pass_on(ids, directory)
            marks.write(directory, mark)
            if durable:
                sync_directory(directory)
                sync_directory(directory.parent)
        except BaseException:
            keeper.records.forget([row.id])
            raise
    except BaseException as error:
        marks.drop(directory)
        remove_tree(directory)
        if isinstance(error, OSError) and not isinstance(error, HostError):
            raise HostError(
                f"cannot create container {row.name}: {error.strerror}", errno=error.errno
            ) from error
        raise
    finally:
        os.close(lock)
    return row


def make_directory(directory: Path) -> int:
    """Make a container's directory, and return its lock, held."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            os.mkdir(directory, 0o700)
        try:
            fd = os.open(directory / record.NAME, flags, 0o600)
        except FileNotFoundError:  # a recovery took it for debris
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(fd), os.stat(directory / record.NAME)):
                return fd
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        time.sleep(_PAUSE)
    raise HostError(f"cannot create {directory}: others keep removing it")


def _insert(
    keeper: Keeper, row: Row, chain_ids: Iterable[str], *, durable: bool, named: bool
) -> Row:
    """Insert the row, under another name when a made one is taken."""
    for attempt in range(_TRIES):
        try:
            keeper.records.insert(row, chain_ids, durable=durable)
        except AlreadyExists as error:
            holder: Any = getattr(error, "holder", "")
            if drop_orphan(keeper, holder):
                continue
            if named or row.shared is not None:
                raise
            row = row._replace(name=free_name(attempt + 1))
        else:
            return row
    raise AlreadyExists(f"cannot create container {row.name}: others keep taking its name")


@refusals("look at what has the name")
def drop_orphan(keeper: Keeper, identity: str) -> bool:
    """Remove the row of a container that a crash left without a mark; False: it has one.

    One that is being created has none yet, but holds its lock.  One whose owner has died is cleared
    away with all that its owner had.
    """
    directory = keeper.directory(identity)
    mark = marks.read(directory)
    state = record.read(directory)
    if mark is not None and marks.is_orphaned(directory, mark, state, keeper.has_owner):
        recover(keeper.root)
    if marks.read(directory) is not None:
        return False
    try:
        fd = os.open(directory / record.NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        fd = -1
    try:
        if fd >= 0:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if marks.read(directory) is not None:
                return False
        keeper.records.forget([identity])
    except BlockingIOError:
        return False
    finally:
        if fd >= 0:
            os.close(fd)
    return True


def rename(keeper: Keeper, identity: str, name: str) -> None:
    """Give a container another name.

    Raises:
        AlreadyExists: another one has it.
        ContainerNotFound: it was removed.
    """
    while True:
        try:
            keeper.records.rename(identity, name)
        except AlreadyExists as error:
            if not drop_orphan(keeper, str(getattr(error, "holder", ""))):
                raise
        else:
            return


def _aside(keeper: Keeper, identity: str) -> Path:
    return keeper.directory(f"gone-{identity}")


def remove_rest(keeper: Keeper, identity: str) -> None:
    """Remove what is left of a container whose removal the host refused half-way."""
    remove_tree(_aside(keeper, identity))


def unmake(keeper: Keeper, row_id: str, *, stalled: bool = False) -> bool:
    """Remove a container that nothing supervises; return whether it was this call that did.

    Every step may find that another remover, or a recovery, was there first.

    Args:
        keeper: of the engine.
        row_id: its id.
        stalled: its processes are dead, but its launcher is stopped and does not let go of it.

    Raises:
        BlockingIOError: a launcher is at work on it: on a start that was given up.
    """
    directory = keeper.directory(row_id)
    lock = FileLock(directory / record.NAME)
    try:
        # Without a directory there is nothing to lock, nor on a full disk a file to be made, nor
        # where something else is.
        answers = (FileNotFoundError, NotADirectoryError, IsADirectoryError, HostError)
        with contextlib.suppress(*answers):
            if not stalled and not lock.try_acquire():
                raise BlockingIOError(errno.EAGAIN, "supervised", str(directory))
        ids = None
        with contextlib.suppress(ConfigError):  # damaged: its claim goes at the next recovery
            ids = idranges.noted(directory)
        first = marks.drop(directory)
        aside = _aside(keeper, row_id)
        try:  # so that no start comes in between
            os.rename(directory, aside)
        except OSError:
            aside = directory
        remove_tree(aside)
        idranges.release(keeper.root, row_id, ids)
    finally:
        lock.release()
    keeper.secrets.pop(row_id, None)
    # Without a mark the row is no container: on a disk so full that it can not be removed, whoever
    # meets it later drops it.
    with contextlib.suppress(HostError):
        keeper.records.forget([row_id])
    return first
