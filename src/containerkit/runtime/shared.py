"""One container for several processes: who takes it, who starts it, who removes it.

Owns: ``shared/HASH``, a lock for each key, held while somebody joins or leaves.  Must not: know how
the last user is noticed (`leases`).

A shared container has a launcher of its own, which ends when its last user is gone, and the
container with it.  The user that leaves last removes what is left; after one that died, whoever
opens the root next does, or asks for the key.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING, Final

from containerkit.errors import ConfigError, Conflict, ContainerNotFound, refusals
from containerkit.runtime import begin, birth, codec, leases, marks
from containerkit.runtime.container import Container

if TYPE_CHECKING:
    from containerkit.model.options import Command, ContainerOptions
    from containerkit.runtime.keeper import Keeper
    from containerkit.runtime.starts import Startable
    from containerkit.state.lock import FileLock

_WAIT_SECONDS: Final = 60.0
"""How long one user waits for another to start the container, or to remove it."""


class Lease:
    """That this process uses a shared container, until it leaves."""

    __slots__ = ("_container", "_gate", "_keeper", "_lock")

    def __init__(self, keeper: Keeper, gate: FileLock, lock: FileLock) -> None:
        self._keeper = keeper
        self._gate = gate
        self._lock = lock
        self._container: Container | None = None

    def bind(self, container: Container) -> Container:
        """Make leaving the container's ``with`` block leave it, and closing the engine as well."""
        self._container = container
        container._undo = self.leave
        self._keeper.leases.append(self.leave)
        return container

    def leave(self) -> None:
        """Leave; the last one removes it.  Doing it twice is harmless, as is a forked child's.

        Blocking: while others join or leave; as the last, until nothing is left of it.
        """
        with self._keeper.guard:
            container, self._container = self._container, None
            if container is None or not self._lock.held:
                return
            if self.leave in self._keeper.leases:
                self._keeper.leases.remove(self.leave)
        last = False
        try:
            self._gate.acquire(deadline=time.monotonic() + _WAIT_SECONDS)
            self._lock.release()
            last = not leases.is_used(container._directory)
            if last:
                container.remove(force=True)
        finally:
            self._lock.release()
            self._gate.release(unlink=last)


def share(
    keeper: Keeper,
    key: str,
    image: Startable,
    reference: str,
    command: Command | None,
    options: ContainerOptions,
) -> Container:
    """Join the container of a key, or start it.

    Raises:
        Conflict: it is another image, command, or other options.
        ConfigError: options that have no meaning for a shared one.
        The errors of a start.

    Blocking: while another process starts it or removes it, at most 60 s.
    """
    if not key:
        raise ConfigError("the key of a shared container is empty")
    for name in ("lifetime", "restart"):
        if options.get(name) not in (None, "no"):
            raise ConfigError(
                f"a shared container can not have {name}: it lives as long as it is used"
            )
    gate = _gate(keeper, key)
    with gate.holding(deadline=time.monotonic() + _WAIT_SECONDS):
        identity = keeper.records.sharing(key)
        container = None if identity is None else Container(keeper, identity)
        if container is not None:
            if leases.is_used(container._directory):
                lease = _join(keeper, key, container, image, command, options)
                if lease is not None:
                    return Lease(keeper, _gate(keeper, key), lease).bind(container)
            container.remove(force=True)
            birth.drop_orphan(keeper, container.id)
        return _start(keeper, key, image, reference, command, options)


@refusals("share the container")
def _gate(keeper: Keeper, key: str) -> FileLock:
    from containerkit.state.lock import FileLock

    directory = keeper.root / "shared"
    directory.mkdir(mode=0o700, exist_ok=True)
    return FileLock(directory / hashlib.sha256(key.encode()).hexdigest()[:32])


def _join(
    keeper: Keeper,
    key: str,
    container: Container,
    image: Startable,
    command: Command | None,
    options: ContainerOptions,
) -> FileLock | None:
    """Become one more user of it, and start it again where it has ended under the others.

    None: the last of them has died meanwhile: what is left of it is to be removed.
    """
    lock = leases.take(container._directory)
    if lock is None:
        return None
    try:
        row = container._read_row()
        kept = birth.Kept.of(row)
        wanted = (image.digest, _plain(command), _plain(codec.without_secrets(options)))
        if wanted != (kept.digest, _plain(kept.command), _plain(kept.options)):
            raise Conflict(
                f"cannot share container {row.name} as {key!r}: it was started from another image,"
                " with another command or other options",
                hint="use another key, or the very same options",
            )
        if container.status in ("created", "stopped"):
            with begin.Operation(keeper, container.id):
                begin.begin(keeper, row)
        if container._look().is_live:
            return lock
    except ContainerNotFound:
        pass
    except BaseException:
        lock.release()
        raise
    lock.release()
    return None


def _plain(value: object) -> object:
    """Return a value as the catalog would give it back, sequences all alike."""
    found = codec.load(codec.dump(value))
    if isinstance(found, dict):
        return {name: _plain(one) for name, one in found.items()}
    return list(found) if isinstance(found, tuple) else found


def _start(
    keeper: Keeper,
    key: str,
    image: Startable,
    reference: str,
    command: Command | None,
    options: ContainerOptions,
) -> Container:
    mark = marks.owner_mark(keeper.runner.launcher()[0].id)
    container = Container(keeper, birth.new_id())
    lock = None
    try:
        born = birth.create(
            keeper,
            image,
            reference,
            command,
            options,
            identity=container.id,
            mark=mark,
            shared=key,
        )
        with begin.Operation(keeper, container.id):
            leases.make(container._directory)
            lock = leases.take(container._directory)
            if lock is None:
                raise ContainerNotFound(f"cannot share {key!r}: its container was removed")
            begin.begin(keeper, born.row, born=born)
        return Lease(keeper, _gate(keeper, key), lock).bind(container)
    except BaseException:
        if lock is not None:
            lock.release()
        container.remove(force=True)
        raise
